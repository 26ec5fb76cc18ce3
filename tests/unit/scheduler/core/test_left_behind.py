"""What an attempt left behind when nobody could hear it: its newest verified checkpoint is where the next attempt begins."""

from __future__ import annotations

from dataclasses import replace

from scheduler.core import reflect
from scheduler.core.records import Observation, Sight
from tests.support.kit import START
from tests.unit.scheduler.core.test_core import FIRST, JOB, Table
from trimtab.lifecycle import AttemptState, ReleaseReason
from trimtab.orders import CheckpointNote, ExitNote, ReportKind, RunReport

NOTE = CheckpointNote(path="/c/a1/step-40", step=40, manifest_sha256="f" * 64, num_bytes=10, save_s=0.1)
LAST = RunReport(attempt=FIRST, sequence=9, kind=ReportKind.CHECKPOINT, at=START, checkpoint=NOTE)


def dead(last: RunReport) -> reflect.Seen:
    observation = Observation(attempt=FIRST, sight=Sight.DEAD, at=START, last_report=last)
    return reflect.Seen(observation=observation, silent_s=0.0, lost_after_s=20.0)


def test_a_killed_agents_last_checkpoint_is_published_with_the_proof_of_death() -> None:
    table = Table()
    table.run()
    table.take(reflect.reflect(table.snapshot, FIRST, dead(LAST), now=START))
    published = table.snapshot.checkpoint(JOB)
    assert published is not None
    assert (published.note, published.attempt) == (NOTE, FIRST)
    assert table.attempt().release_reason is ReleaseReason.LOST
    table.sound()


def test_an_exit_note_brings_the_checkpoint_that_could_not_be_published() -> None:
    table = Table()
    table.run()
    note = ExitNote(reason=ReleaseReason.STOPPED, exit_code=75)
    table.take(reflect.reflect(table.snapshot, FIRST, dead(replace(LAST, kind=ReportKind.EXITED, exit=note)), now=START))
    published = table.snapshot.checkpoint(JOB)
    assert published is not None
    assert published.note == NOTE
    assert table.attempt().state is AttemptState.RELEASED
    table.sound()


def test_an_older_checkpoint_of_the_same_attempt_replaces_nothing() -> None:
    table = Table()
    table.run()
    write, accepted = reflect.publish(table.snapshot, FIRST, NOTE, now=START)
    assert accepted
    table.take(write)
    table.take(reflect.reflect(table.snapshot, FIRST, dead(replace(LAST, checkpoint=replace(NOTE, step=30))), now=START))
    published = table.snapshot.checkpoint(JOB)
    assert published is not None
    assert published.note.step == 40
