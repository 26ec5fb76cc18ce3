"""Small files of published measurements."""

from __future__ import annotations

import copy
from typing import Any

from benchmarks._point_types import Points, Row
from benchmarks._points import points_of
from trimtab.errors import Problem

MODELS: dict[str, dict[str, Any]] = {
    "small": {
        "type": "dense",
        "layers": 4,
        "hidden": 1024,
        "heads": 8,
        "kv_heads": 2,
        "head_dim": 128,
        "ffn_hidden": 4096,
        "vocab": 32000,
        "act": "swiglu",
        "tied_embeddings": False,
    },
    "experts": {
        "type": "moe",
        "layers": 4,
        "hidden": 1024,
        "heads": 8,
        "kv_heads": 2,
        "head_dim": 128,
        "ffn_hidden": 4096,
        "vocab": 32000,
        "act": "swiglu",
        "tied_embeddings": False,
        "experts": 8,
        "topk": 2,
        "moe_ffn_hidden": 2048,
        "shared_experts": 0,
        "first_dense_layers": 1,
    },
}
ROW: dict[str, Any] = {
    "model": "small",
    "hardware": "card",
    "devices": 8,
    "devices_per_node": 8,
    "seq_len": 2048,
    "tp": 1,
    "pp": 1,
    "dp": 8,
    "cp": 1,
    "ep": 1,
    "vpp": None,
    "micro_batch": 1,
    "global_batch": 64,
    "precision": "bf16",
    "recompute": "full",
    "zero": 1,
    "framework": "megatron-lm",
    "tag": "tuned",
    "source": "s1",
}


def document(*rows: dict[str, Any], memory_points: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A file with one row for each of ``rows``: ``ROW`` with those fields, and an id of its own."""
    points = [{"id": f"row-{index}", **ROW, **fields} for index, fields in enumerate(rows)]
    return {
        "hardware": {
            "card": {"vendor": "nvidia", "bf16_tflops": 300, "hbm_gb": 80, "devices_per_node": 8},
            "chip": {"vendor": "google", "bf16_tflops": 200, "hbm_gb": 16, "devices_per_node": 4},
        },
        "models": copy.deepcopy(MODELS),
        "sources": {"s1": "lab/one table 1", "s2": "lab/two table 2"},
        "points": points,
        "memory_points": memory_points or [],
    }


def points(*rows: dict[str, Any], memory_points: list[dict[str, Any]] | None = None) -> Points:
    """The same, read."""
    problems: list[Problem] = []
    found = points_of(document(*rows, memory_points=memory_points), problems)
    assert problems == []
    return found


def row(**fields: Any) -> Row:
    """One row."""
    return points(fields).rows[0]
