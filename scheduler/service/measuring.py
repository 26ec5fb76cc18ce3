"""Keeps what finished runs measured, and gives plans what is kept. Whatever goes wrong here, no job notices."""

from __future__ import annotations

import logging
from collections.abc import Callable

from scheduler.core.measure import Finished, NotMeasured, finished, measurement_of, objection
from scheduler.core.snapshot import Snapshot
from scheduler.service.wiring import ControlPorts
from trimtab.errors import TrimtabError
from trimtab.ids import AttemptRef, DeviceTypeName
from trimtab.inventory import Inventory
from trimtab.job import Attempt
from trimtab.lifecycle import AttemptState
from trimtab.measurement import StepMeasurement
from trimtab.plan import Candidate

_LOG = logging.getLogger("trimtab.measuring")
_MOST_PER_CYCLE = 20
_RETRY_S = 30.0


def known_measurements(ports: ControlPorts) -> tuple[StepMeasurement, ...]:
    """What plans are calibrated by; nothing where it cannot be read, which ``Measuring.trouble`` says."""
    try:
        return ports.measurements.kept().measurements
    except TrimtabError:
        return ()


class Measuring:
    """One step per cycle of the loop: each attempt that ended is looked at once, and kept once however often it is looked at."""

    def __init__(
        self, ports: ControlPorts, *, candidate: Callable[[Attempt], Candidate | None], on_news: Callable[[], None]
    ) -> None:
        self._ports = ports
        self._candidate = candidate
        self._on_news = on_news
        self._done: set[AttemptRef] = set()
        self._not_before_s = 0.0
        self.trouble = ""

    def step(self, snapshot: Snapshot, inventory: Inventory) -> None:
        """Keep what attempts that ended since the last step measured. Raises nothing that comes from a job or from the shelf."""
        now_s = self._ports.clock.monotonic()
        if now_s < self._not_before_s:
            return
        try:
            self._take(snapshot, inventory)
            self.trouble = ""
        except Exception as error:  # a job that is done must stay done, whatever is wrong with the shelf
            self._not_before_s = now_s + _RETRY_S
            sentence = f"measured runs are neither kept nor used: {error}"
            if sentence != self.trouble:
                _LOG.warning("%s", sentence)
            self.trouble = sentence

    def _take(self, snapshot: Snapshot, inventory: Inventory) -> None:
        kept = self._ports.measurements.kept()
        new = [a for a in snapshot.attempts() if a.state is AttemptState.RELEASED and a.ref not in self._done]
        if not new:
            return
        known = {entry.source for entry in kept.measurements} | set(kept.forgotten)
        num_looked_at = 0
        for attempt in new:
            job = snapshot.job(attempt.job_id)
            end = finished(job, attempt) if job is not None else None
            if end is not None and objection(end) is None and end.source not in known:
                num_looked_at += 1
                if num_looked_at > _MOST_PER_CYCLE:
                    return
                self._keep(end, attempt, inventory)
            self._done.add(attempt.ref)

    def _keep(self, end: Finished, attempt: Attempt, inventory: Inventory) -> None:
        found = measurement_of(end, self._candidate(attempt), _device_type(attempt, inventory))
        outcome = str(found) if isinstance(found, NotMeasured) else "measured"
        self._ports.telemetry.count("measured_runs", outcome=outcome)
        if isinstance(found, NotMeasured):
            _LOG.info("%s measures nothing: %s", attempt.ref, found)
        elif self._ports.measurements.put(found):
            _LOG.info("%s took %.2f times its raw prediction (%s)", attempt.ref, found.ratio, found.key)
            self._on_news()


def _device_type(attempt: Attempt, inventory: Inventory) -> DeviceTypeName | None:
    pool_ids = {device.pool_id for device in attempt.devices}
    types = {pool.device_type for pool in inventory.pools if pool.id in pool_ids}
    return next(iter(types)) if len(types) == 1 else None
