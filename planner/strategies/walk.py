"""How a space is walked: dimension by dimension, each crossed with what the rules left of the ones before.

A level sets a few columns. Its rules look at few of the columns before it, so they are judged once for each distinct combination
of those (a key), and the answer is spread over the rows that share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from planner.strategies import values
from planner.strategies.frameworks import Framework
from planner.strategies.legality import Case, Part, Rule, Setting, conjunction
from planner.strategies.question import Question, Refusal
from planner.strategies.rules import ONE_FRAMEWORK, RULES
from planner.strategies.table import PRECISIONS, BoolArray, IntArray, StrategyTable, dense

Columns: TypeAlias = dict[str, IntArray]
_NAMES = tuple(field.name for field in fields(StrategyTable))
_ZERO = ("zero_stage", "sequence_parallel", "schedule", "recompute", "offload", "precision")
_ONCE = {name: np.array([0 if name in _ZERO else 1], dtype=np.int64) for name in _NAMES}
RUNS = "_runs"
"""A column that is no dimension: which members of the framework run the row so far, one bit each."""
BATCHES = "_batches"
"""A column that is no dimension: which key of the micro-batch level the row has."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choices:
    """For each row its key; for each key where its surviving choices begin and how many they are; the choices' columns."""

    key_of_row: IntArray
    start: IntArray
    count: IntArray
    columns: Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """``count`` combinations that broke a rule, and the first of them."""

    rule: Rule
    case: Case
    count: int

    @property
    def refusal(self) -> Refusal:
        """In words."""
        sentence = self.rule.sentence(self.case)
        return Refusal(rule=self.rule.name, sentence=sentence, strategy=self.case.strategy, count=self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What of a rule is judged at a level: parts that are the same for all frameworks, and the others."""

    rule: Rule
    common: tuple[Part, ...]
    own: tuple[Part, ...]


class Walk:
    """The rows so far, and the refusals."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.members: tuple[Setting, ...] = question.setting.members()
        self.columns: Columns = {}
        self.known: frozenset[str] = frozenset()
        self.precisions: tuple[int, ...] = ()
        self._tally: dict[str, Refused] = {}

    @property
    def size(self) -> int:
        return len(self.columns[RUNS])

    def begin(self) -> bool:
        """Judge the job; False where nothing can be legal. Frameworks that do not run it are left out from here on."""
        asked = sorted(PRECISIONS.index(p) for p in self.question.precisions or (self.question.train.precision,))
        rows = {"precision": np.array(asked, dtype=np.int64), RUNS: np.full(len(asked), all_of(self.members))}
        found = self._judge(rows, _steps(frozenset({"precision"}), None), np.ones(len(asked), dtype=np.int64))
        self.precisions = tuple(code for code, runs in zip(asked, found, strict=True) if runs)
        runs = int(np.bitwise_or.reduce(found))
        self.members = tuple(member for bit, member in enumerate(self.members) if runs >> bit & 1)
        self.columns = {RUNS: np.array([all_of(self.members)])}
        return bool(self.members)

    def choose(self, names: tuple[str, ...], options: values.Values) -> Choices:
        """Cross the rows with the options that set the named columns; nothing is spread yet."""
        before = self.known
        self.known = before | set(names) | _implied(names)
        steps = _steps(self.known, before)
        reads = _needed(names).union(*(part.reads for step in steps for part in (*step.common, *step.own)))
        first, key_of_row, weight = self._keys(reads)
        num_options = len(options)
        chosen = np.array(options, dtype=np.int64).reshape(num_options, len(names)).T
        crossed = {name: np.repeat(column[first], num_options) for name, column in self.columns.items()}
        crossed |= {name: np.tile(column, len(first)) for name, column in zip(names, chosen, strict=True)}
        _derive(crossed, names, self.question)
        crossed[RUNS] = crossed[RUNS] * values.is_tried(crossed, names)
        runs = self._judge(crossed, steps, np.repeat(weight, num_options))
        kept = np.flatnonzero(runs)
        count = np.bincount(kept // max(1, num_options), minlength=len(first))
        own = {name: crossed[name][kept] for name in sorted((set(names) | _implied(names)) & set(crossed))}
        return Choices(key_of_row=key_of_row, start=np.cumsum(count) - count, count=count, columns=own | {RUNS: runs[kept]})

    def spread(self, choices: Choices) -> None:
        """Give each row its choices."""
        self.columns = spread(self.columns, choices.key_of_row, choices)

    def batches(self, options: values.Values) -> Choices:
        """The micro-batches of each row, kept beside it; rows that have none go."""
        known = self.known
        choices = self.choose(("micro_batch",), options)
        self.known = known
        self.columns[BATCHES] = choices.key_of_row
        some = choices.count[choices.key_of_row] > 0
        self.columns = {name: column[some] for name, column in self.columns.items()}
        return choices

    def keep_asked(self) -> None:
        """Leave the rows with the number of replicas that the person fixed, if any."""
        asked = self.question.request.dp
        if asked is not None:
            kept = self.columns["dp"] == asked
            self.columns = {name: column[kept] for name, column in self.columns.items()}

    def refused(self) -> tuple[Refused, ...]:
        """What was refused, in the order of the rules."""
        return tuple(self._tally[rule.name] for rule in RULES if rule.name in self._tally)

    def _framework(self) -> Framework:
        """The framework that is asked for; of a union what is left of it."""
        framework = self.question.framework
        return replace(framework, members=tuple(m.framework for m in self.members)) if framework.members else framework

    def _keys(self, reads: frozenset[str]) -> tuple[IntArray, IntArray, IntArray]:
        """The distinct combinations of the columns read: the first row of each in rising order, the number of each row's
        combination, and how many rows each has."""
        code = np.zeros(self.size, dtype=np.int64)
        read = reads | ({"dp"} if "data_ranks" in reads else set())
        for name in sorted((read & set(self.columns)) | {RUNS}):
            column = self.columns[name]
            code = dense(code * (int(column.max(initial=0)) + 1) + column)
        first = np.full(int(code.max(initial=-1)) + 1, self.size, dtype=np.int64)
        first[code[::-1]] = np.arange(self.size)[::-1]
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return first[order], rank[code], np.bincount(code, minlength=len(first))[order]

    def _judge(self, columns: Columns, steps: Sequence[_Step], weight: IntArray) -> IntArray:
        """Which members run each row, 0 where a rule refuses it; refusals are counted by ``weight``."""
        runs = columns[RUNS].copy()
        table = table_of(columns, len(runs))
        for step in steps:
            holds = conjunction(step.common, self.members[0], table)
            if len(self.members) == 1 or not step.own:
                holds &= conjunction(step.own, self.members[0], table)
                self.refuse(step.rule, (runs != 0) & ~holds, table=table, weight=weight)
                runs[~holds] = 0
                continue
            allowed = np.zeros(len(runs), dtype=np.int64)
            for bit, member in enumerate(self.members):
                allowed |= (holds & conjunction(step.own, member, table)).astype(np.int64) << bit
            # A rule that every framework breaks is named; where each passes another one, none runs the whole.
            self.refuse(step.rule, (runs != 0) & (allowed == 0), table=table, weight=weight)
            runs[allowed == 0] = 0
            self.refuse(ONE_FRAMEWORK, (runs != 0) & (runs & allowed == 0), table=table, weight=weight)
            runs &= allowed
        return runs

    def refuse(self, rule: Rule, refused: BoolArray, *, table: StrategyTable, weight: IntArray) -> None:
        """Count the rows that a rule refuses, each by its weight, and keep the first."""
        if not refused.any():
            return
        count = int(weight[refused].sum())
        known = self._tally.get(rule.name)
        if known is None:
            case = replace(self.question.case(table.strategy(int(refused.argmax()))), framework=self._framework())
            self._tally[rule.name] = Refused(rule=rule, case=case, count=count)
        else:
            self._tally[rule.name] = replace(known, count=known.count + count)


def spread(columns: Columns, key_of_row: IntArray, choices: Choices) -> Columns:
    """Each row with each of its choices, the choices of one row next to each other."""
    counts = choices.count[key_of_row]
    inner = _within(choices.start[key_of_row], counts)
    row = np.repeat(np.arange(len(counts)), counts)
    repeated = {name: column[row] for name, column in columns.items() if name not in choices.columns}
    return repeated | {name: column[inner] for name, column in choices.columns.items()}


def all_of(members: tuple[Setting, ...]) -> int:
    """The bits of all members."""
    return (1 << len(members)) - 1


@lru_cache(maxsize=64)
def _steps(known: frozenset[str], before: frozenset[str] | None) -> tuple[_Step, ...]:
    """The parts of each rule that can be judged now and could not before."""
    found = []
    for rule in RULES:
        parts = [p for p in rule.parts if p.reads <= known and (before is None or not p.reads <= before)]
        if parts and rule is not ONE_FRAMEWORK:
            common = tuple(part for part in parts if not part.by_framework)
            found.append(_Step(rule=rule, common=common, own=tuple(part for part in parts if part.by_framework)))
    return tuple(found)


def _implied(names: tuple[str, ...]) -> frozenset[str]:
    """Columns that follow from those that a level sets."""
    follows = {"pp": ("data_ranks", "dp"), "fsdp": ("dp",), "micro_batch": ("num_micro_batches",)}
    return frozenset(column for name in names for column in follows.get(name, ()))


def _needed(names: tuple[str, ...]) -> frozenset[str]:
    """Columns that those are derived from."""
    needs = {"pp": ("tp", "cp"), "fsdp": ("dp",), "micro_batch": ("dp",)}
    return frozenset(column for name in names for column in needs.get(name, ()))


def _derive(columns: Columns, names: tuple[str, ...], question: Question) -> None:
    """Fill in what follows: the data ranks from the devices (as dp, until they are shared out), micro-batches from the batch."""
    if "pp" in names:
        ranks = columns["tp"] * columns["cp"] * columns["pp"]
        columns["dp"] = np.maximum(1, question.shape.num_devices // ranks)
    if "fsdp" in names:
        columns["dp"] = np.maximum(1, columns["dp"] // columns["fsdp"])
    if "micro_batch" in names:
        per_rank = question.train.global_batch // columns["dp"]
        columns["num_micro_batches"] = np.maximum(1, per_rank // columns["micro_batch"])


def _within(start: IntArray, counts: IntArray) -> IntArray:
    """Positions start[i], start[i] + 1 ... for each i, counts[i] of them, one after the other."""
    ends = np.cumsum(counts)
    answer: IntArray = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(start - (ends - counts), counts)
    return answer


def table_of(columns: Columns, size: int) -> StrategyTable:
    """The table of the columns, those not known yet at the value that changes nothing (one value, seen from every row)."""
    return StrategyTable(
        **{name: columns[name] if name in columns else np.ndarray((size,), np.int64, _ONCE[name], 0, (0,)) for name in _NAMES}
    )
