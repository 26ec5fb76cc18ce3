"""Presets: the models that people know, as large as they were published."""

from __future__ import annotations

import pytest

from planner.models.counts import model_parameters
from trimtab.spec import PRESETS
from trimtab.spec.published import PUBLISHED

TOTALS = {
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-2-7b": 6_738_415_616,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "deepseek-v3": 671_026_404_352,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "gemma-2-9b": 9_241_705_984,
    "phi-3-mini": 3_821_079_552,
    "bert-base": 109_514_298,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "vit-b-16": 86_567_656,
    "vit-l-16": 304_326_632,
    "clip-vit-b-32": 151_277_313,
    "clip-vit-l-14": 427_616_513,
    "whisper-small": 241_734_912 - 1500 * 768,
    "whisper-large-v3": 1_543_490_560 - 1500 * 1280,
    "wav2vec2-base": 94_396_320,
    "resnet-18": 11_689_512,
    "resnet-34": 21_797_672,
    "resnet-50": 25_557_032,
    "resnet-101": 44_549_160,
    "resnet-152": 60_192_808,
    "convnext-tiny": 28_589_128,
    "convnext-base": 88_591_464,
    "mobilenet-v2": 3_504_872,
}
"""Trainable parameters as model cards and torchvision's documentation print them (of DeepSeek-V3 without the correction of its
router, which trains by another rule, and of Whisper without the fixed positions of its encoder)."""


@pytest.mark.parametrize("name", TOTALS)
def test_published_totals(name: str) -> None:
    assert model_parameters(PRESETS[name]).total == TOTALS[name]


def test_every_preset_is_read_and_bears_its_name() -> None:
    assert len(PRESETS) == len(list(PRESETS)) == len(set(PRESETS))
    for name, spec in PRESETS.items():
        assert spec.name == name
        assert model_parameters(spec).total > 0


def test_what_was_published_is_named() -> None:
    for name, published in PUBLISHED.items():
        assert published.source, name


def test_an_unknown_name_is_missing() -> None:
    assert "gpt-5" not in PRESETS
    with pytest.raises(KeyError):
        PRESETS["gpt-5"]
