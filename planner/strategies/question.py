"""What an enumeration of strategies is asked, and what it says of those that it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from planner.strategies.frameworks import TRIMTAB, Framework
from planner.strategies.legality import Case, Setting
from trimtab.inventory import DeviceType, Shape
from trimtab.jobspec import StrategyRequest
from trimtab.model import ModelSpec
from trimtab.strategy import Offload, Precision, Strategy
from trimtab.workload import TrainWorkload

_ANYTHING = StrategyRequest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: a model and workload on one shape of a device type, with what the person fixed.

    ``precisions`` are those that the person allows, empty: the one of the workload; ``offloads`` likewise, empty: every one
    that the framework has. Only ``enumerate_grid`` looks at these two.
    """

    model: ModelSpec
    train: TrainWorkload
    device_type: DeviceType
    shape: Shape
    request: StrategyRequest = _ANYTHING
    framework: Framework = TRIMTAB
    precisions: tuple[Precision, ...] = ()
    offloads: tuple[Offload, ...] = ()

    @property
    def setting(self) -> Setting:
        """What its strategies are judged in."""
        return Setting(
            model=self.model,
            train=self.train,
            device_type=self.device_type,
            shape=self.shape,
            framework=self.framework,
        )

    def case(self, strategy: Strategy) -> Case:
        """One of its strategies, to be judged."""
        return Case(
            model=self.model,
            train=self.train,
            strategy=strategy,
            device_type=self.device_type,
            shape=self.shape,
            framework=self.framework,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """``count`` strategies that broke one rule, with the first of them and its sentence."""

    rule: str
    sentence: str
    strategy: Strategy | None
    count: int


def divisors(number: int) -> tuple[int, ...]:
    """All divisors in rising order."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return tuple(sorted({*small, *(number // d for d in small)}))
