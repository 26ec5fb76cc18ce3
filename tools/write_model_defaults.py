"""Writes ``trimtab/spec/huggingface/defaults.json`` from the configuration classes of the installed transformers.

``python tools/write_model_defaults.py`` writes the file, with ``--check`` it only says whether it is current. Only what the
reader needs is kept: sizes, flags and kinds, not rates of dropout, token ids or scales of initial weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from tools.pages import write_or_check
from trimtab.spec.huggingface.reader import RULES

FILE = Path(__file__).resolve().parents[1] / "trimtab" / "spec" / "huggingface" / "defaults.json"
_LEFT_OUT = re.compile(
    r"drop|token_id|token_index|initializer|_std$|use_cache|_idx$|mask_(?!time_prob|feature_prob|token)|loss|_weight$"
    r"|temperature|beam|output_(attentions|hidden_states|router)|jitter|summary_|suppress_tokens"
)


def contents() -> str:
    """The file's text; needs transformers."""
    transformers: Any = importlib.import_module("transformers")
    base = importlib.import_module("transformers.configuration_utils").PreTrainedConfig
    common = {field.name for field in dataclasses.fields(base)} - {"tie_word_embeddings"}
    wanted = dict.fromkeys(RULES)
    entries: dict[str, Any] = {}
    while missing := [name for name in wanted if name not in entries]:
        for name in missing:
            entries[name] = _entry(transformers.CONFIG_MAPPING[name], common)
            if name in RULES:
                classes = [RULES[name].class_of(head) for head in RULES[name].all_heads]
                entries[name]["classes"] = [known for known in classes if hasattr(transformers, known)]
            wanted.update(dict.fromkeys(child["model_type"] for child in entries[name].get("children", {}).values()))
    ordered = {"release": transformers.__version__, "model_types": dict(sorted(entries.items()))}
    lines = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in ordered["model_types"].items()]
    return f'{{"release": {json.dumps(ordered["release"])}, "model_types": {{\n' + ",\n".join(lines) + "\n}}\n"


def _entry(config: Any, common: set[str]) -> dict[str, Any]:
    values = {}
    for field in dataclasses.fields(config):
        if field.name in common or _LEFT_OUT.search(field.name):
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        default = list(default) if isinstance(default, tuple) else default
        if isinstance(default, int | float | str | bool | list | dict) or default is None:
            values[config.attribute_map.get(field.name, field.name)] = default
    entry: dict[str, Any] = {"values": values}
    if config.attribute_map:
        entry["aliases"] = {name: key for name, key in config.attribute_map.items() if not name.endswith("token_id")}
    children = {key: _child(spec) for key, spec in (config.sub_configs_defaults or {}).items()}
    if children:
        entry["children"] = children
    return entry


def _child(spec: Any) -> dict[str, Any]:
    """A nested configuration: its type, whether that is the only one, and its values where the outer one leaves it out."""
    entry: dict[str, Any] = {"model_type": spec.model_type}
    if spec.config_class.__name__ != "AutoConfig":
        entry["fixed"] = True
    values = {key: value for key, value in spec.init_kwargs.items() if isinstance(value, int | float | str | list)}
    return {**entry, "values": values} if values else entry


def main() -> int:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when the file is not current")
    return write_or_check(FILE, contents(), script=Path(__file__).name, check=parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
