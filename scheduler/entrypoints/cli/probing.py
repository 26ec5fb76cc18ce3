"""Measures this machine's devices: runs the probe of the workers as a program and hands its report to the control plane."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scheduler.bootstrap import runtime_python
from scheduler.config import Settings
from scheduler.entrypoints.cli.common import Session
from scheduler.entrypoints.cli.exits import CommandError
from trimtab.client import Client
from trimtab.errors import InstallationError
from trimtab.fingerprint import node_facts
from trimtab.inventory import ProbeReport
from trimtab.wire import WireError, loads

_TORCH = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
_FINGERPRINT = "from trimtab.fingerprint import node_facts; print(node_facts().fingerprint())"
_CHECK_PATIENCE_S = 60.0


def has_torch(settings: Settings) -> bool:
    """Can the interpreter of our workers import torch? Looked up, not imported. Raises InstallationError if it cannot be run."""
    return _run_check(settings, _TORCH).returncode == 0


def fingerprint(settings: Settings) -> str:
    """What identifies this machine and the packages of the workers' interpreter."""
    if runtime_python(settings) == sys.executable:
        return node_facts().fingerprint()
    done = _run_check(settings, _FINGERPRINT)
    if done.returncode:
        raise InstallationError(f"{runtime_python(settings)} cannot import trimtab: {_last_line(done.stderr)}")
    return done.stdout.strip()


def ensure_probe(session: Session, client: Client) -> None:
    """Probe when this machine, as it is now, was never measured. Put off while attempts run: they would be measured too."""
    if session.settings.server is not None:
        return  # its owner measures
    wanted = fingerprint(session.settings)
    if any(report.fingerprint == wanted for report in client.probes()):
        return
    live = sum(client.status().num_jobs.get(state, 0) for state in ("STARTING", "RUNNING", "STOPPING"))
    if live:
        session.console.warn("jobs run here, so the devices are not measured now; the plan rests on assumptions")
        return
    session.note("first run on this machine: measuring its devices (once; trimtab probe does it again)")
    client.put_probe(run_probe(session.settings))


def run_probe(settings: Settings, *, devices: int | None = None, kind: str | None = None, quick: bool = False) -> ProbeReport:
    """Run the probe; its progress goes to stderr. Raises CommandError when it fails, InstallationError without torch."""
    if not has_torch(settings):
        raise InstallationError(
            f"torch is not installed for {runtime_python(settings)}: pip install 'trimtab[runtime]', or name an interpreter that "
            f"has it in TRIMTAB_RUNTIME_PYTHON"
        )
    with tempfile.TemporaryDirectory(prefix="trimtab-probe-") as folder:
        output = Path(folder) / "report.json"
        command = [runtime_python(settings), "-P", "-m", "workers.probe", "--output", str(output)]
        number = devices if devices is not None else settings.cpu_devices
        if number is not None:
            command += ["--devices", str(number)]
        if kind is not None:
            command += ["--kind", kind]
        if quick:
            command.append("--quick")
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), env=os.environ, check=False
        )
        if done.returncode:
            raise CommandError(f"the probe ended with exit code {done.returncode}; what it said stands above")
        try:
            return loads(ProbeReport, output.read_bytes())
        except (OSError, WireError, ValueError) as error:
            raise CommandError(f"the probe left no report that can be read: {error}") from error


def _run_check(settings: Settings, code: str) -> subprocess.CompletedProcess[str]:
    python = runtime_python(settings)
    try:
        return subprocess.run(
            [python, "-P", "-c", code], cwd="/", capture_output=True, text=True, timeout=_CHECK_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallationError(f"the workers' interpreter {python} cannot be run: {error}") from error


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
