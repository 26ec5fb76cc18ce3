"""The process of one rank: runs the trials that come over the inherited connection until its other end closes."""

from __future__ import annotations

import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.contract.engine.trial import run_trial
from trimtab.inventory import DeviceKind
from workers.training.distributed import join, leave


def serve(connection: Connection) -> None:
    """Answer each trial with an Outcome, or with the text of what went wrong."""
    while True:
        try:
            trial, rank, store = connection.recv()
        except EOFError:
            return
        try:
            size = trial.strategy.world_size
            join(rank=rank, local_rank=rank, world_size=size, kind=DeviceKind.CPU, store_path=Path(store))
            answer: Any = run_trial(trial, rank)
        except Exception:  # the parent is told, and ends this process
            answer = traceback.format_exc()
        finally:
            leave()
        connection.send(answer)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
