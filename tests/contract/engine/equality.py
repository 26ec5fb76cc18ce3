"""Shows that hybrid-parallel training equals training in one process: ``python -m tests.contract.engine.equality [--full]``."""

from __future__ import annotations

import argparse
import sys

from tests.contract.engine.cases import EIGHT, MATRIX, MODELS, QUICK, TOLERANCE_FRAC, strategy, workload
from tests.contract.engine.gang import Gang, Outcome, Trial
from trimtab.model import ModelSpec
from trimtab.strategy import Precision


def trial(model: ModelSpec, precision: Precision, num_steps: int, **degrees: object) -> Trial:
    """A trial of ``model`` under the strategy of these degrees."""
    return Trial(
        model=model,
        train=workload(model, precision),
        strategy=strategy(precision, **degrees),
        num_steps=num_steps,
    )


def loss_difference_frac(one: Outcome, other: Outcome) -> float:
    """Largest relative difference of any step's loss, or of the evaluation's."""
    assert len(one.losses) == len(other.losses)
    assert one.evaluation[1] == other.evaluation[1]
    pairs = [*zip(one.losses, other.losses, strict=True), (one.evaluation[0], other.evaluation[0])]
    return max(abs(left - right) / abs(left) for left, right in pairs)


def norm_difference_frac(one: Outcome, other: Outcome) -> float:
    """Largest relative difference of any step's gradient norm (0 where nothing is clipped)."""
    pairs = zip(one.norms, other.norms, strict=True)
    return max(abs(left - right) / abs(left) if left else abs(right) for left, right in pairs)


def main() -> int:
    """Print a table; 1 where any strategy differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="all strategies on up to eight ranks, not the short list")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", default="", help="run strategies whose name contains this")
    parser.add_argument("--model", choices=MODELS, help="only this model")
    arguments = parser.parse_args()
    cases = {**MATRIX, **EIGHT} if arguments.full or arguments.only else QUICK
    worst = 0
    with Gang() as gang:
        for model in [MODELS[arguments.model]] if arguments.model else MODELS.values():
            for precision, tolerance in TOLERANCE_FRAC.items():
                alone = gang.run(trial(model, precision, arguments.steps))
                for name, degrees in cases.items():
                    if arguments.only not in name:
                        continue
                    outcome = gang.run(trial(model, precision, arguments.steps, **degrees))
                    difference = loss_difference_frac(alone, outcome)
                    norms = norm_difference_frac(alone, outcome)
                    equal = difference <= tolerance and norms <= 100 * tolerance
                    worst |= not equal
                    print(
                        f"{model.name:16} {precision} {name:42} {difference:9.2e} {'equal' if equal else 'DIFFERS'}",
                        flush=True,
                    )
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
