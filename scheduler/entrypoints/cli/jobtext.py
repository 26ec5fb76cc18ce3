"""Jobs and events as text. Pure functions."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.entrypoints.cli.columns import table
from scheduler.entrypoints.cli.words import (
    bytes_text,
    count_text,
    interval_text,
    moment_text,
    percent_text,
    plural,
    seconds_text,
    usd_text,
)
from trimtab.job import JOB_ENDS, JobState
from trimtab.lifecycle import AttemptState
from trimtab.views import AttemptView, EventView, JobView

Style = Callable[..., str]

_STATE_STYLES: dict[JobState, tuple[str, ...]] = {
    JobState.RUNNING: ("green",),
    JobState.STARTING: ("cyan",),
    JobState.STOPPING: ("yellow",),
    JobState.UNKNOWN: ("yellow", "bold"),
    JobState.FAILED: ("red",),
    JobState.CANCELLED: ("dim",),
    JobState.SUCCEEDED: (),
    JobState.QUEUED: ("blue",),
    JobState.SUSPENDED: ("dim",),
}


def state_styles(view: JobView) -> tuple[str, ...]:
    """Styles of a job's row."""
    return _STATE_STYLES[view.state]


def queue_line(view: JobView) -> str:
    """A job in one line."""
    reason = f"  {view.reason}" if view.reason and view.state not in (JobState.RUNNING, JobState.SUCCEEDED) else ""
    detail = f": {view.detail}" if view.detail and reason else ""
    return f"{view.id}  {view.name}  {view.state}{reason}{detail}"


def newest_attempt(view: JobView) -> AttemptView | None:
    """The newest attempt of a job."""
    return max(view.attempts, key=lambda attempt: attempt.ref.number, default=None)


def live_attempt(view: JobView) -> AttemptView | None:
    """The attempt that holds devices now."""
    newest = newest_attempt(view)
    return newest if newest is not None and newest.state is not AttemptState.RELEASED else None


def devices_text(view: JobView) -> str:
    """Pool and number of devices that a job has now."""
    attempt = live_attempt(view)
    return f"{attempt.pool} ×{len(attempt.devices)}" if attempt is not None else "-"


def progress_text(view: JobView) -> str:
    """Finished and wanted steps."""
    progress = view.progress
    if progress is None or progress.num_steps <= 0:
        return "-"
    return f"{progress.step:,}/{progress.num_steps:,} ({percent_text(progress.step / progress.num_steps)})"


def against_prediction(measured_s: float, predicted_s: float) -> str:
    """``+4 %``: how far a measured time is from the predicted one."""
    if predicted_s <= 0:
        return ""
    frac = measured_s / predicted_s - 1
    return f"{'+' if frac >= 0 else '−'}{percent_text(abs(frac))}"


def job_lines(view: JobView, *, style: Style) -> list[str]:
    """Everything about one job."""
    rows = [
        ["id", str(view.id)],
        ["name", view.name],
        ["kind", str(view.kind)],
        ["state", style(str(view.state), *_STATE_STYLES[view.state]) + (f"  {view.reason}" if view.reason else "")],
    ]
    if view.detail:
        rows.append(["detail", view.detail])
    if str(view.intent) != "RUN" or view.state not in JOB_ENDS:
        rows.append(["intent", str(view.intent)])
    rows += [
        [
            "submitted",
            f"{moment_text(view.submitted_at)} by {view.submitted_by}, project {view.project}, priority {view.priority}",
        ],
        *([["ended", moment_text(view.ended_at)]] if view.ended_at else []),
        *([["plan", str(view.plan_id)]] if view.plan_id else []),
        ["cost", usd_text(view.cost_usd)],
        ["tries", f"{len(view.attempts)}, {plural(view.num_failures, 'failure')}, {plural(view.num_losses, 'loss', 'losses')}"],
    ]
    if view.checkpoint_step is not None:
        rows.append(["checkpoint", f"verified, of step {view.checkpoint_step:,}"])
    rows += _progress_rows(view)
    lines = table(rows)
    if view.attempts:
        lines += ["", *_attempt_lines(view, style)]
    if view.summary:
        lines += ["", style("SUMMARY", "bold"), *table([[f"  {name}", f"{value:,.6g}"] for name, value in view.summary.items()])]
    return lines


def _progress_rows(view: JobView) -> list[list[str]]:
    rows: list[list[str]] = []
    progress = view.progress
    if view.predicted_step_s is not None:
        rows.append(["predicted step", interval_text(view.predicted_step_s, "seconds")])
    if progress is not None:
        predicted = view.predicted_step_s.value if view.predicted_step_s is not None else 0.0
        against = against_prediction(progress.step_s, predicted)
        rows.append(["progress", progress_text(view)])
        rows.append(["step time", seconds_text(progress.step_s) + (f" ({against} of the prediction)" if against else "")])
        rows.append(["loss", f"{progress.loss:.4f}"])
        rows.append(["tokens/s", count_text(progress.tokens_per_s)])
        if progress.peak_memory_bytes:
            rows.append(["peak memory", ", ".join(bytes_text(value) for value in progress.peak_memory_bytes) + " by rank"])
    if view.eta_s is not None:
        rows.append(["left", seconds_text(view.eta_s)])
    if view.observed_at is not None:
        rows.append(["observed", moment_text(view.observed_at)])
    return rows


def _attempt_lines(view: JobView, style: Style) -> list[str]:
    header, *body = table(
        [
            [
                f"  {attempt.ref.number}",
                str(attempt.state),
                f"{attempt.pool} ×{len(attempt.devices)}",
                attempt.strategy or "-",
                moment_text(attempt.assigned_at),
                seconds_text((attempt.released_at - attempt.assigned_at).total_seconds()) if attempt.released_at else "-",
                _ending(attempt),
                usd_text(attempt.cost_usd),
            ]
            for attempt in view.attempts
        ],
        header=["  TRY", "STATE", "DEVICES", "STRATEGY", "BEGAN", "LASTED", "ENDED", "COST"],
    )
    return [style(header, "bold"), *body]


def _ending(attempt: AttemptView) -> str:
    if attempt.release_reason is None:
        return "-"
    kind = f" ({attempt.failure_kind})" if attempt.failure_kind else ""
    return f"{attempt.release_reason}{kind}"


def event_text(event: EventView) -> str:
    """What an event says, in a sentence where we know its kind, else its body."""
    body = dict(event.body)
    attempt = f"try {event.attempt.number}" if event.attempt is not None else ""
    known = _EVENT_WORDS.get(event.kind)
    if known is not None:
        return known(attempt, body).strip()
    rest = ", ".join(f"{name} {value}" for name, value in body.items() if value not in (None, "", [], {}))
    return f"{attempt}  {rest}".strip() if rest else attempt


def _assigned(attempt: str, body: dict[str, object]) -> str:
    devices = body.get("devices")
    count = plural(len(devices), "device") if isinstance(devices, list | tuple) else "devices"
    return f"{attempt} gets {count} of {body.get('offer', '?')}"


def _exited(attempt: str, body: dict[str, object]) -> str:
    text = f"{attempt} {body.get('reason', 'ended')}"
    if body.get("failure"):
        text += f" ({body['failure']})"
    if body.get("rank") is not None:
        text += f", rank {body['rank']}"
    if body.get("exit_code") not in (None, 0):
        text += f", exit code {body['exit_code']}"
    return text + (f": {body['detail']}" if body.get("detail") else "")


_EVENT_WORDS: dict[str, Callable[[str, dict[str, object]], str]] = {
    "Submitted": lambda _, body: f"{body.get('name', '')} by {body.get('by', '?')}",
    "Assigned": _assigned,
    "StartSent": lambda attempt, _: f"{attempt}: agent started",
    "Claimed": lambda attempt, _: f"{attempt}: its agent reported",
    "Ready": lambda attempt, _: f"{attempt}: all ranks run",
    "StopRequested": lambda attempt, body: f"{attempt} is asked to stop: {body.get('reason', '')}",
    "LostSight": lambda attempt, body: f"{attempt} is out of sight: {body.get('detail', '')}",
    "SeenAgain": lambda attempt, _: f"{attempt} is seen again",
    "Exited": _exited,
    "ProvenDead": lambda attempt, body: f"{attempt} is proven dead: {body.get('detail', '')}",
    "CheckpointPublished": lambda attempt, body: f"{attempt}: checkpoint of step {body.get('step', '?')}",
    "CheckpointRolledBack": lambda attempt, body: f"{attempt}: back from step {body.get('from')} to {body.get('to')}",
    "IntentChanged": lambda _, body: f"{body.get('from')} to {body.get('to')}",
    "Hopeless": lambda _, body: f"{body.get('reason')}: {body.get('detail')}",
}
