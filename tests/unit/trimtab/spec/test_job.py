"""The job file: what a good one becomes, and what each bad one is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scheduler.entrypoints.documents import load_job, read_text
from tools.write_schemas import SCHEMAS, job_file_page
from trimtab import wire
from trimtab.errors import NotFoundError, SpecError
from trimtab.jobspec import JobKind, JobSpec, Optimize, Trainer
from trimtab.model import ModelFamily, PositionKind, StackRole
from trimtab.spec import PRESETS, parse_job
from trimtab.strategy import Precision

ROOT = Path(__file__).resolve().parents[4]
GOOD = """\
kind: train
name: small
model:
  family: decoder
  layers: 4
  hidden_size: 64
  heads: 4
  feed_forward_size: 128
  vocab_size: 512
data: {kind: stdlib}
workload:
  tokens: 10k
  sequence_length: 32
  global_batch: 8
"""
COMMAND = """\
kind: command
name: mine
command:
  argv: [python, train.py, --lr, "0.1"]
devices: 1..4
"""


def parse(text: str, base_dir: Path = ROOT) -> JobSpec:
    tree, marks = read_text(text, source="job.yaml")
    return parse_job(tree, marks, base_dir=base_dir, source="job.yaml")


def complaint(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse(text)
    return str(caught.value)


def test_a_training_job() -> None:
    spec = parse(GOOD)
    assert spec.kind is JobKind.TRAIN
    assert spec.model is not None
    assert spec.train is not None
    assert spec.train.num_steps == 40  # 10,000 tokens / (8 x 32), rounded up
    assert spec.model.max_positions == 32
    assert spec.model.stack(StackRole.DECODER).attention.head_size == 16
    assert spec.devices.min_devices == 1
    assert spec.devices.max_devices is None
    assert wire.loads(JobSpec, wire.dumps(spec)) == spec


def test_another_trainer_may_read_its_own_data() -> None:
    text = GOOD.replace("data: {kind: stdlib}", "data: {kind: external}")
    assert parse(text + "framework: megatron\n").framework is Trainer.MEGATRON
    assert "reads no external data" in complaint(text)
    assert "did you mean 'megatron'" in complaint(GOOD + "framework: megatorn\n")
    assert parse(GOOD).framework is Trainer.TRIMTAB


def test_a_command_job() -> None:
    spec = parse(COMMAND)
    assert spec.kind is JobKind.COMMAND
    assert spec.command is not None
    assert spec.command.argv == ("python", "train.py", "--lr", "0.1")
    assert spec.command.working_dir == str(ROOT)
    assert (spec.devices.min_devices, spec.devices.max_devices) == (1, 4)


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/job.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_are_good(path: Path) -> None:
    assert load_job(path).name


def test_an_encoder_decoder_has_two_stacks() -> None:
    spec = load_job(ROOT / "examples" / "translation" / "job.yaml")
    assert spec.model is not None
    assert spec.model.family is ModelFamily.ENCODER_DECODER
    assert spec.model.stack(StackRole.DECODER).cross_attention
    assert not spec.model.stack(StackRole.ENCODER).causal


def test_a_preset_and_its_shorthand() -> None:
    text = GOOD[: GOOD.index("model:")] + "model: llama-3-8b\n" + GOOD[GOOD.index("data:") :]
    assert parse(text).model == PRESETS["llama-3-8b"]
    assert "did you mean 'llama-3-8b'" in complaint(text.replace("llama-3-8b", "llama-3-8bb"))


def test_all_settings_arrive() -> None:
    extra = """\
  precision: bf16
  optimizer: {name: sgd, momentum: 0.9, learning_rate: 1e-2}
devices: {count: 2, types: [H100-SXM]}
market: spot
strategy: {tp: 2}
limits: {max_cost: $900, max_hours: 48, max_hourly: 45}
optimize: deadline
deadline: 2d
checkpoint: {every: 5m, keep: 3}
retry: {max_failures: 1, backoff: 1s}
priority: -5
grace: 1m
labels: {team: research}
"""
    spec = parse(GOOD + extra)
    assert spec.train is not None
    assert spec.train.precision is Precision.BF16
    assert spec.train.optimizer.momentum == 0.9
    assert spec.train.optimizer.learning_rate == 0.01
    assert spec.devices.types == ("H100-SXM",)
    assert [str(market) for market in spec.devices.markets] == ["spot"]
    assert spec.strategy.tp == 2
    assert (spec.limits.max_cost_usd, spec.limits.max_usd_per_hour) == (900, 45)
    assert (spec.optimize, spec.deadline_hours) == (Optimize.DEADLINE, 48)
    assert (spec.checkpoint.every_s, spec.checkpoint.keep) == (300, 3)
    assert (spec.retry.max_failures, spec.retry.backoff_s) == (1, 1)
    assert (spec.priority, spec.grace_s, spec.labels) == (-5, 60, {"team": "research"})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kind: train", "kind: trian", ["job.yaml:1:7: kind: found 'trian'", "allowed: train, command", "mean 'train'"]),
        ("name: small", "name: Small", ["job.yaml:2:7", "lower-case letters"]),
        ("  layers: 4", "  layers: 0", ["job.yaml:5:11: model.layers: found 0", "at least 1", "did you mean 1?"]),
        ("  layers: 4", "  layres: 4", ["job.yaml:5:3: model.layres: unknown key", "did you mean 'layers'?"]),
        ("  layers: 4\n", "", ["model: missing layers"]),
        ("heads: 4", "heads: 5", ["job.yaml:7:10: model.heads: 5 does not divide hidden_size 64", "did you mean 4?"]),
        ("heads: 4", "heads: 64", ["rotary positions need an even head size"]),
        ("  heads: 4", "  heads: 4\n  kv_heads: 3", ["job.yaml:8:13", "3 does not divide heads 4"]),
        ("tokens: 10k", "tokens: 10q", ["job.yaml:12:11: workload.tokens: found '10q'", "15B"]),
        ("  tokens: 10k\n", "", ["workload: found none of them", "exactly one of steps, tokens, samples"]),
        ("tokens: 10k", "tokens: 10k\n  steps: 4", ["workload: found steps, tokens"]),
        ("global_batch: 8", "global_batch: 1.5", ["job.yaml:14:17: workload.global_batch: found 1.5", "whole number"]),
        ("data: {kind: stdlib}", "data: {kind: text}", ["kind text needs paths"]),
        ("data: {kind: stdlib}", "data: {kind: text, paths: nowhere}", ["data.paths[0]", "does not exist"]),
        ("data: {kind: stdlib}", "data: {kind: translation}", ["translation does not fit a model of family decoder"]),
        ("data: {kind: stdlib}", "data: {kind: stdlib, held_out: 100%}", ["data.held_out", "less than 1"]),
        ("data: {kind: stdlib}", "data:", ["job.yaml:10:", "data: found nothing", "a mapping"]),
        ("sequence_length: 32", "source_length: 32\n  sequence_length: 32", ["a decoder has no source_length"]),
        ("data: {kind: stdlib}", "checkpoint: {every: 30}\ndata: {kind: stdlib}", ["checkpoint.every: found 30", "30m"]),
        ("data: {kind: stdlib}", "devices: 3..1\ndata: {kind: stdlib}", ["devices: found '3..1'", "lower end first"]),
        ("data: {kind: stdlib}", "optimize: deadline\ndata: {kind: stdlib}", ["without a deadline"]),
        ("data: {kind: stdlib}", "command: {argv: [a]}\ndata: {kind: stdlib}", ["a job of kind train has no command"]),
        ("name: small", "name: small\nname: other", ["job.yaml:3:1: name: the key stands twice (first on line 2)"]),
    ],
)
def test_bad_files_say_where_what_and_what_instead(old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    said = complaint(GOOD.replace(old, new, 1))
    for part in expected:
        assert part in said


def test_all_problems_are_reported_at_once() -> None:
    said = complaint(GOOD.replace("layers: 4", "layers: 0").replace("tokens: 10k", "tokens: 10q"))
    assert "model.layers" in said
    assert "workload.tokens" in said


def test_adamw_settings_do_not_pass_as_sgd_ones() -> None:
    said = complaint(GOOD + "  optimizer: {name: sgd, beta1: 0.5}\n")
    assert "workload.optimizer.beta1: sgd has no beta1" in said


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "kind: [", "a: &x {b: 1}\n<<: *x\n", "3"])
def test_documents_that_are_no_job(text: str) -> None:
    assert complaint(text)


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        load_job(tmp_path / "job.yaml")


def test_a_huge_document_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("a" * 300_000)
    with pytest.raises(SpecError, match="larger than 256 KiB"):
        load_job(path)


def test_aliases_cannot_blow_a_document_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "more than" in complaint("\n".join(lines))


LLAMA_CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 512,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}


def with_config(tmp_path: Path, config: object) -> JobSpec:
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = GOOD[: GOOD.index("model:")] + "model: {config: config.json}\n" + GOOD[GOOD.index("data:") :]
    return parse(text, tmp_path)


def test_a_hugging_face_config(tmp_path: Path) -> None:
    model = with_config(tmp_path, LLAMA_CONFIG).model
    assert model is not None
    assert model.stacks[0].attention.num_kv_heads == 2
    assert not model.tied_embeddings
    assert model.position is PositionKind.ROTARY


def test_keys_left_out_of_a_config_have_the_defaults_of_its_class(tmp_path: Path) -> None:
    model = with_config(tmp_path, {key: value for key, value in LLAMA_CONFIG.items() if key != "intermediate_size"}).model
    assert model is not None
    assert model.stacks[0].feed_forward.hidden_size == 11_008


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({**LLAMA_CONFIG, "model_type": "lama"}, "model_type: 'lama' is not known.*did you mean 'llama'"),
        ({**LLAMA_CONFIG, "hidden_size": None}, "hidden_size: found None"),
        ({**LLAMA_CONFIG, "num_key_value_heads": 3}, "num_key_value_heads: 3 does not divide num_attention_heads 4"),
        ([1], "holds a list, no object"),
    ],
)
def test_bad_configs(tmp_path: Path, config: object, expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        with_config(tmp_path, config)


@pytest.mark.parametrize(("name", "schema"), list(SCHEMAS.items()))
def test_the_published_schema_is_the_one_that_is_checked(name: str, schema: dict[str, object]) -> None:
    published = json.loads((ROOT / "docs" / "schema" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert published == schema, "run: .venv/bin/python tools/write_schemas.py"


def test_the_page_of_keys_is_the_schema() -> None:
    page = (ROOT / "docs" / "job-file.md").read_text(encoding="utf-8")
    assert page == job_file_page(), "run: .venv/bin/python tools/write_schemas.py"
