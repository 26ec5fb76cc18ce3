"""Rules of the job alone: model, workload, precision, device type and framework."""

from __future__ import annotations

import math

from planner.strategies.frameworks import Framework
from planner.strategies.legality import Case, Rule, RuleScope, Setting, everywhere, listed, rule
from planner.strategies.support import among
from planner.strategies.table import PRECISIONS, BoolArray, StrategyTable
from trimtab.inventory import DeviceType, Shape
from trimtab.model import ModelFamily, ModelSpec, PositionKind
from trimtab.strategy import Precision
from trimtab.workload import TrainWorkload

_EVERYWHERE = (Precision.FP32, Precision.FP64)


def slice_size(device_type: DeviceType, num_devices: int) -> int:
    """Devices of one slice where that many devices of a torus are used: all, or the largest legal slice that divides them.

    0 where no legal slice does. More slices than one are joined by the data-centre network.
    """
    torus = device_type.torus
    assert torus is not None, "only a torus has slices"
    sizes = {math.prod(shape) for shape in torus.slices}
    if torus.in_cubes:
        cube = int(torus.ring_length ** len(torus.axes))
        largest = torus.num_devices // cube
        whole = num_devices // cube if num_devices % cube == 0 else 0
        sizes |= {cube * count for count in range(1, min(largest, whole) + 1) if whole % count == 0}
    return max((size for size in sizes if num_devices % size == 0), default=0)


def has_slices(device_type: DeviceType, framework: Framework) -> bool:
    """Whether groups are laid out over slices of a torus, not over nodes."""
    return device_type.torus is not None and framework.tensor_over_domain


def _precision_on_device(setting: Setting, table: StrategyTable) -> BoolArray:
    allowed = [p for p in PRECISIONS if p in _EVERYWHERE or str(p) in setting.device_type.peak_flops]
    return among(table.precision, allowed, PRECISIONS)


def _has_source(model: ModelSpec, train: TrainWorkload) -> bool:
    return (model.family is ModelFamily.ENCODER_DECODER) == (train.source_length > 0)


def longest(train: TrainWorkload) -> int:
    """Tokens of the longest sequence."""
    return max(train.sequence_length, train.source_length)


def _odd_heads(model: ModelSpec) -> tuple[int, ...]:
    return tuple(stack.attention.head_size for stack in model.stacks if stack.attention.head_size % 2)


def _sliced(setting: Setting, shape: Shape) -> bool:
    return not has_slices(setting.device_type, setting.framework) or slice_size(setting.device_type, shape.num_devices) > 0


def _slices(case: Case) -> str:
    torus = case.device_type.torus
    assert torus is not None, "only a torus has slices"
    shapes = listed("x".join(str(length) for length in shape) for shape in torus.slices)
    return f"{shapes}" + (f", and cubes of {torus.ring_length}" if torus.in_cubes else "")


JOB_RULES: tuple[Rule, ...] = (
    rule(
        "precision-on-device",
        RuleScope.JOB,
        "precision",
        holds=_precision_on_device,
        sentence=lambda c: (
            f"{c.device_type.name} computes {', '.join(sorted(c.device_type.peak_flops))}, not {c.strategy.precision}"
        ),
    ),
    rule(
        "framework-builds-model",
        RuleScope.JOB,
        "",
        holds=lambda s, t: everywhere(t, not s.framework.beyond(s.model)),
        sentence=lambda c: f"the {c.framework.name} trainer does not build {', nor '.join(c.framework.beyond(c.model))}",
        by_framework=True,
    ),
    rule(
        "framework-runs-on-device",
        RuleScope.JOB,
        "",
        holds=lambda s, t: everywhere(t, s.device_type.kind in s.framework.device_kinds),
        sentence=lambda c: (
            f"the {c.framework.name} trainer runs on {listed(c.framework.device_kinds)}, {c.device_type.name} is a "
            f"{c.device_type.kind}"
        ),
        by_framework=True,
    ),
    rule(
        "source-with-encoder",
        RuleScope.JOB,
        "",
        holds=lambda s, t: everywhere(t, _has_source(s.model, s.train)),
        sentence=lambda c: (
            f"a model of family {c.model.family} with a source of {c.train.source_length} tokens: "
            "an encoder-decoder needs a source, a decoder has none"
        ),
    ),
    rule(
        "positions-cover-sequence",
        RuleScope.JOB,
        "",
        holds=lambda s, t: everywhere(
            t, s.model.position is not PositionKind.LEARNED or longest(s.train) <= s.model.max_positions
        ),
        sentence=lambda c: f"sequences of {longest(c.train)} tokens, but the model has {c.model.max_positions} learned positions",
    ),
    rule(
        "rotary-needs-even-heads",
        RuleScope.JOB,
        "",
        holds=lambda s, t: everywhere(t, s.model.position is not PositionKind.ROTARY or not _odd_heads(s.model)),
        sentence=lambda c: f"rotary positions turn pairs, and the heads have {_odd_heads(c.model)[0]} elements",
    ),
    rule(
        "devices-make-slices",
        RuleScope.JOB,
        "",
        holds=lambda s, t: everywhere(t, _sliced(s, s.shape)),
        sentence=lambda c: f"{c.shape.num_devices} devices are no whole number of slices of {c.device_type.name} ({_slices(c)})",
        by_framework=True,
    ),
)
