"""The page of models is made from the reader's tables and is current."""

from __future__ import annotations

import re

import pytest

from tools import write_models
from trimtab.spec import PRESETS
from trimtab.spec.huggingface import RULES


def test_the_page_is_current() -> None:
    assert write_models.PAGE.read_text(encoding="utf-8") == write_models.page(), "run python tools/write_models.py"


def test_every_model_type_and_preset_has_a_row() -> None:
    text = write_models.page()
    for name in (*RULES, *PRESETS):
        assert re.search(rf"^\| `{re.escape(name)}` \|", text, re.MULTILINE), name


def test_a_further_model_type_makes_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_models, "RULES", {**RULES, "lama": RULES["llama"]})
    assert "| `lama` | `LlamaForCausalLM` |" in write_models.page()
    assert write_models.page() != write_models.PAGE.read_text(encoding="utf-8")
