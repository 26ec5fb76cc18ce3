"""What every solver behind the adapter promises, on whichever line of PuLP is installed; and what the adapter refuses."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import pytest

from planner.solve import (
    Backend,
    CbcBackend,
    HighsBackend,
    LinearModel,
    RawAnswer,
    Row,
    Sense,
    SolveLimits,
    Variable,
    check,
    solve,
)
from planner.solve.quiet import quiet_stdout
from trimtab.errors import InfeasibleError, SolverError
from trimtab.plan import SolveStatus

ROOT = Path(__file__).resolve().parents[3]


def random_model(seed: int, *, num_variables: int = 9, num_rows: int = 5) -> LinearModel:
    rng = random.Random(seed)
    rows = []
    for number in range(num_rows):
        members = sorted(rng.sample(range(num_variables), 4))
        sense = rng.choice([Sense.AT_MOST, Sense.AT_MOST, Sense.AT_LEAST, Sense.EQUAL])
        terms = tuple((index, rng.randint(1, 4)) for index in members)
        rows.append(Row(name=f"r{number}", terms=terms, sense=sense, limit=rng.randint(2, 8)))
    variables = tuple(Variable(name=f"x{index}", cost=round(rng.uniform(-5, 5), 3)) for index in range(num_variables))
    return LinearModel(name="random", variables=variables, rows=tuple(rows))


def knapsack(seed: int, size: int) -> LinearModel:
    """Strongly correlated knapsacks: a solver cannot finish a big one at once."""
    rng = random.Random(seed)
    weights = [rng.randint(1000, 9000) for _ in range(size)]
    variables = tuple(Variable(name=f"x{i}", cost=-float(w + 1000)) for i, w in enumerate(weights))
    rows = tuple(
        Row(
            name=f"k{j}",
            terms=tuple((i, w + rng.randint(-300, 300)) for i, w in enumerate(weights)),
            sense=Sense.AT_MOST,
            limit=sum(weights) // 2 + j,
        )
        for j in range(8)
    )
    return LinearModel(name="knapsack", variables=variables, rows=rows)


def feasible(model: LinearModel) -> list[frozenset[int]]:
    every = range(len(model.variables))
    sets = (frozenset(c) for size in range(len(every) + 1) for c in combinations(every, size))
    return [chosen for chosen in sets if not model.broken_rows(chosen)]


@pytest.fixture(params=[HighsBackend(), CbcBackend()], ids=["highs", "cbc"])
def backend(request: pytest.FixtureRequest) -> Backend:
    made: Backend = request.param
    if not made.available():
        pytest.skip(f"{made.name} is not present (line 4 of PuLP brings no CBC)")
    return made


def test_highs_is_present() -> None:
    assert HighsBackend().available()


@pytest.mark.parametrize("seed", range(25))
def test_optimum_equals_brute_force(backend: Backend, seed: int) -> None:
    model = random_model(seed)
    every = feasible(model)
    start = every[-1] if every and seed % 2 else None
    if not every:
        with pytest.raises(InfeasibleError):
            solve(model, time_limit_s=20, backends=[backend])
        return
    answer = solve(model, time_limit_s=20, backends=[backend], start=start)
    best = min(model.objective(chosen) for chosen in every)
    assert answer.objective == pytest.approx(best, abs=1e-9)
    assert answer.status is SolveStatus.OPTIMAL
    assert answer.bound == pytest.approx(best, abs=1e-5)
    assert answer.bound <= answer.objective
    assert not model.broken_rows(answer.chosen)


def test_time_limit_is_honoured_and_never_called_optimal(backend: Backend) -> None:
    model = knapsack(1, 120)
    answer = solve(model, time_limit_s=0.3, backends=[backend], start=frozenset())
    assert not model.broken_rows(answer.chosen)
    gap = answer.objective - answer.bound
    if gap > 1e-6 * abs(answer.objective):
        assert answer.status is SolveStatus.TIME_LIMIT
    else:
        assert answer.status is SolveStatus.OPTIMAL


def test_a_work_limit_repeats() -> None:
    model = knapsack(2, 60)
    answers = [solve(model, time_limit_s=60, backends=[HighsBackend()], num_nodes=20) for _ in range(2)]
    assert answers[0] == answers[1]


def test_a_good_start_is_never_lost(backend: Backend) -> None:
    model = knapsack(3, 100)
    good = solve(model, time_limit_s=2.0, backends=[backend], start=frozenset())
    again = solve(model, time_limit_s=0.05, backends=[backend], start=good.chosen)
    assert again.objective <= good.objective


def test_nothing_reaches_standard_output() -> None:
    program = (
        "from tests.contract.solver.test_solver import random_model, knapsack\n"
        "from planner.solve import BACKENDS, solve\n"
        "import sys\n"
        "for b in BACKENDS:\n"
        "    if b.available():\n"
        "        solve(knapsack(1, 20), time_limit_s=5, backends=[b], start=frozenset())\n"
        "print('only this')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    assert done.stdout == b"only this\n"


def test_standard_output_comes_back_after_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    def noisy() -> None:
        with quiet_stdout():
            os.write(1, b"hidden\n")
            raise RuntimeError("the body fails")

    with pytest.raises(RuntimeError):
        noisy()
    os.write(1, b"seen\n")
    assert capfd.readouterr().out == "seen\n"


class Liar:
    """A solver that answers whatever it is told to."""

    def __init__(self, *answers: RawAnswer | Exception) -> None:
        self.name = "liar"
        self._answers = list(answers)

    def available(self) -> bool:
        return True

    def solve(self, model: LinearModel, limits: SolveLimits, start: Mapping[int, float] | None) -> RawAnswer:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


MODEL = LinearModel(
    name="two",
    variables=(Variable(name="a", cost=1.0), Variable(name="b", cost=2.0)),
    rows=(Row(name="one", terms=((0, 1), (1, 1)), sense=Sense.EQUAL, limit=1),),
)


def raw(values: tuple[float, ...] | None = (1.0, 0.0), **fields: object) -> RawAnswer:
    made: dict[str, object] = {"bound": 1.0, "infeasible": False, "stopped_early": False, "solver": "liar"} | fields
    return RawAnswer(values=values, **made)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raw((math.nan, 1.0)), "nan"),
        (raw((math.inf, 0.0)), "inf"),
        (raw((0.5, 0.5)), "binary"),
        (raw((2.0, -1.0)), "binary"),
        (raw((1.0, 1.0)), "breaks one"),
        (raw((0.0, 0.0)), "breaks one"),
        (raw((1.0,)), "1 values for 2"),
        (raw(bound=math.nan), "bound"),
        (raw(bound=1.5), "above the known objective"),
        (raw(None), "no answer"),
    ],
)
def test_lies_are_refused(answer: RawAnswer, words: str) -> None:
    with pytest.raises(SolverError, match=words):
        check(MODEL, answer)
    with pytest.raises(SolverError, match="no solver gave a usable answer"):
        solve(MODEL, time_limit_s=1, backends=[Liar(answer)])
    answer_of_next = solve(MODEL, time_limit_s=5, backends=[Liar(answer), HighsBackend()])
    assert answer_of_next.chosen == frozenset({0})


def test_wrongly_optimal_is_not_repeated() -> None:
    assert check(MODEL, raw((0.0, 1.0), bound=1.0)).status is SolveStatus.FEASIBLE
    assert check(MODEL, raw((0.0, 1.0), bound=None)).status is SolveStatus.FEASIBLE
    assert check(MODEL, raw((0.0, 1.0), bound=1.0, stopped_early=True)).status is SolveStatus.TIME_LIMIT
    assert check(MODEL, raw()).status is SolveStatus.OPTIMAL


def test_infeasible_is_not_believed_against_a_known_answer() -> None:
    with pytest.raises(SolverError, match="a feasible answer is known"):
        check(MODEL, raw(None, infeasible=True), start=frozenset({0}))
    with pytest.raises(InfeasibleError):
        check(MODEL, raw(None, infeasible=True))


def test_a_bound_above_a_known_answer_is_refused() -> None:
    with pytest.raises(SolverError, match="above the known objective"):
        check(MODEL, raw((0.0, 1.0), bound=2.0), start=frozenset({0}))


def test_a_stopped_solver_without_answer_gives_the_start() -> None:
    answer = check(MODEL, raw(None, bound=0.5, stopped_early=True), start=frozenset({1}))
    assert answer.chosen == frozenset({1})
    assert answer.status is SolveStatus.TIME_LIMIT
    assert answer.bound == 0.5


def test_a_failing_solver_gives_way_to_the_next() -> None:
    answer = solve(MODEL, time_limit_s=5, backends=[Liar(SolverError("it died")), HighsBackend()])
    assert answer.objective == 1.0
