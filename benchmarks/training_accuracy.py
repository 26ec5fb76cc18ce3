"""Predicted against published: step time, memory and ranking of training runs that others measured.

Every row of the file is predicted from what a planner may see of it (``RowInput``: no id, source, notes, date, model name, and no
measured figure), raw and calibrated. A calibration group is (publisher, hardware, framework). *Calibrated*: one multiplier per
group, the median of measured over predicted of 3 rows, over 20 seeds; the drawn rows are not scored. They come from
``--calibrate-on``, else from groups of 6 rows or more of the same file. *One row*: with 1 row, groups of 3 or more. *Raw*: none.
The error of a row is |predicted / measured - 1|. Suspect rows are left out.

Figures: ``CLASS_mean_frac`` (calibrated; every row of a group that can be), ``CLASS_group_mean_frac`` (mean over groups),
``CLASS_raw_*`` (every row of the class, no multiplier), ``CLASS_rows_count``. Classes: ``dense`` and ``moe`` (GPU and TPU rows of
known recompute), ``*_unknown_recompute`` (the predictor's own choice), ``tpu`` (those of TPUs, which count in ``dense`` and
``moe`` too), ``mixed`` (several device types, whatever they recompute; they count nowhere else). ``one_row_*`` are dense rows,
``one_row_all_*`` all. ``interval*`` are over all rows, calibrated where the group can be, else raw. ``from_flops_*``: rows that
print only FLOP/s, turned into a step by the formula of their convention; they count in no other figure. ``noise_floor_*``: rows
with equal inputs and different measurements. ``competitor_*``: other systems' own predictions of the same rows. ``rows_count``:
rows that are predicted, for their step or their memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks import _constant_share, _row_predictor  # noqa: E402
from benchmarks._accuracy_evaluation import Predictor, evaluate  # noqa: E402
from benchmarks._accuracy_tables import details, page  # noqa: E402
from benchmarks._figures import write_figures  # noqa: E402
from benchmarks._points import TRAINING_POINTS, read_points  # noqa: E402
from trimtab.errors import SpecError  # noqa: E402

GOALS = {
    "dense_mean_frac": "at most 0.07",
    "dense_median_frac": "at most 0.05",
    "one_row_mean_frac": "at most 0.09",
    "moe_mean_frac": "at most 0.12",
    "moe_unknown_recompute_mean_frac": "at most 0.18",
    "tpu_mean_frac": "at most 0.09",
    "tpu_raw_mean_frac": "at most 0.12",
    "mixed_raw_mean_frac": "at most 0.10",
    "interval80_cover_frac": "0.75 to 0.85; 0.70 to 0.90 in each class of 20 rows or more",
    "interval_score_over_constant_width_ratio": "below 1",
    "memory_megatron_mean_frac": "at most 0.02",
    "memory_megatron_worst_frac": "at most 0.05",
    "memory_all_mean_frac": "at most 0.06",
    "memory_tight_frac": "at most 0.08",
    "false_does_not_fit_count": "0",
    "false_fits_count": "0",
    "spearman_mean": "at least 0.85",
    "regret_best_of_three_frac": "at most 0.02",
    "regret_first_frac": "at most 0.04",
    "rows_refused_count": "0, but for illegal rows",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 2 where a file of points is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=Path, metavar="FILE", default=TRAINING_POINTS, help="what is predicted and scored")
    parser.add_argument("--calibrate-on", type=Path, metavar="FILE", help="draw the rows of the multipliers from this file")
    parser.add_argument("--rows", action="store_true", help="also print every row")
    parser.add_argument("--baseline", action="store_true", help="score a constant share of the peak instead of the planner")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write figures, details and environment here")
    parser.add_argument("--smoke", action="store_true", help="the same: all of it takes a few seconds")
    options = parser.parse_args(argv)
    module = _constant_share if options.baseline else _row_predictor
    predictor = Predictor(predict_rows=module.predict_rows, calibrated=module.calibrated)
    try:
        points = read_points(options.points)
        other = read_points(options.calibrate_on) if options.calibrate_on else None
    except SpecError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    started_s = time.perf_counter()
    found = evaluate(points, predictor, calibrate_on=other)
    print(page(found, goals=GOALS, all_rows=options.rows))
    print(f"predicted and scored in {time.perf_counter() - started_s:.1f} s")
    write_figures(options.json, found.figures, details=details(found), goals=GOALS, packages=("numpy", "PyYAML"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
