"""The agent's only second thread: it speaks to the gateway, so that a gateway that hangs never stalls the ranks.

Changes of state wait in order until they are taken; progress is only ever the newest; a beat goes out each second. A call without
an answer is repeated as it was, with the same sequence number.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from trimtab.ids import AttemptRef
from trimtab.orders import CheckpointNote, ExitNote, Progress, PublishRequest, ReportKind, ReportReply, RunReport
from workers.agent.client import GatewayAway, GatewayClient, GatewayRefusal

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 3.0
_MAX_QUEUED = 1000
_UNUSABLE = (400, 413)  # this very report will never be taken
_jitter = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A checkpoint's answer; not ``accepted`` means fenced."""

    step: int
    accepted: bool


@dataclass(slots=True, kw_only=True)
class Asked:
    """What the control plane asked for since it was last looked at."""

    fenced: bool = False
    stop_grace_s: float | None = None
    checkpoint: bool = False
    published: list[Published] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    kind: ReportKind
    at: datetime
    progress: Progress | None = None
    checkpoint: CheckpointNote | None = None
    exit: ExitNote | None = None
    summary: Mapping[str, float] = field(default_factory=dict)


def _is_ready(item: _Draft | PublishRequest) -> bool:
    return isinstance(item, _Draft) and item.kind is ReportKind.READY


class Reporter:
    """Reports of one attempt. All public methods are for the main thread and return at once, ``wait_until_told`` apart."""

    def __init__(
        self, client: GatewayClient, attempt: AttemptRef, *, beat_s: float, wake: Callable[[], None], log: Callable[[str], None]
    ) -> None:
        self._client = client
        self._attempt = attempt
        self._beat_s = beat_s
        self._wake = wake
        self._log = log
        self._changed = threading.Condition()
        self._queue: deque[_Draft | PublishRequest] = deque()
        self._unanswered: RunReport | None = None
        self._progress: Progress | None = None
        self._sequence = 0
        self._beat_at_s = 0.0
        self._away_since_s: float | None = None
        self._finishing = False
        self._ended = False
        self._asked = Asked()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to speak."""
        self._thread.start()

    def tell(self, kind: ReportKind, *, summary: Mapping[str, float] | None = None) -> None:
        """A change of state: never dropped, in order."""
        self._put(_Draft(kind=kind, at=datetime.now(UTC), summary=summary or {}))

    def progress(self, progress: Progress) -> None:
        """The newest progress; one that was not sent yet is replaced."""
        with self._changed:
            self._progress = progress

    def publish(self, note: CheckpointNote) -> None:
        """Ask to make this the checkpoint to resume from; the answer comes by ``asked``."""
        self._put(PublishRequest(attempt=self._attempt, note=note))

    def asked(self) -> Asked:
        """What was asked since the last call."""
        with self._changed:
            asked, self._asked = self._asked, Asked()
            return asked

    def finish(self, exit_note: ExitNote, summary: Mapping[str, float]) -> RunReport:
        """The last report, with the number that it will have; nothing new is said after it."""
        with self._changed:
            if self._progress is not None:
                self._queue.append(_Draft(kind=ReportKind.PROGRESS, at=datetime.now(UTC), progress=self._progress))
                self._progress = None
            notes = [item.note for item in self._queue if isinstance(item, PublishRequest)]
            before = sum(isinstance(item, _Draft) for item in self._queue)
            last = _Draft(
                kind=ReportKind.EXITED,
                at=datetime.now(UTC),
                exit=exit_note,
                summary=summary,
                checkpoint=notes[-1] if notes else None,
            )
            self._queue.append(last)
            self._finishing = True
            self._changed.notify_all()
            return self._report(last, self._sequence + before + 1)

    def wait_until_told(self, timeout_s: float) -> bool:
        """Whether all was taken in time. What was not stands in the exit file."""
        with self._changed:
            told = self._changed.wait_for(lambda: self._ended or not (self._queue or self._unanswered), timeout_s)
            self._ended = True
            self._changed.notify_all()
            return told and not (self._queue or self._unanswered)

    def _put(self, item: _Draft | PublishRequest) -> None:
        with self._changed:
            if len(self._queue) >= _MAX_QUEUED:
                # Only checkpoints and summaries can come this often, and of both the newest is the one that counts.
                del self._queue[next(i for i, queued in enumerate(self._queue) if not _is_ready(queued))]
            self._queue.append(item)
            self._changed.notify_all()

    def _report(self, draft: _Draft, sequence: int) -> RunReport:
        return RunReport(
            attempt=self._attempt,
            sequence=sequence,
            kind=draft.kind,
            at=draft.at,
            progress=draft.progress,
            checkpoint=draft.checkpoint,
            exit=draft.exit,
            summary=draft.summary,
        )

    # ------------------------------------------------------------------------------------------------ on the reporter's thread

    def _run(self) -> None:
        delay_s = 0.0
        while True:
            item = self._next(delay_s)
            if item is None:
                return
            try:
                self._send(item)
            except GatewayAway as error:
                delay_s = self._failed(str(error), delay_s)
            except GatewayRefusal as refusal:
                delay_s = self._failed(str(refusal), delay_s)
                if refusal.status in _UNUSABLE:
                    self._done(item)
            else:
                delay_s = 0.0
                if self._away_since_s is not None:
                    self._log(f"the gateway answers again after {time.monotonic() - self._away_since_s:.1f} s")
                    self._away_since_s = None

    def _next(self, delay_s: float) -> RunReport | PublishRequest | None:
        """The next call to make, once it is due; None at the end."""
        with self._changed:
            if delay_s:
                self._changed.wait_for(lambda: self._ended, delay_s)
            while not self._ended:
                item = self._due()
                if item is not None:
                    return item
                self._changed.wait(None if self._finishing else max(0.01, self._beat_at_s - time.monotonic()))
            return None

    def _due(self) -> RunReport | PublishRequest | None:
        if self._unanswered is not None:
            return self._unanswered
        draft: _Draft | None = None
        if not self._finishing and time.monotonic() >= self._beat_at_s:
            kind = ReportKind.HEARTBEAT if self._progress is None else ReportKind.PROGRESS
            draft = _Draft(kind=kind, at=datetime.now(UTC), progress=self._progress)
            self._progress = None
            self._beat_at_s = time.monotonic() + self._beat_s
        elif self._queue:
            head = self._queue[0]
            if isinstance(head, PublishRequest):
                return head  # stays in the queue until it has an answer, so that it is never lost
            draft = head
            self._queue.popleft()
        if draft is None:
            return None
        self._sequence += 1
        self._unanswered = self._report(draft, self._sequence)
        return self._unanswered

    def _send(self, item: RunReport | PublishRequest) -> None:
        if isinstance(item, PublishRequest):
            accepted = self._client.publish(item).accepted
            with self._changed:
                self._asked.published.append(Published(step=item.note.step, accepted=accepted))
                self._asked.fenced |= not accepted
        else:
            self._take(self._client.report(item))
        self._done(item)
        self._wake()

    def _take(self, reply: ReportReply) -> None:
        with self._changed:
            self._asked.fenced |= reply.fenced
            self._asked.checkpoint |= reply.checkpoint_now
            if reply.stop:
                self._asked.stop_grace_s = reply.grace_s

    def _done(self, item: RunReport | PublishRequest) -> None:
        with self._changed:
            if isinstance(item, RunReport):
                self._unanswered = None
            elif item in self._queue:
                self._queue.remove(item)
            self._changed.notify_all()

    def _failed(self, reason: str, delay_s: float) -> float:
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            self._log(f"the gateway does not answer, trying again until it does: {reason}")
        longer = min(_LONGEST_DELAY_S, max(_FIRST_DELAY_S, delay_s * 2))
        return longer * _jitter.uniform(0.5, 1.0)
