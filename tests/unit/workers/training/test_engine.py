"""The engine on one rank."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from tests.contract.engine.cases import MODELS, decoder, strategy, workload  # noqa: E402
from trimtab.model import ModelSpec  # noqa: E402
from trimtab.strategy import PipelineSchedule, Precision, Recompute, Strategy  # noqa: E402
from workers.training.distributed import build_mesh  # noqa: E402
from workers.training.engine import Batch, Engine  # noqa: E402
from workers.training.models import build_model  # noqa: E402
from workers.training.optimizer import learning_rate  # noqa: E402
from workers.training.parallel_checks import check  # noqa: E402
from workers.training.precision import formats  # noqa: E402

pytestmark = pytest.mark.runtime
CPU = torch.device("cpu")


def sample_batch(model: ModelSpec, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.vocab_size, (8, 17), generator=generator)
    targets = ids[:, 1:].clone()
    targets[:3, 4:] = -100
    source = torch.randint(0, model.vocab_size, (8, 12), generator=generator) if len(model.stacks) == 2 else None
    return Batch(tokens=ids[:, :-1], targets=targets, source=source)


def build(model: ModelSpec, **degrees: object) -> Engine:
    precision = Precision(str(degrees.pop("precision", Precision.FP64)))
    return Engine.build(model=model, train=workload(model, precision), strategy=strategy(precision, **degrees), device=CPU)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_steps_are_those_of_plain_torch(model: ModelSpec) -> None:
    engine = build(model)
    plain = build_model(model, torch.float64, seed=7)
    spec = engine.train.optimizer
    matrices = [parameter for parameter in plain.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in plain.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    reference: torch.optim.Optimizer
    if spec.momentum:
        reference = torch.optim.SGD(groups, lr=spec.learning_rate, momentum=spec.momentum)
    else:
        reference = torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=spec.epsilon)
    for index in range(4):
        batch = sample_batch(model, index)
        logits = plain(batch.tokens, batch.source)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss.backward()
        norm = None
        if spec.clip_norm:
            norm = float(torch.nn.utils.clip_grad_norm_(plain.parameters(), spec.clip_norm))
        for group in reference.param_groups:
            group["lr"] = learning_rate(spec, index, 20)
        reference.step()
        reference.zero_grad()
        assert engine.step(batch) == pytest.approx(float(loss.detach()), rel=1e-12)
        assert engine.last is not None
        assert engine.last.num_targets == 8 * 16 - 3 * 12
        assert engine.last.gradient_norm == (pytest.approx(norm, rel=1e-12) if norm is not None else None)


def test_evaluation_changes_nothing() -> None:
    model = decoder()
    engine, untouched = build(model), build(model)
    loss, count = engine.evaluate(sample_batch(model))
    assert count == 92
    assert loss / count == pytest.approx(untouched.step(sample_batch(model)), rel=1e-12)
    assert engine.step(sample_batch(model)) == pytest.approx(loss / count, rel=1e-12)


def test_state_round_trip_through_whole_tensors() -> None:
    model = decoder()
    engine, other = build(model), build(model)
    for seed in range(3):
        engine.step(sample_batch(model, seed))
    copy = {name: tensor.clone() for name, tensor in engine.model_state().items()}
    state = {name: tensor.clone() for name, tensor in engine.optimizer_state().items()}
    assert int(state["step"]) == 3
    other.load(copy, state)
    assert other.step(sample_batch(model, 9)) == engine.step(sample_batch(model, 9))
    assert other.num_updates == 4
    with pytest.raises(KeyError, match="embedding"):
        other.load({}, state)
    with pytest.raises(ValueError, match="expected the whole tensor"):
        other.load({**copy, "embedding.weight": torch.zeros(2, 2)}, state)


def test_bad_batches_are_refused() -> None:
    model = decoder()
    engine = build(model)
    batch = sample_batch(model)
    with pytest.raises(ValueError, match="8 samples is expected on each data rank, found 3"):
        engine.step(batch.rows(0, 3))
    with pytest.raises(ValueError, match="a decoder takes none"):
        engine.step(replace(batch, source=batch.tokens))
    with pytest.raises(ValueError, match="no target"):
        engine.step(replace(batch, targets=torch.full_like(batch.targets, -100)))


@pytest.mark.parametrize("recompute", [Recompute.SELECTIVE, Recompute.FULL])
def test_recompute_saves_memory(recompute: Recompute) -> None:
    model = decoder()
    batch = sample_batch(model)
    peaks = {}
    for kind in (Recompute.NONE, recompute):
        engine = build(model, recompute=kind, micro_batch=8)
        engine.step(batch)
        assert engine.peak_tensor_bytes() == 0
        engine.measured_step(batch)
        peaks[kind] = engine.peak_tensor_bytes()
    assert peaks[recompute] < 0.9 * peaks[Recompute.NONE]


def test_peak_bytes_hold_state_and_logits() -> None:
    """Parameters, their gradients and two moments, and logits twice (softmax and its gradient), all in float64."""
    model = decoder()
    engine = build(model, micro_batch=8)
    batch = sample_batch(model)
    engine.step(batch)
    engine.measured_step(batch)
    parameters = sum(tensor.numel() for tensor in engine.model_state().values()) * 8
    logits = 8 * 16 * model.vocab_size * 8
    assert engine.peak_tensor_bytes() > 3 * parameters + 2 * logits
    assert engine.peak_tensor_bytes() < 4 * parameters + 2 * logits + 40 * 8 * 16 * 4 * 48 * 8


def test_bf16_keeps_single_precision_masters() -> None:
    engine = build(decoder(), precision=Precision.BF16)
    before = engine.step(sample_batch(decoder()))
    assert {tensor.dtype for tensor in engine.model_state().values()} == {torch.float32}
    for _ in range(5):
        after = engine.step(sample_batch(decoder()))
    assert after < before
    assert math.isfinite(after)


REFUSED = [
    ({"cp": 2}, "cp: the trainer has no context parallelism"),
    ({"ep": 2}, "ep: the trainer has no expert parallelism"),
    ({"tp": 3}, "tp: 3 does not divide num_heads 4 of the decoder"),
    ({"tp": 4}, "tp: 4 does not divide num_kv_heads 2 of the decoder"),
    ({"pp": 2, "schedule": PipelineSchedule.INTERLEAVED}, "no interleaved; allowed: 1f1b, gpipe; nearest: 1f1b"),
    ({"pp": 2, "virtual_stages": 2}, "virtual_stages: found 2; allowed: 1"),
    ({"pp": 2, "stage_layers": (4, 1)}, r"stage_layers: \[4, 1\] must be at least 1 each and add up to 4"),
    ({"pp": 5}, "stage_layers:"),
    ({"dp": 2}, "global_batch: the strategy's is 2"),
]


@pytest.mark.parametrize(("degrees", "message"), REFUSED)
def test_what_the_engine_lacks_is_said(degrees: dict[str, object], message: str) -> None:
    model = decoder()
    with pytest.raises(ValueError, match=message):
        check(model, workload(model, Precision.FP32), Strategy(**degrees))  # type: ignore[arg-type]


def test_sequence_length_must_divide() -> None:
    model = decoder()
    train = replace(workload(model, Precision.FP32), sequence_length=15, global_batch=1)
    with pytest.raises(ValueError, match="tp 2 does not divide sequence_length 15"):
        check(model, train, Strategy(tp=2, sequence_parallel=True))


def test_formats_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="has no fp8; allowed: fp64, fp32, tf32, bf16; nearest: bf16"):
        formats(Precision.FP8, CPU)
    with pytest.raises(ValueError, match="tf32 exists on NVIDIA devices only"):
        formats(Precision.TF32, CPU)


def test_the_world_must_have_the_right_size() -> None:
    with pytest.raises(ValueError, match="has 2 ranks, but 1 are running"):
        build_mesh(Strategy(dp=2), CPU)
