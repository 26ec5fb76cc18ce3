"""Documents that people write: job, inventory, devices, prices and measured steps, their schemas and their checks."""

from trimtab.spec.devices_document import KnownDevices, parse_devices
from trimtab.spec.fields import Marks
from trimtab.spec.inventory_document import parse_inventory
from trimtab.spec.job import parse_job
from trimtab.spec.json_schema import devices_schema, inventory_schema, job_schema, measured_schema, prices_schema
from trimtab.spec.measured_document import MeasuredFile, MeasuredSteps, job_paths, parse_measured
from trimtab.spec.presets import PRESETS
from trimtab.spec.prices_document import OwnPrices, PoolPrice, parse_prices

__all__ = [
    "PRESETS",
    "KnownDevices",
    "Marks",
    "MeasuredFile",
    "MeasuredSteps",
    "OwnPrices",
    "PoolPrice",
    "devices_schema",
    "inventory_schema",
    "job_paths",
    "job_schema",
    "measured_schema",
    "parse_devices",
    "parse_inventory",
    "parse_job",
    "parse_measured",
    "parse_prices",
    "prices_schema",
]
