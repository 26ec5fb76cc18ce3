"""What a rule is: predicates over a table of strategies in a setting, and a sentence for one strategy that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from planner.strategies.frameworks import Framework
from planner.strategies.table import BoolArray, StrategyTable
from trimtab.inventory import DeviceType, Shape
from trimtab.model import ModelSpec
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload


class RuleScope(StrEnum):
    """How much of a strategy a rule needs to see: job and precision, the degrees of parallelism, or micro-batches too."""

    JOB = "job"
    DEGREES = "degrees"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What strategies are judged in. ``stage_layers`` is the split that each row of the table names, empty where none does."""

    model: ModelSpec
    train: TrainWorkload
    device_type: DeviceType
    shape: Shape
    framework: Framework
    stage_layers: tuple[tuple[int, ...], ...] = ()

    def members(self) -> tuple[Setting, ...]:
        """This setting for each framework that its framework stands for: itself, but for ``any``."""
        members = self.framework.members or (self.framework,)
        return tuple(replace(self, framework=member) for member in members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One strategy on one shape of one device type, to be judged."""

    model: ModelSpec
    train: TrainWorkload
    strategy: Strategy
    device_type: DeviceType
    shape: Shape
    framework: Framework

    @property
    def setting(self) -> Setting:
        """The setting of a table that holds this strategy alone."""
        return Setting(
            model=self.model,
            train=self.train,
            device_type=self.device_type,
            shape=self.shape,
            framework=self.framework,
            stage_layers=(self.strategy.stage_layers,),
        )

    @property
    def table(self) -> StrategyTable:
        """The table of this strategy alone."""
        return StrategyTable.of((self.strategy,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One condition: ``holds`` gives a mask of shape [N] for a table of N strategies.

    ``reads`` are the columns that it looks at (``data_ranks`` stands for the product of dp and fsdp), so that an enumeration can
    apply it as soon as they are known. ``by_framework``: it looks at the setting's framework.
    """

    reads: frozenset[str]
    holds: Callable[[Setting, StrategyTable], BoolArray]
    by_framework: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A named rule: a strategy may go on where every part holds, else ``sentence`` says why not, with the numbers."""

    name: str
    scope: RuleScope
    parts: tuple[Part, ...]
    sentence_of: Callable[[Case], str]

    @property
    def by_framework(self) -> bool:
        """Whether its answer depends on the framework."""
        return any(part.by_framework for part in self.parts)

    def holds(self, setting: Setting, table: StrategyTable) -> BoolArray:
        """Where the rule holds, shape [N]; for ``any`` framework, where it holds for one of them."""
        settings = setting.members() if self.by_framework else (setting,)
        found = np.zeros(len(table), dtype=np.bool_)
        for member in settings:
            found |= conjunction(self.parts, member, table)
        return found

    def sentence(self, case: Case) -> str:
        """Why the case breaks the rule; of ``any`` framework the first one speaks."""
        if not (self.by_framework and case.framework.members):
            return self.sentence_of(case)
        broken = [
            replace(case, framework=member)
            for member in case.framework.members
            if not conjunction(self.parts, replace(case.setting, framework=member), case.table)[0]
        ]
        return f"of no framework: {self.sentence_of(broken[0])}" if broken else self.sentence_of(case)


def conjunction(parts: Iterable[Part], setting: Setting, table: StrategyTable) -> BoolArray:
    """Where all parts hold, shape [N]."""
    found = np.ones(len(table), dtype=np.bool_)
    for part in parts:
        found &= part.holds(setting, table)
    return found


def everywhere(table: StrategyTable, answer: bool) -> BoolArray:
    """The same answer for every row, shape [N]."""
    return np.full(len(table), answer, dtype=np.bool_)


def rule(
    name: str,
    scope: RuleScope,
    reads: str,
    *,
    holds: Callable[[Setting, StrategyTable], BoolArray],
    sentence: Callable[[Case], str],
    by_framework: bool = False,
) -> Rule:
    """A rule of one part that reads the columns named in ``reads``, separated by spaces."""
    part = Part(reads=frozenset(reads.split()), holds=holds, by_framework=by_framework)
    return Rule(name=name, scope=scope, parts=(part,), sentence_of=sentence)


def listed(values: Iterable[object]) -> str:
    """Values for a sentence."""
    return ", ".join(str(value) for value in values)
