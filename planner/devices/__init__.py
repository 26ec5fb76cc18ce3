"""Device catalogue, names and bundled prices."""

from planner.devices.catalogue import catalogue, device_type, entries, nearest_name, spellings
from planner.devices.entry import PEAKS, CatalogueEntry, Figure
from planner.devices.names import nearest, normalised, resolve
from planner.devices.prices import STALE_AFTER_DAYS, Price, age_days, is_stale, prices, prices_of

__all__ = [
    "PEAKS",
    "STALE_AFTER_DAYS",
    "CatalogueEntry",
    "Figure",
    "Price",
    "age_days",
    "catalogue",
    "device_type",
    "entries",
    "is_stale",
    "nearest",
    "nearest_name",
    "normalised",
    "prices",
    "prices_of",
    "resolve",
    "spellings",
]
