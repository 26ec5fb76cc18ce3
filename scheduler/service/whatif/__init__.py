"""What-if questions about a plan: the words of a change, and the world after it. Pure."""

from scheduler.service.whatif.apply import Knowledge, World, changed
from scheduler.service.whatif.grammar import ChangedField, ChangeKind, WorldChange, parse_changes

__all__ = ["ChangeKind", "ChangedField", "Knowledge", "World", "WorldChange", "changed", "parse_changes"]
