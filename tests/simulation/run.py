"""Plays many seeds: ``python -m tests.simulation.run --seeds 10000 [--first 0] [--mutants]``. Prints each seed that breaks."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.simulation import run_seed


def main() -> int:
    """Exit 0 when nothing broke (and, with --mutants, every mutant was killed)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--mutants", action="store_true", help="print the seeds that each mutant needs")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seeds = range(options.first, options.first + options.seeds)
    return _mutants(seeds) if options.mutants else _seeds(seeds)


def _seeds(seeds: range) -> int:
    num_broken, num_events, began_s = 0, 0, time.monotonic()
    for count, seed in enumerate(seeds, 1):
        try:
            num_events += run_seed(seed).replay.last_number
        except Exception as error:
            num_broken += 1
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
        if count % 1000 == 0:
            print(f"{count} seeds, {num_broken} broken", flush=True)
    seconds = time.monotonic() - began_s
    print(f"{len(seeds)} seeds from {seeds.start}, {num_broken} broken, {num_events} events, {seconds:.0f} s")
    return 1 if num_broken else 0


def _mutants(seeds: range) -> int:
    num_alive = 0
    for name in sorted(MUTANTS):
        killed = next((seed for seed in seeds if _breaks(name, seed)), None)
        num_alive += killed is None
        print(f"{name:36s} {'ALIVE' if killed is None else f'killed by seed {killed}'}", flush=True)
    return 1 if num_alive else 0


def _breaks(name: str, seed: int) -> bool:
    with mutated(name):
        try:
            run_seed(seed)
        except Exception:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
