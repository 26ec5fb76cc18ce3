"""Traces a model: runs the tracer of the workers as a program and reads the document that it writes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduler.bootstrap import runtime_python
from scheduler.config import Settings
from scheduler.entrypoints.cli.exits import CommandError, ExitCode
from scheduler.entrypoints.cli.probing import has_torch
from trimtab.errors import InstallationError
from trimtab.spec.model_document import ModelDocument, load_document

_BAD_USE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What is traced, as it was typed: the tracer reads and checks it. None leaves the tracer's default."""

    target: str
    out: Path
    inputs: Sequence[str]
    config: Sequence[str] = ()
    batch: str | None = None
    length: str | None = None
    device: str | None = None
    name: str | None = None
    time_limit: str | None = None
    memory_limit: str | None = None

    def arguments(self) -> list[str]:
        """Its command line. ``--key=value``, so that no value is taken for an option."""
        single = {
            "module": self.target,
            "out": str(self.out),
            "batch": self.batch,
            "length": self.length,
            "device": self.device,
            "name": self.name,
            "time-limit": self.time_limit,
            "memory-limit": self.memory_limit,
        }
        several = [*(("input", text) for text in self.inputs), *(("config", text) for text in self.config)]
        return [f"--{key}={value}" for key, value in (*single.items(), *several) if value is not None]


def run_trace(settings: Settings, asked: Trace) -> ModelDocument:
    """Run the tracer in the caller's folder. Raises CommandError where the model cannot be traced, InstallationError without
    torch."""
    python = runtime_python(settings)
    if not has_torch(settings):
        raise InstallationError(
            f"torch is not installed for {python}: pip install 'trimtab[runtime]', or name an interpreter that has it in "
            f"TRIMTAB_RUNTIME_PYTHON"
        )
    done = subprocess.run(
        [python, "-P", "-m", "workers.trace", *asked.arguments()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the tracer ended with exit code {done.returncode}"]
        raise CommandError(f"{asked.target}: {lines[-1]}", ExitCode.USAGE if done.returncode == _BAD_USE else ExitCode.ERROR)
    return load_document(asked.out, where=str(asked.out))
