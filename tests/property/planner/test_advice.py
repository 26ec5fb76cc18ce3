"""Batch advice on random jobs and devices: it never advises what is illegal or does not fit, and says the same again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.advice import AdviceQuestion, Rate, advise
from planner.advice.costs import batch_question, costs_of, lawful
from planner.devices.catalogue import device_type
from tests.support.long import in_long_form
from tests.support.planning import CPU_TYPE, GPT2_SMALL, LLAMA_8B, tiny_model, train_spec, workload
from trimtab.errors import InfeasibleError
from trimtab.ids import PoolId
from trimtab.inventory import DeviceKind, Pool, Shape
from trimtab.jobspec import Optimize, Trainer
from trimtab.plan import FitVerdict
from trimtab.strategy import Precision
from trimtab.wire import dumps

DEVICES = (CPU_TYPE, *(device_type(name) for name in ("T4", "A100-80GB", "H100", "MI300X", "TPU v5e")))


@st.composite
def questions(draw: st.DrawFn) -> AdviceQuestion:
    """A job of a small, middling or large model on 1 to 16 devices of some type."""
    device = draw(st.sampled_from(DEVICES))
    trainers = (Trainer.TRIMTAB,) if device.kind is DeviceKind.CPU else tuple(Trainer)
    num_devices = draw(st.sampled_from((1, 2, 4) if device.kind is DeviceKind.CPU else (1, 3, 4, 8, 16)))
    length = draw(st.sampled_from((64, 512, 1024)))
    train = workload(
        num_steps=draw(st.integers(1, 100_000)),
        sequence_length=length,
        global_batch=draw(st.integers(1, 300)),
        precision=draw(st.sampled_from((Precision.FP32, Precision.BF16))),
    )
    spec = replace(
        train_spec(),
        model=draw(st.sampled_from((tiny_model(), GPT2_SMALL, LLAMA_8B))),
        train=train,
        framework=draw(st.sampled_from(trainers)),
        optimize=draw(st.sampled_from(tuple(Optimize))),
    )
    per_node = min(8, num_devices)
    return AdviceQuestion(
        spec=spec,
        device_type=device,
        pool=Pool(id=PoolId("p"), device_type=device.name, devices_per_node=per_node, num_nodes=num_devices // per_node),
        num_devices=num_devices,
        rate=draw(st.sampled_from((None, Rate(usd_per_device_hour=1.0, source="test")))),
        data_samples=draw(st.one_of(st.none(), st.floats(1.0, 1e8))),
        noise_samples=draw(st.one_of(st.none(), st.floats(1.0, 1e4))),
    )


@given(question=questions())
@settings(max_examples=in_long_form(15, 600), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_advised_that_does_not_fit(question: AdviceQuestion) -> None:
    try:
        advice = advise(question)
    except InfeasibleError:
        return
    costs = costs_of(question)
    for point in (advice.recommended, *advice.trade):
        nodes = max(1, point.num_devices // question.pool.devices_per_node)
        shape = Shape(num_nodes=nodes, devices_per_node=point.num_devices // nodes)
        (peak,) = costs.peaks(shape, [point.strategy])
        assert peak.fit is point.fit is not FitVerdict.DOES_NOT_FIT
        assert lawful(batch_question(question, shape, point.global_batch), [point.strategy])
        assert point.strategy.global_batch == point.global_batch
        assert point.total_s.low <= point.total_s.value <= point.total_s.high
    if advice.recommended.fit is FitVerdict.TIGHT:
        assert "tight-memory" in {warning.kind for warning in advice.warnings}
    times = [point.total_s.value for point in advice.trade]
    assert times == sorted(times, reverse=True)
    for split in advice.splits:
        best = [row for row in split.rows if row.micro_batch == split.best_micro_batch]
        assert all(row.fit is FitVerdict.FITS for row in best)
    assert dumps(advise(question)) == dumps(advice)
