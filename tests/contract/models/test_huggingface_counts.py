"""The reader of ``config.json`` counts the parameters of transformers' own classes to the last one.

Every model type: its class's default configuration, and seeded random ones, built by transformers on the meta device.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from planner.models.counts import model_parameters
from tests.support.random_configs import draw
from trimtab.spec.huggingface import RULES, Head, defaults_of, model_from_config, release

pytestmark = pytest.mark.runtime
torch = pytest.importorskip("torch", reason="torch is not installed (extra: runtime)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: its classes are the reference here")

NUM_QUICK, NUM_ALL = 3, 20
UNBUILDABLE = (
    "aya_vision",  # 14 heads for a tower of 1152
    "dots1",  # no number of experts
    "hunyuan_v1_dense", "hunyuan_v1_moe", "ministral", "nemotron",  # no number of heads
)  # fmt: skip
"""Model types of which the default configuration itself cannot be built by transformers."""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.logging.set_verbosity_error()


def true_count(class_name: str, values: dict[str, Any]) -> int:
    """Trainable parameters of the class, each counted once however often it is used."""
    config = transformers.CONFIG_MAPPING[values["model_type"]].from_dict(json.loads(json.dumps(values)))
    with torch.device("meta"):
        module = getattr(transformers, class_name)(config)
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def compare(model_type: str, seed: int) -> None:
    rng = random.Random(f"{model_type} {seed}")
    values, rule = draw(model_type, rng), RULES[model_type]
    known = list(rule.heads(model_type))
    if values.get("add_adapter"):  # transformers has adapters in no class for sequences
        known = [head for head in known if head is not Head.SEQUENCE_CLASSES]
    head = rng.choice(known) if seed % 2 else rule.all_heads[0]
    if seed % 2:
        values["architectures"] = [rule.class_of(head)]
    assert model_parameters(model_from_config(values)).total == true_count(rule.class_of(head), values), values


@pytest.mark.parametrize("model_type", sorted(set(RULES) - set(UNBUILDABLE)))
def test_the_default_configuration(model_type: str) -> None:
    rule = RULES[model_type]
    values = {"model_type": model_type}
    assert model_parameters(model_from_config(values)).total == true_count(rule.class_of(rule.all_heads[0]), values)


@pytest.mark.parametrize("model_type", sorted(RULES))
def test_random_configurations(model_type: str) -> None:
    for seed in range(NUM_QUICK):
        compare(model_type, seed)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", sorted(RULES))
def test_many_random_configurations(model_type: str) -> None:
    for seed in range(NUM_QUICK, NUM_ALL):
        compare(model_type, seed)


@pytest.mark.parametrize("model_type", sorted(set(RULES) - set(UNBUILDABLE)))
def test_a_configuration_with_all_its_keys_reads_as_the_short_one(model_type: str) -> None:
    config = transformers.CONFIG_MAPPING[model_type]()
    whole = json.loads(json.dumps(config.to_dict(), default=str))
    short = model_from_config({"model_type": model_type})
    assert model_parameters(model_from_config(whole)).total == model_parameters(short).total


def test_enough_families_are_compared() -> None:
    experts = {name for name in RULES if any(_experts(name))}
    assert len(RULES) >= 150
    assert len(experts) >= 20
    assert {"t5", "bart", "whisper", "vit", "resnet", "llava", "wav2vec2", "deepseek_v3"} <= set(RULES)


def _experts(name: str) -> list[bool]:
    if name in UNBUILDABLE:
        return [False]
    return [stack.feed_forward.experts is not None for stack in model_from_config({"model_type": name}).stacks]


def test_the_defaults_are_those_of_the_installed_release() -> None:
    if transformers.__version__ != release():
        pytest.skip(f"the defaults are those of transformers {release()}")
    from tools import write_model_defaults

    assert write_model_defaults.FILE.read_text(encoding="utf-8") == write_model_defaults.contents()
    assert defaults_of("llama").values["hidden_size"] == 4096
