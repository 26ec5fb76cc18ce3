"""``trimtab check``: what works here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata

import typer

from scheduler.entrypoints.cli.app import new_command
from scheduler.entrypoints.cli.columns import wrapped
from scheduler.entrypoints.cli.common import DeviceFileOption, Format, OutputOption, PriceFileOption, Session, open_session
from scheduler.entrypoints.cli.exits import ExitCode
from scheduler.entrypoints.cli.findings import Finding, Grade, device_findings, offer_finding, price_findings
from scheduler.entrypoints.cli.output import show_data
from scheduler.entrypoints.cli.words import bytes_text, moment_text, plural
from trimtab.errors import TrimtabError
from trimtab.inventory import DeviceKind, DeviceState

app = new_command()


@app.command()
def check(
    ctx: typer.Context,
    device_file: DeviceFileOption = None,
    price_file: PriceFileOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what works on this machine, and where devices and prices come from. Starts nothing and changes nothing."""
    session = open_session(ctx).with_files(devices=device_file, prices=price_file)
    findings: list[Finding] = []
    for what, look in _LOOKS.items():
        try:
            findings += look(session)
        except TrimtabError as error:
            findings.append(Finding(what=what, found=str(error), grade=Grade.BROKEN))
    if output.for_people:
        session.console.lines(_lines(session, findings))
    elif output is Format.NAME:
        session.console.lines(finding.what for finding in findings if finding.grade is not Grade.OK)
    else:
        show_data(
            session.console,
            output,
            [{"what": f.what, "found": f.found, "grade": str(f.grade), "advice": f.advice} for f in findings],
        )
    if any(finding.grade is Grade.BROKEN for finding in findings):
        raise typer.Exit(int(ExitCode.ERROR))


def _lines(session: Session, findings: list[Finding]) -> list[str]:
    colours = {Grade.OK: "green", Grade.NOTE: "yellow", Grade.BROKEN: "red"}
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        mark = session.console.style(finding.grade.value, colours[finding.grade]) + " " * (7 - len(finding.grade.value))
        text = f"{finding.found}; {finding.advice}" if finding.advice else finding.found
        first, *rest = wrapped(text, width=session.console.width - width - 11)
        lines.append(f"{finding.what.ljust(width)}  {mark}  {first}")
        lines += [" " * (width + 11) + line for line in rest]
    return lines


def _installation(session: Session) -> list[Finding]:
    return [Finding(what="trimtab", found=f"{metadata.version('trimtab')}, state in {session.settings.home.path}")]


def _solver(_session: Session) -> list[Finding]:
    return [Finding(what="solver", found=f"HiGHS {metadata.version('highspy')} by PuLP {metadata.version('pulp')}")]


def _devices(session: Session) -> list[Finding]:
    from scheduler.bootstrap import local_inventory, price_file

    now = datetime.now(UTC)
    inventory = local_inventory(session.settings, now=now)
    findings = []
    for pool in inventory.pools:
        kind = inventory.device_type(pool.device_type)
        devices = [device for node in pool.nodes for device in node.devices]
        busy = sum(device.state is DeviceState.BUSY_ELSEWHERE for device in devices)
        text = f"{pool.num_devices} × {kind.name} ({bytes_text(kind.memory_bytes)} each)"
        if kind.kind is DeviceKind.CPU:
            text += f", {plural(len(devices[0].cores), 'core')} each"
        if busy:
            text += f", {busy} used by others"
        findings.append(Finding(what=f"pool {pool.id}", found=text, grade=Grade.NOTE if busy == len(devices) else Grade.OK))
    return findings + [offer_finding(offer, price_file=price_file(session.settings), now=now) for offer in inventory.offers]


def _runtime(session: Session) -> list[Finding]:
    from scheduler.bootstrap import local_probes, runtime_python
    from scheduler.entrypoints.cli.probing import fingerprint, has_torch

    python = runtime_python(session.settings)
    if not has_torch(session.settings):
        advice = "to train here: pip install 'trimtab[runtime]', or name another interpreter in TRIMTAB_RUNTIME_PYTHON"
        return [Finding(what="torch", found=f"not there for {python}", grade=Grade.NOTE, advice=advice)]
    findings = [Finding(what="torch", found=f"there for {python}")]
    wanted = fingerprint(session.settings)
    report = next((report for report in local_probes(session.settings) if report.fingerprint == wanted), None)
    if report is None:
        advice = "trimtab probe measures them; trimtab run does it the first time"
        return [*findings, Finding(what="probe", found="the devices were never measured", grade=Grade.NOTE, advice=advice)]
    text = f"{plural(len(report.points), 'point')} of {moment_text(report.measured_at)}, fingerprint {report.fingerprint}"
    return [*findings, Finding(what="probe", found=text)]


def _server(session: Session) -> list[Finding]:
    client = session.running()
    if client is None:
        return [Finding(what="server", found="not running; the first command that needs it starts it")]
    status = client.status()
    findings = [Finding(what="server", found=f"process {status.pid}, {plural(sum(status.num_jobs.values()), 'job')} known")]
    return findings + [Finding(what="server", found=warning, grade=Grade.NOTE) for warning in status.warnings]


_LOOKS: dict[str, Callable[[Session], list[Finding]]] = {
    "trimtab": _installation,
    "solver": _solver,
    "devices": _devices,
    "device types": device_findings,
    "known prices": price_findings,
    "torch": _runtime,
    "server": _server,
}
