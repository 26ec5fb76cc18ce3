"""Rules, stage splits and the enumeration against naive nested loops."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from planner.devices.catalogue import device_type
from planner.models.counts import head_flops, layer_flops
from planner.strategies import RULES, TRIMTAB, Case, Question, all_broken, divisors, stage_splits, strategy_space
from planner.strategies.frameworks import Framework
from planner.strategies.profiles import framework
from tests.support.planning import CPU_TYPE, H100, LLAMA_8B, tiny_model, tiny_translator, workload
from trimtab.errors import SpecError
from trimtab.inventory import DeviceType, Shape
from trimtab.jobspec import StrategyRequest
from trimtab.model import ExpertsSpec, ModelSpec, PositionKind
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute, Strategy
from trimtab.workload import TrainWorkload


def question(
    model: ModelSpec | None = None, train: TrainWorkload | None = None, *, n: int = 1, k: int = 4, **fields: object
) -> Question:
    values: dict[str, object] = {"device_type": CPU_TYPE} | fields
    return Question(
        model=model or tiny_model(),
        train=train or workload(),
        shape=Shape(num_nodes=n, devices_per_node=k),
        **values,  # type: ignore[arg-type]
    )


def case(
    strategy: Strategy,
    *,
    model: ModelSpec | None = None,
    train: TrainWorkload | None = None,
    k: int = 4,
    on: DeviceType = CPU_TYPE,
    by: Framework = TRIMTAB,
) -> Case:
    return Case(
        model=model or tiny_model(),
        train=train or workload(),
        strategy=strategy,
        device_type=on,
        shape=Shape(num_nodes=1, devices_per_node=k),
        framework=by,
    )


def moe(num_experts: int = 8, width: int = 32) -> ModelSpec:
    """The tiny model with experts in every layer."""
    stack = tiny_model().stacks[0]
    block = replace(stack.feed_forward, hidden_size=width, experts=ExpertsSpec(num_experts=num_experts, top_k=2))
    return replace(tiny_model(), stacks=(replace(stack, feed_forward=block),))


GOOD = Strategy(dp=2, tp=2, micro_batch=2, num_micro_batches=4)
BROKEN = {
    "precision-on-device": case(replace(GOOD, precision=Precision.FP8), train=workload(precision=Precision.FP8)),
    "framework-builds-model": case(
        GOOD,
        model=replace(
            tiny_model(),
            stacks=(
                replace(tiny_model().stacks[0], num_layers=2, final_norm=False),
                replace(tiny_model().stacks[0], num_layers=2),
            ),
        ),
    ),
    "source-with-encoder": case(GOOD, train=workload(source_length=8)),
    "positions-cover-sequence": case(GOOD, model=replace(tiny_model(), position=PositionKind.LEARNED, max_positions=32)),
    "rotary-needs-even-heads": case(
        GOOD,
        model=replace(
            tiny_model(),
            stacks=(replace(tiny_model().stacks[0], attention=replace(tiny_model().stacks[0].attention, head_size=15)),),
        ),
    ),
    "degrees-fill-devices": case(GOOD, k=8),
    "framework-supports": case(Strategy(fsdp=4, zero_stage=2, micro_batch=4)),
    "tensor-divides-heads": case(Strategy(tp=4, micro_batch=16)),
    "tensor-divides-feed-forward": case(
        Strategy(tp=4, micro_batch=16),
        model=replace(
            tiny_model(num_kv_heads=4),
            stacks=(
                replace(
                    tiny_model(num_kv_heads=4).stacks[0],
                    feed_forward=replace(tiny_model().stacks[0].feed_forward, hidden_size=90),
                ),
            ),
        ),
    ),
    "tensor-within-node": case(Strategy(tp=2, micro_batch=16), k=3),
    "sequence-divides": case(Strategy(dp=2, tp=2, sequence_parallel=True, micro_batch=8), train=workload(sequence_length=63)),
    "sequence-parallel-needs-tensor": case(Strategy(dp=4, sequence_parallel=True, micro_batch=4)),
    "stages-have-layers": case(Strategy(pp=4, micro_batch=4, num_micro_batches=4), model=tiny_model(num_layers=3)),
    "stage-layers-cover-model": case(Strategy(pp=4, micro_batch=4, num_micro_batches=4, stage_layers=(1, 1, 1, 2))),
    "data-ranks-have-samples": case(Strategy(dp=4, micro_batch=4), train=workload(global_batch=18)),
    "micro-batches-fill-global-batch": case(Strategy(dp=4, micro_batch=3)),
    "pipeline-has-micro-batches": case(Strategy(pp=4, micro_batch=8, num_micro_batches=2)),
    "framework-runs-on-device": case(GOOD, by=framework("megatron")),
    "devices-make-slices": case(GOOD, on=device_type("TPU-v4"), k=6, by=framework("maxtext")),
    "tensor-divides-vocabulary": case(GOOD, model=tiny_model(vocab_size=511), by=framework("maxtext")),
    "groups-fill-slices": case(Strategy(cp=8, tp=2), on=device_type("TPU-v5e"), k=8, by=framework("maxtext")),
    "context-divides-sequence": case(Strategy(cp=4, micro_batch=16), train=workload(sequence_length=68)),
    "schedule-needs-pipeline": case(replace(GOOD, schedule=PipelineSchedule.GPIPE)),
    "virtual-stages-fit-schedule": case(Strategy(pp=2, dp=2, schedule=PipelineSchedule.INTERLEAVED, micro_batch=4)),
    "virtual-stages-shorten": case(
        Strategy(pp=2, dp=2, virtual_stages=3, schedule=PipelineSchedule.INTERLEAVED), model=tiny_model(num_layers=8)
    ),
    "layers-divide-stages": case(Strategy(pp=4, micro_batch=16), model=tiny_model(num_layers=6), by=framework("maxtext")),
    "experts-divide": case(Strategy(dp=4, ep=3, micro_batch=4), model=moe()),
    "expert-tensor-divides": case(replace(GOOD, etp=4), model=moe()),
    "experts-fill-ranks": case(Strategy(dp=4, ep=8, micro_batch=4), model=moe()),
    "interleaved-fills-rounds": case(
        Strategy(pp=4, virtual_stages=2, schedule=PipelineSchedule.INTERLEAVED, num_micro_batches=6),
        train=workload(global_batch=6),
    ),
    "offload-needs-host-memory": case(replace(GOOD, offload=Offload.OPTIMIZER)),
    "one-framework-runs-all": case(
        # ZeRO-3 beside a pipeline is trimtab's, torchtitan's and MaxText's; float16 is run by the others
        Strategy(fsdp=2, zero_stage=3, pp=2, num_micro_batches=8, precision=Precision.FP16),
        on=H100,
        by=framework("any"),
    ),
}


def test_names_are_unique_and_every_rule_has_a_case() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert set(names) == set(BROKEN)


def test_a_good_case_breaks_nothing() -> None:
    assert all_broken(case(GOOD)) == ()


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_refuses_its_case_with_a_sentence(name: str) -> None:
    broken = {rule.name: rule for rule in all_broken(BROKEN[name])}
    assert name in broken
    sentence = broken[name].sentence(BROKEN[name])
    assert len(sentence) > 20
    assert "\n" not in sentence


def test_unsupported_things_are_named() -> None:
    strategies = {
        "context parallel 4": Strategy(cp=4, micro_batch=16),
        "interleaved": Strategy(pp=4, schedule=PipelineSchedule.INTERLEAVED, micro_batch=4, num_micro_batches=4),
        "ZeRO stage 1": Strategy(fsdp=4, zero_stage=1, micro_batch=4),
        "fp16": replace(GOOD, precision=Precision.FP16),
    }
    for words, strategy in strategies.items():
        made = case(strategy)
        sentences = [rule.sentence(made) for rule in all_broken(made) if rule.name == "framework-supports"]
        assert sentences
        assert words in sentences[0]


def test_unknown_framework() -> None:
    with pytest.raises(SpecError, match=r"allowed: any, composer-fsdp, .*, trimtab"):
        framework("horovod")


def naive(asked: Question) -> set[Strategy]:
    """Every strategy of the dimensions' values that breaks no rule."""
    found = set()
    num_devices, train = asked.shape.num_devices, asked.train
    degrees = product(range(1, num_devices + 1), repeat=4)
    for dp, fsdp, tp, pp in degrees:
        if dp * fsdp * tp * pp != num_devices or train.global_batch % (dp * fsdp):
            continue
        per_rank = train.global_batch // (dp * fsdp)
        splits = (
            ((),)
            if pp == 1
            else stage_splits(asked.model, pp, sequence_length=train.sequence_length, source_length=train.source_length)
        )
        for parallel, schedule, split, micro, recompute in product(
            (False, True), PipelineSchedule, splits or ((),), range(1, per_rank + 1), Recompute
        ):
            if per_rank % micro or (pp == 1 and schedule is not PipelineSchedule.ONE_F_ONE_B):
                continue
            if pp > 1 and per_rank // micro < pp:
                continue
            strategy = Strategy(
                dp=dp, fsdp=fsdp, zero_stage=3 if fsdp > 1 else 0, tp=tp, pp=pp, sequence_parallel=parallel, schedule=schedule,
                stage_layers=split, micro_batch=micro, num_micro_batches=per_rank // micro, recompute=recompute,
                precision=train.precision,
            )  # fmt: skip
            made = Case(
                model=asked.model, train=train, strategy=strategy, device_type=asked.device_type, shape=asked.shape,
                framework=asked.framework,
            )  # fmt: skip
            if not all_broken(made):
                found.add(strategy)
    return found


WORLDS = [
    (model, train, shape)
    for model, train in (
        (tiny_model(), workload()),
        (tiny_model(num_layers=5, num_kv_heads=4), workload(global_batch=12)),
        (tiny_model(num_layers=3), workload(global_batch=6, sequence_length=63)),
        (tiny_translator(), workload(source_length=16, global_batch=8)),
    )
    for shape in ((1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4))
]


@pytest.mark.parametrize(("model", "train", "shape"), WORLDS)
def test_enumeration_equals_nested_loops(model: ModelSpec, train: TrainWorkload, shape: tuple[int, int]) -> None:
    asked = question(model, train, n=shape[0], k=shape[1])
    space = strategy_space(asked)
    assert len(set(space.legal)) == len(space.legal)
    assert set(space.legal) == naive(asked)


def test_refusals_name_rules_and_count() -> None:
    space = strategy_space(question(train=workload(global_batch=16), k=3))
    assert {refusal.rule for refusal in space.refusals} <= {rule.name for rule in RULES}
    by_rule = {refusal.rule: refusal for refusal in space.refusals}
    assert by_rule["data-ranks-have-samples"].count == 2
    assert "3 data ranks must divide the global batch of 16" in by_rule["data-ranks-have-samples"].sentence


def test_a_job_rule_refuses_the_whole_space() -> None:
    space = strategy_space(question(train=workload(precision=Precision.FP8)))
    assert space.legal == ()
    assert [refusal.rule for refusal in space.refusals] == ["precision-on-device"]


@pytest.mark.parametrize(
    "asked",
    [
        StrategyRequest(tp=2),
        StrategyRequest(pp=2),
        StrategyRequest(dp=2),
        StrategyRequest(fsdp=2),
        StrategyRequest(dp=2, fsdp=2),
        StrategyRequest(micro_batch=2),
        StrategyRequest(recompute=Recompute.FULL),
        StrategyRequest(dp=1, fsdp=1, tp=2, pp=2, micro_batch=1, recompute=Recompute.NONE),
    ],
)
def test_what_the_person_fixed_is_kept_and_nothing_else_is_lost(asked: StrategyRequest) -> None:
    free = strategy_space(question()).legal
    fixed = strategy_space(question(request=asked)).legal
    names = ("dp", "fsdp", "tp", "pp", "micro_batch", "recompute")
    wanted = {n: getattr(asked, n) for n in names if getattr(asked, n) is not None}
    assert set(fixed) == {s for s in free if all(getattr(s, n) == v for n, v in wanted.items())}
    assert fixed


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        (StrategyRequest(tp=3), "degrees-fill-devices"),
        (StrategyRequest(dp=3), "degrees-fill-devices"),
        (StrategyRequest(tp=4), "tensor-divides-heads"),
        (StrategyRequest(micro_batch=5), "micro-batches-fill-global-batch"),
    ],
)
def test_an_impossible_wish_names_its_rule(asked: StrategyRequest, rule: str) -> None:
    space = strategy_space(question(request=asked))
    assert space.legal == ()
    assert rule in {refusal.rule for refusal in space.refusals}


@pytest.mark.parametrize("num_stages", [1, 2, 3, 5, 7, 16, 31, 32])
def test_splits_cover_the_model(num_stages: int) -> None:
    for split in stage_splits(LLAMA_8B, num_stages, sequence_length=4096, source_length=0):
        assert len(split) == num_stages
        assert sum(split) == 32
        assert min(split) >= 1


def test_the_balanced_split_is_never_slower_than_any_other() -> None:
    model, train = tiny_model(num_layers=7, vocab_size=4096), workload()
    lengths = {"sequence_length": train.sequence_length, "source_length": 0}
    layer = layer_flops(model, model.stacks[0], **lengths).total
    head = head_flops(model, sequence_length=train.sequence_length)
    for num_stages in (2, 3, 4):
        every = [s for s in product(range(1, 8), repeat=num_stages) if sum(s) == 7]
        slowest = {s: max([layer * n for n in s[:-1]] + [layer * s[-1] + head]) for s in every}
        best = min(slowest.values())
        assert min(slowest[s] for s in stage_splits(model, num_stages, **lengths)) == pytest.approx(best)


def test_more_stages_than_layers_have_no_split() -> None:
    assert stage_splits(tiny_model(num_layers=2), 3, sequence_length=64, source_length=0) == ()


def test_divisors() -> None:
    assert divisors(36) == (1, 2, 3, 4, 6, 9, 12, 18, 36)
    assert divisors(1) == (1,)


def test_bf16_on_a_device_that_has_it() -> None:
    assert strategy_space(question(train=workload(precision=Precision.BF16), device_type=H100, k=2)).legal
