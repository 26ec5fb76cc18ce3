"""The times and counts that decisions go by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits of the loops.

    ``lost_after_s``: no sign of an attempt for so long means that sight is lost. ``claim_within_s``: an attempt that its agent
    has not claimed by then is given up (a later claim is refused, so nothing of it can run). ``max_start_tries`` refused starts
    in a row do the same. ``stall_after_s``: a training run without progress for so long, or for ``stall_steps`` predicted steps
    where that is longer, is stopped as stalled. ``stop_repeat_s``: a stop that shows no effect is asked for again.
    """

    lost_after_s: float = 20.0
    claim_within_s: float = 120.0
    max_start_tries: int = 3
    start_retry_s: float = 2.0
    stop_repeat_s: float = 5.0
    stall_after_s: float = 600.0
    stall_steps: float = 20.0

    def __post_init__(self) -> None:
        for name in ("lost_after_s", "claim_within_s", "start_retry_s", "stop_repeat_s", "stall_after_s", "stall_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, found {getattr(self, name)}")
        if self.max_start_tries < 1:
            raise ValueError(f"max_start_tries must be at least 1, found {self.max_start_tries}")
