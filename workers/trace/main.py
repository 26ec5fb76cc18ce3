"""``python -m workers.trace``: trace a model, write its document. This process imports no torch and none of the user's code."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trimtab.errors import Problem, SpecError
from trimtab.files import write_atomically
from trimtab.inventory import DeviceKind
from trimtab.processes import marked, send
from trimtab.spec.model_document import MAX_DOCUMENT_BYTES, parse_document
from trimtab.spec.units import duration_s, size_bytes
from trimtab.wire import WireError, dumps, loads
from workers.trace.request import TraceAnswer, TraceRequest, check_target, read_config, read_inputs

MAX_BATCH = 1_000_000
MAX_LENGTH = 100_000_000
MARK = "TRIMTAB_TRACE"
"""Environment variable that all processes of one trace carry."""
_TAIL_BYTES = 65_536
_CHUNK_BYTES = 4096
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the tracing process ended. ``code`` is None where it ran into the time limit; ``tail`` is the end of its output."""

    code: int | None
    answer: TraceAnswer | None
    tail: str


def run_child(request: TraceRequest) -> Ended:
    """Trace in a child process in a session of its own, which is killed with all that it started when the time is over."""
    with tempfile.TemporaryDirectory(prefix="trimtab-trace-") as name:
        asked, answered = Path(name) / "request.json", Path(name) / "answer.json"
        asked.write_text(dumps(request))
        mark = {MARK: uuid.uuid4().hex}
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.trace.child", str(asked), str(answered)],
            cwd=request.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **mark, "CUDA_VISIBLE_DEVICES": ""},
            start_new_session=True,
        )
        assert child.stdout is not None, "its output is a pipe"
        tail: deque[bytes] = deque(maxlen=_TAIL_BYTES // _CHUNK_BYTES)
        reader = threading.Thread(target=_drain, args=(child.stdout, tail), daemon=True)
        reader.start()
        try:
            code: int | None = child.wait(timeout=request.time_limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill(child, mark)
        reader.join(_PATIENCE_S)
        return Ended(code=code, answer=_read(answered), tail=b"".join(tuple(tail)).decode(errors="replace"))


def _drain(stream: IO[bytes], tail: deque[bytes]) -> None:
    """Keep the end of what the child writes, however much that is."""
    while chunk := os.read(stream.fileno(), _CHUNK_BYTES):
        tail.append(chunk)


def _kill(child: subprocess.Popen[bytes], mark: Mapping[str, str]) -> None:
    """End the child, its group, and what it started in sessions of their own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for identity in marked(mark):
        send(identity, signal.SIGKILL)


def _read(path: Path) -> TraceAnswer | None:
    try:
        if path.stat().st_size > 2 * MAX_DOCUMENT_BYTES:
            return None
        return loads(TraceAnswer, path.read_bytes())
    except (OSError, ValueError, WireError):
        return None


def explain(ended: Ended, *, time_limit_s: float) -> str | None:
    """One line that says why there is no document; None where there is one."""
    if ended.code is None:
        return f"not done after {time_limit_s:g} s, so it was ended; --time-limit gives it more"
    if ended.answer is not None:
        return ended.answer.error if ended.answer.document is None else None
    if ended.code < 0:
        name = signal.Signals(-ended.code).name
        return f"the tracing process was ended by {name}" + ("; too little memory?" if name == "SIGKILL" else "")
    lines = [line for line in ended.tail.splitlines() if line.strip()]
    return f"the tracing process ended with exit code {ended.code}" + (f": {lines[-1].strip()[:300]}" if lines else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Messages go to stderr. Exit code 0: the document is written; 1: it cannot be traced; 2: bad use."""
    options = _parser().parse_args(argv)
    try:
        request = _request(options)
    except SpecError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    begin = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # so that the child ends as well
    try:
        ended = run_child(request)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    problem = explain(ended, time_limit_s=request.time_limit_s)
    if problem is not None:
        wrong_use = ended.answer is not None and ended.answer.wrong_use
        sys.stderr.write(problem + ("" if wrong_use else _log(options.out, problem, ended)) + "\n")
        return 2 if wrong_use else 1
    assert ended.answer is not None, "explain says so"
    text = dumps(ended.answer.document).encode() + b"\n"
    try:
        parse_document(text)
        write_atomically(options.out, text, mode=0o644)
    except (SpecError, OSError) as error:
        sys.stderr.write(f"cannot write {options.out}: {error}\n")
        return 1
    sys.stderr.write(f"traced in {time.monotonic() - begin:.1f} s\n")
    return 0


def _log(out: Path, problem: str, ended: Ended) -> str:
    """Write what a person needs to find the error, and say where it stands."""
    traceback = ended.answer.traceback if ended.answer is not None else ""
    sections = [problem, traceback, f"Output of the model's code:\n{ended.tail}" if ended.tail.strip() else ""]
    path = out.with_name(out.name + ".log")
    try:
        write_atomically(path, "\n\n".join(filter(None, sections)).encode(), mode=0o644)
    except OSError:
        return ""
    return f"; more in {path}"


def _request(options: argparse.Namespace) -> TraceRequest:
    batch = _whole("--batch", options.batch, MAX_BATCH)
    length = None if options.length is None else _whole("--length", options.length, MAX_LENGTH)
    target = check_target(options.module)
    name = options.name or target.rpartition(":")[2]
    if not (name.isprintable() and len(name) <= 128):
        raise _wrong("--name", f"found {name[:60]!r}", "printable text of at most 128 characters")
    if options.out.is_dir() or not options.out.parent.is_dir():
        raise _wrong("--out", f"found {options.out}", "a file in a folder that exists")
    return TraceRequest(
        target=target,
        config=read_config(options.config),
        inputs=read_inputs(options.input, batch=batch, sequence_length=length),
        batch=batch,
        sequence_length=length,
        folder=os.getcwd(),
        name=name,
        device=_device(options.device),
        time_limit_s=_quantity("--time-limit", options.time_limit, 1, 86_400),
        memory_bytes=int(_quantity("--memory-limit", options.memory_limit, 1e9, 1e15)),
    )


def _whole(name: str, text: str, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and 1 <= int(text) <= high):
        raise _wrong(name, f"found {text[:60]!r}", f"a whole number from 1 to {high}")
    return int(text)


def _device(text: str) -> DeviceKind:
    if text not in (DeviceKind.CPU, DeviceKind.GPU):
        raise _wrong("--device", f"found {text[:60]!r}", "cpu, gpu")
    return DeviceKind(text)


def _quantity(name: str, text: str, low: float, high: float) -> float:
    reader = duration_s if name == "--time-limit" else size_bytes
    try:
        value = reader(text)
    except ValueError as error:
        raise _wrong(name, f"found {text[:60]!r}", str(error)) from None
    if not low <= value <= high:
        raise _wrong(name, f"found {text[:60]!r}", f"{low:g} to {high:g} {'seconds' if reader is duration_s else 'bytes'}")
    return value


def _wrong(path: str, message: str, allowed: str) -> SpecError:
    return SpecError([Problem(path=path, message=message, allowed=allowed)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workers.trace", description="Run a model on tensors without data and write what was counted."
    )
    parser.add_argument("--module", required=True, metavar="TARGET", help="package.module:callable or path/to/file.py:callable")
    parser.add_argument("--config", action="append", default=[], metavar="K=V", help="keyword argument of the callable")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE:DTYPE", help="tokens=BxS:int64")
    parser.add_argument("--batch", default="2", metavar="N", help="size of B (2)")
    parser.add_argument("--length", metavar="N", help="size of S")
    parser.add_argument("--device", default="gpu", metavar="KIND", help="whose kernels to assume: cpu or gpu (gpu)")
    parser.add_argument("--name", metavar="NAME", help="name of the model (the callable's)")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="write the document here")
    parser.add_argument("--time-limit", default="5m", metavar="TIME", help="end it after this time (5m)")
    parser.add_argument("--memory-limit", default="8GiB", metavar="SIZE", help="memory that it may use (8GiB)")
    return parser
