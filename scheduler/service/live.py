"""What is known of attempts only in memory: signs of life, progress, tries. None of it is durable and all of it may be lost."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from trimtab.ids import AttemptRef
from trimtab.orders import Progress, ReportKind, RunReport

_LAST_WORDS_KEPT = 1000


@dataclass(slots=True)
class _Signs:
    seen_s: float
    known_since_s: float
    sequence: int = -1
    progress: Progress | None = None
    progressed_s: float | None = None
    observed_at: datetime | None = None
    num_start_tries: int = 0
    next_start_s: float = 0.0
    next_stop_s: float = 0.0
    checkpoint_wanted: bool = False


class LiveBook:
    """Thread-safe notes by attempt. Times are monotonic seconds, passed in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._signs: dict[AttemptRef, _Signs] = {}
        self._last_words: OrderedDict[AttemptRef, tuple[Progress | None, datetime | None]] = OrderedDict()

    def _of(self, ref: AttemptRef, now_s: float) -> _Signs:
        return self._signs.setdefault(ref, _Signs(seen_s=now_s, known_since_s=now_s))

    def keep_only(self, refs: Iterable[AttemptRef]) -> None:
        """Forget all other attempts, but for the last progress of the newest of them."""
        wanted = set(refs)
        with self._lock:
            for ref in [ref for ref in self._signs if ref not in wanted]:
                signs = self._signs.pop(ref)
                if signs.progress is not None:
                    self._last_words[ref] = (signs.progress, signs.observed_at)
            while len(self._last_words) > _LAST_WORDS_KEPT:
                self._last_words.popitem(last=False)

    def seen(self, ref: AttemptRef, now_s: float) -> None:
        """A sign of life."""
        with self._lock:
            self._of(ref, now_s).seen_s = now_s

    def silent_s(self, ref: AttemptRef, now_s: float) -> float:
        """Seconds since the last sign of life, or since this process first asked."""
        with self._lock:
            return now_s - self._of(ref, now_s).seen_s

    def is_new(self, report: RunReport, now_s: float) -> bool:
        """Has no report with this or a higher sequence number been taken yet?"""
        with self._lock:
            return report.sequence > self._of(report.attempt, now_s).sequence

    def take(self, report: RunReport, now_s: float, at: datetime) -> None:
        """Keep what a report tells of the moment; called after its durable part is committed."""
        with self._lock:
            signs = self._of(report.attempt, now_s)
            signs.seen_s, signs.observed_at = now_s, at
            signs.sequence = max(signs.sequence, report.sequence)
            if report.kind is ReportKind.READY or signs.progressed_s is None:
                signs.progressed_s = now_s
            if report.progress is not None:
                old = signs.progress
                if old is None or (report.progress.step, report.progress.phase) != (old.step, old.phase):
                    signs.progressed_s = now_s
                signs.progress = report.progress

    def progress(self, ref: AttemptRef) -> tuple[Progress | None, datetime | None]:
        """The newest progress and when the newest report arrived."""
        with self._lock:
            signs = self._signs.get(ref)
            if signs is None or signs.progress is None:
                return self._last_words.get(ref, (None, None if signs is None else signs.observed_at))
            return signs.progress, signs.observed_at

    def progress_age_s(self, now_s: float) -> Mapping[AttemptRef, float]:
        """Seconds since each attempt that reports last got further."""
        with self._lock:
            return {ref: now_s - s.progressed_s for ref, s in self._signs.items() if s.progressed_s is not None}

    def known_s(self, now_s: float) -> Mapping[AttemptRef, float]:
        """Seconds since each attempt was first noted here."""
        with self._lock:
            return {ref: now_s - signs.known_since_s for ref, signs in self._signs.items()}

    def start_due(self, ref: AttemptRef, now_s: float) -> bool:
        """May a start be tried now?"""
        with self._lock:
            return self._of(ref, now_s).next_start_s <= now_s

    def start_refused(self, ref: AttemptRef, now_s: float, *, retry_s: float) -> None:
        """The executor refused to start the attempt."""
        with self._lock:
            signs = self._of(ref, now_s)
            signs.num_start_tries += 1
            signs.next_start_s = now_s + retry_s

    def start_tries(self) -> Mapping[AttemptRef, int]:
        """Refused starts by attempt."""
        with self._lock:
            return {ref: s.num_start_tries for ref, s in self._signs.items() if s.num_start_tries}

    def stop_due(self, ref: AttemptRef, now_s: float, *, repeat_s: float) -> bool:
        """Should a stop be asked for now? True at most once in ``repeat_s``."""
        with self._lock:
            signs = self._of(ref, now_s)
            if signs.next_stop_s > now_s:
                return False
            signs.next_stop_s = now_s + repeat_s
            return True
