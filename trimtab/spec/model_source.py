"""Where a ModelSpec comes from: a preset, explicit fields, a Hugging Face ``config.json``, or a document of the tracer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimtab.errors import SpecError
from trimtab.model import (
    ActivationKind,
    AttentionSpec,
    FeedForwardSpec,
    ModelFamily,
    ModelSpec,
    NormKind,
    PositionKind,
    StackRole,
    StackSpec,
)
from trimtab.spec.fields import INVALID, Reading, nearest
from trimtab.spec.huggingface import model_from_file
from trimtab.spec.model_document import read_document
from trimtab.spec.presets import PRESETS

_EXPLICIT_REQUIRED = ("family", "layers", "hidden_size", "heads", "feed_forward_size", "vocab_size")
_SOURCES = ("preset", "config", "document")


def read_model(reading: Reading, values: Mapping[str, Any], *, base_dir: Path, default_name: str) -> ModelSpec | None:
    """The model of a job file; None after noting a problem. Only ``config`` and ``document`` read a file."""
    if INVALID in values.values():
        return None
    sources = [name for name in _SOURCES if name in values]
    explicit = [name for name in values if name not in _SOURCES and name != "name"]
    if len(sources) > 1 or (sources and explicit):
        names = ", ".join(sources + explicit)
        reading.problem("model", f"found {names}", allowed="one of: preset, config, document, or explicit fields")
        return None
    if "preset" in values:
        return _preset(reading, values["preset"])
    if "config" in values:
        return _from_config(reading, base_dir / values["config"])
    if "document" in values:
        return read_document(reading, base_dir / values["document"])
    return _explicit(reading, values, default_name)


def _preset(reading: Reading, name: str) -> ModelSpec | None:
    if name in PRESETS:
        return PRESETS[name]
    path = "model.preset" if "model.preset" in reading.marks.keys else "model"
    reading.problem(path, f"unknown preset '{name}'", allowed=", ".join(PRESETS), nearest=nearest(name, list(PRESETS)))
    return None


def _explicit(reading: Reading, values: Mapping[str, Any], default_name: str) -> ModelSpec | None:
    missing = [name for name in _EXPLICIT_REQUIRED if name not in values]
    seq2seq = values.get("family") == ModelFamily.ENCODER_DECODER
    if seq2seq and "encoder_layers" not in values:
        missing.append("encoder_layers")
    if missing:
        reading.problem("model", "missing " + ", ".join(missing), allowed="a preset, a config, or all explicit fields")
        return None
    if not seq2seq and "encoder_layers" in values:
        reading.problem("model.encoder_layers", "a decoder has no encoder", allowed="family: encoder-decoder")
        return None
    attention = _attention(reading, values)
    if attention is None:
        return None
    bias = values.get("bias", False)
    feed_forward = FeedForwardSpec(
        hidden_size=values["feed_forward_size"],
        gated=values.get("gated", True),
        activation=values.get("activation", ActivationKind.SILU),
        bias=bias,
    )
    common = {"feed_forward": feed_forward, "norm": values.get("norm", NormKind.RMS), "norm_bias": bias}
    stacks: list[StackSpec] = []
    if seq2seq:
        plain = AttentionSpec(
            num_heads=attention.num_heads,
            num_kv_heads=attention.num_kv_heads,
            head_size=attention.head_size,
            qkv_bias=bias,
            output_bias=bias,
        )
        stacks.append(
            StackSpec(role=StackRole.ENCODER, num_layers=values["encoder_layers"], attention=plain, causal=False, **common)
        )
    stacks.append(
        StackSpec(
            role=StackRole.DECODER,
            num_layers=values["layers"],
            attention=attention,
            cross_attention=seq2seq,
            **common,
        )
    )
    return ModelSpec(
        name=values.get("name", default_name),
        family=ModelFamily(values["family"]),
        hidden_size=values["hidden_size"],
        vocab_size=values["vocab_size"],
        stacks=tuple(stacks),
        position=values.get("position", PositionKind.ROTARY),
        max_positions=values.get("max_positions", 0),
        tied_embeddings=values.get("tied_embeddings", True),
    )


def _attention(reading: Reading, values: Mapping[str, Any]) -> AttentionSpec | None:
    hidden, heads = values["hidden_size"], values["heads"]
    head_size = values.get("head_size")
    if head_size is None and hidden % heads:
        divisors = [n for n in range(1, hidden + 1) if hidden % n == 0]
        close = min(divisors, key=lambda n: abs(n - heads))
        reading.problem(
            "model.heads", f"{heads} does not divide hidden_size {hidden}", allowed="a divisor, or head_size", nearest=str(close)
        )
        return None
    head_size = head_size or hidden // heads
    if values.get("position", PositionKind.ROTARY) is PositionKind.ROTARY and head_size % 2:
        reading.problem("model", f"rotary positions need an even head size, found {head_size}", nearest=str(head_size + 1))
        return None
    kv_heads = values.get("kv_heads", heads)
    if heads % kv_heads:
        divisors = [n for n in range(1, heads + 1) if heads % n == 0]
        close = min(divisors, key=lambda n: abs(n - kv_heads))
        reading.problem(
            "model.kv_heads", f"{kv_heads} does not divide heads {heads}", allowed="a divisor of heads", nearest=str(close)
        )
        return None
    bias = values.get("bias", False)
    return AttentionSpec(
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_size=head_size,
        qkv_bias=bias,
        output_bias=bias,
        window=values.get("attention_window"),
    )


def _from_config(reading: Reading, path: Path) -> ModelSpec | None:
    """The model of a ``config.json``; its problems point at the job file's line and name the config's own line."""
    try:
        return model_from_file(path)
    except SpecError as error:
        for problem in error.problems:
            where = f"{path}:{problem.line}" if problem.line is not None else str(path)
            message = f"{problem.path}: {problem.message}" if problem.path else problem.message
            reading.problem("model.config", f"{where}: {message}", allowed=problem.allowed, nearest=problem.nearest)
        return None
