"""The planner's process: problems as JSON lines on stdin, answers as JSON lines on stdout, started by ``ProcessPlanner``.

Solvers print to stdout as they like; the answers go to a copy of that descriptor, and the descriptor itself to stderr. When stdin
ends, the parent is gone and so is this process, whatever it is computing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import threading
import time
from queue import SimpleQueue
from typing import BinaryIO

from planner import api
from trimtab import wire
from trimtab.errors import TrimtabError
from trimtab.plan import PlanningProblem


def main() -> int:
    """Answer until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory-limit-bytes", type=int, required=True)
    limit = parser.parse_args().memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    _write(answers, {"ready": True})
    while True:
        _write(answers, answer(lines.get()))


def answer(line: bytes) -> dict[str, object]:
    """One problem's answer: ``plan``, ``refused`` (the planner says why) or ``failed`` (a bug, or memory ran out)."""
    try:
        problem = wire.loads(PlanningProblem, line)
        return {"plan": wire.encode(api.plan(problem, clock=time.monotonic))}
    except TrimtabError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"failed": "the planner ran out of memory"}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def _read(lines: SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)


def _write(answers: BinaryIO, answer: dict[str, object]) -> None:
    answers.write(json.dumps(answer, separators=(",", ":"), allow_nan=False).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
