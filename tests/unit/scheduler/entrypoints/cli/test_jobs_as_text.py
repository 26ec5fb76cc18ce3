"""Progress, summary, events and programs, from views that a real control plane made or that hold every figure."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from scheduler.adapters.simulated.world import Script
from scheduler.entrypoints.cli.exits import CommandError, ExitCode, code_of
from scheduler.entrypoints.cli.jobtext import against_prediction, event_text, job_lines, queue_line
from scheduler.entrypoints.cli.main import split_program
from scheduler.entrypoints.cli.planprint.page import plain
from scheduler.entrypoints.cli.programs import name_of, program_spec, user_environment
from scheduler.entrypoints.cli.progress import fitted, plain_line, terminal_parts
from scheduler.entrypoints.cli.summary import summary_lines
from tests.support.kit import Rig, command_job, train_job
from tests.support.plans import memory
from trimtab import errors
from trimtab.estimate import Estimate, Origin
from trimtab.job import JobState
from trimtab.jobspec import RetryPolicy
from trimtab.views import JobView


@pytest.fixture
def running() -> JobView:
    """A training job half way, as the control plane shows it."""
    rig = Rig(script=Script(step_s=1.0, num_steps=20))
    job = rig.submit(train_job(devices=2))
    rig.run(12.0)
    view = rig.control.job(job)
    assert view.progress is not None
    return replace(
        view,
        progress=replace(view.progress, step=8, num_steps=20, loss=3.25, tokens_per_s=12_300.0, step_s=0.45, phase="train"),
        predicted_step_s=Estimate.within(0.43, 0.1, origin=Origin.MEASURED),
        eta_s=123.0,
    )


def test_a_pipe_gets_a_plain_line(running: JobView) -> None:
    assert plain_line(running) == (
        "step 8/20 (40 %)  loss 3.250  12.3k tokens/s  450 ms a step (predicted 430 ms, +4.7 %)  left 2m 03s"
    )


def test_a_terminal_gets_as_many_whole_pieces_as_fit(running: JobView) -> None:
    parts = terminal_parts(running, spinner="*")
    assert parts[0].startswith("8/20 ━━━━━━━━━━╌")
    for columns in (20, 60, 200):
        assert len(fitted(parts, columns)) <= columns
    assert fitted(parts, 200).endswith("left 2m 03s")
    assert "tokens" not in fitted(parts, 60)
    evaluating = replace(running, progress=replace(running.progress, phase="evaluate"))  # type: ignore[type-var]
    assert terminal_parts(evaluating, spinner="*")[0].startswith("evaluate: 8/20")


def test_before_the_first_progress_the_state_is_shown(running: JobView) -> None:
    assert terminal_parts(replace(running, progress=None, state=JobState.QUEUED, detail="waits"), spinner="*") == [
        "* QUEUED",
        "waits",
    ]


def test_summary_holds_predictions_against_measurements(running: JobView) -> None:
    figures = {
        "held_out_loss_nats": 3.5,
        "perplexity": 33.1,
        "trigram_loss_nats": 3.9,
        "loss_margin_nats": 0.4,
        "bleu": 91.25,
        "lexicon_bleu": 30.0,
        "bleu_margin": 61.25,
        "step_median_s": 0.45,
        "step_low_quartile_s": 0.44,
        "step_high_quartile_s": 0.47,
        "tokens_per_s": 12_300.0,
        **{f"peak_tensor_bytes_rank_{rank}": 2.0**30 * (60 - rank) for rank in range(4)},
        **{f"resident_bytes_rank_{rank}": 2.0**30 for rank in range(4)},
    }
    view = replace(
        running,
        state=JobState.SUCCEEDED,
        summary=figures,
        predicted_memory=(memory(0, 50.0), memory(1, 41.25)),
        ended_at=running.submitted_at + timedelta(seconds=100),
    )
    text = "\n".join(summary_lines(view, style=plain))
    for words in (
        "3.5000 nats a token (perplexity 33.10)",
        "3.9000 nats on the same tokens: 0.4000 nats better than it",
        "BLEU 30.0 by a lexicon learned from the same pairs: 61.2 points better than it",
        "450 ms (median, quartiles 440 ms and 470 ms)",
        "measured +4.7 %",
        "12.3k tokens/s",
    ):
        assert words in text
    ranks = [line.split() for line in text.splitlines() if line.startswith("  rank ")]
    assert [line[1] for line in ranks] == ["0", "1", "2", "3"]
    assert [line[2] for line in ranks] == ["59.5", "59.5", "50.8", "50.8"], "two ranks of each stage"


def test_a_missing_figure_leaves_its_line_out(running: JobView) -> None:
    text = "\n".join(
        summary_lines(replace(running, state=JobState.FAILED, reason="too-many-failures", detail="boom"), style=plain)
    )
    assert "too-many-failures: boom" in text
    assert "BLEU" not in text
    assert "trigram" not in text


def test_a_failed_and_retried_job_is_told_by_its_events() -> None:
    rig = Rig(script=Script(fails_at_step=2))
    job = rig.submit(command_job(retry=RetryPolicy(max_failures=1, backoff_s=1.0)))
    rig.run(60.0)
    events = rig.control.events(after=0, job=job)
    told = {event.kind: event_text(event) for event in events}
    assert told["Submitted"] == "job by ann"
    assert told["Assigned"] == "try 2 gets 1 device of pool-a/on-demand"
    assert told["Exited"].startswith("try 2 failed (exit-code)")
    assert all(event_text(event) is not None for event in events)
    view = rig.control.job(job)
    text = "\n".join(job_lines(view, style=plain))
    assert "FAILED  too-many-failures" in text
    assert text.count("failed (exit-code)") == 2
    assert queue_line(view).startswith(f"{job}  job  FAILED  too-many-failures")


def test_deviation_has_a_sign() -> None:
    assert [against_prediction(m, 1.0) for m in (1.0, 1.05, 0.5)] == ["+0 %", "+5.0 %", "−50 %"]
    assert against_prediction(1.0, 0.0) == ""


def test_a_program_is_split_off_before_the_options_are_read() -> None:
    assert split_program(["run", "--devices", "2", "--", "python", "-o", "x"]) == (
        ["run", "--devices", "2"],
        ["python", "-o", "x"],
    )
    assert split_program(["run", "job.yaml"]) == (["run", "job.yaml"], None)
    assert split_program(["cancel", "--", "-x"]) == (["cancel", "--", "-x"], None)
    assert split_program(["run", "--"]) == (["run"], [])


def test_a_program_keeps_interpreter_folder_and_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("MINE", "1")
    monkeypatch.setenv("TRIMTAB_HOME", "/x")
    monkeypatch.chdir(str(tmp_path))
    spec = program_spec(
        ["python3", "train.py", "--lr", "1"], name=None, devices=2, types=["cpu-x"], ranks=1, variables=["A=b=c"], max_retries=4
    )
    assert spec.command is not None
    assert spec.command.argv[0].endswith("/python3")
    assert spec.command.argv[1:] == ("train.py", "--lr", "1")
    assert spec.command.working_dir == str(tmp_path)
    assert spec.command.environment["MINE"] == "1"
    assert spec.command.environment["A"] == "b=c"
    assert not [name for name in spec.command.environment if name.startswith("TRIMTAB_")]
    assert (spec.name, spec.devices.min_devices, spec.devices.max_devices) == ("train", 2, 2)
    assert (spec.command.ranks_per_node, spec.retry.max_failures) == (1, 4)


@pytest.mark.parametrize(
    ("argv", "name"), [(["python", "-u", "a b.py"], "a-b"), (["./run.sh"], "run"), (["/bin/true"], "true"), (["..."], "program")]
)
def test_names_of_programs(argv: list[str], name: str) -> None:
    assert name_of(argv) == name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"argv": []}, "a program is needed"),
        ({"argv": ["no-such-program-here"]}, "no such program"),
        ({"variables": ["NOVALUE"]}, "--env: found 'NOVALUE'"),
        ({"name": "a b"}, "--name: found 'a b'"),
        ({"name": ""}, "--name"),
    ],
)
def test_wrong_programs_are_usage_errors(change: dict[str, object], said: str) -> None:
    options: dict[str, object] = {"name": None, "devices": 1, "types": [], "ranks": None, "variables": [], "max_retries": 0}
    argv = change.pop("argv", ["true"])
    with pytest.raises(CommandError, match=said) as found:
        program_spec(argv, **{**options, **change})  # type: ignore[arg-type]
    assert found.value.code is ExitCode.USAGE


def test_the_shells_own_notes_stay_behind() -> None:
    assert user_environment({"PATH": "p", "PWD": "x", "SHLVL": "2", "_": "y", "TRIMTAB_HOME": "h"}) == {"PATH": "p"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InfeasibleError("x"), 3),
        (errors.NotFoundError("x"), 4),
        (errors.AuthenticationError("x"), 5),
        (errors.ConflictError("x"), 6),
        (errors.SpecError([]), 2),
        (errors.UnavailableError("x"), 1),
        (errors.SolverError("x"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: errors.TrimtabError, code: int) -> None:
    assert code_of(error) == code
