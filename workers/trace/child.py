"""The process that runs the user's code: bounded in memory, read from and answering through files, its output a log."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from trimtab.errors import SpecError
from trimtab.files import write_atomically
from trimtab.wire import dumps, loads
from workers.trace.build import build, load_callable
from workers.trace.document import trace
from workers.trace.failure import TraceError, details, said
from workers.trace.kernels import kernels_of
from workers.trace.request import TraceAnswer, TraceRequest


def answer(request: TraceRequest) -> TraceAnswer:
    """Trace as asked; what goes wrong is in the answer."""
    try:
        with kernels_of(request.device):  # before the user's code binds a name to a kernel
            target = load_callable(request.target, Path(request.folder))
            module, notes = build(target, request.config)
            return TraceAnswer(document=trace(module, request, notes=notes))
    except TraceError as error:
        return TraceAnswer(error=str(error), traceback=error.details)
    except SpecError as error:
        return TraceAnswer(error=str(error), wrong_use=True)
    except MemoryError as error:
        return TraceAnswer(error="tracing needs more memory than --memory-limit", traceback=details(error))
    except Exception as error:
        return TraceAnswer(error=f"tracing failed: {said(error)}", traceback=details(error))


def main() -> int:
    """Entry point: ``child.py REQUEST ANSWER``."""
    request = loads(TraceRequest, Path(sys.argv[1]).read_bytes())
    resource.setrlimit(resource.RLIMIT_DATA, (request.memory_bytes, request.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whoever started this process ends it when its time is over; this ends it also where that one was killed.
    seconds = int(request.time_limit_s * (os.cpu_count() or 1)) + 60
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    write_atomically(Path(sys.argv[2]), dumps(answer(request)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
