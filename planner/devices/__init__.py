"""Device catalogue, names and bundled prices."""

from planner.devices.catalogue import catalogue, device_type, entries, nearest_name, raw_entries, spellings, with_own
from planner.devices.entry import PEAKS, CatalogueEntry, Figure
from planner.devices.names import nearest, normalised, resolve
from planner.devices.prices import prices, prices_of

__all__ = [
    "PEAKS",
    "CatalogueEntry",
    "Figure",
    "catalogue",
    "device_type",
    "entries",
    "nearest",
    "nearest_name",
    "normalised",
    "prices",
    "prices_of",
    "raw_entries",
    "resolve",
    "spellings",
    "with_own",
]
