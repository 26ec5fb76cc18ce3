"""The executor port over the simulated world."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.adapters.simulated.world import World
from scheduler.ports import Observation
from trimtab.ids import AttemptRef
from trimtab.inventory import Inventory
from trimtab.orders import RunOrder


class SimulatedExecutor:
    """Commands go to the world at once; their effects come with the world's time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, order: RunOrder) -> None:
        """See the port."""
        self._world.launch(order)

    def stop(self, attempt: AttemptRef, *, grace_s: float) -> None:
        """See the port."""
        self._world.ask_stop(attempt, grace_s=grace_s)

    def checkpoint_now(self, attempt: AttemptRef) -> None:
        """See the port."""
        self._world.ask_checkpoint(attempt)

    def observe(self) -> Sequence[Observation]:
        """See the port."""
        return self._world.observe()

    def forget(self, attempt: AttemptRef) -> None:
        """See the port."""
        self._world.forget(attempt)

    def inventory(self) -> Inventory:
        """See the port."""
        return self._world.inventory()

    def close(self) -> None:
        """See the port."""
