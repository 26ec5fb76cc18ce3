"""Documents that people write: the job file and the inventory file, their schemas and their checks."""

from trimtab.spec.fields import Marks
from trimtab.spec.inventory_document import parse_inventory
from trimtab.spec.job import parse_job
from trimtab.spec.json_schema import inventory_schema, job_schema
from trimtab.spec.presets import PRESETS

__all__ = ["PRESETS", "Marks", "inventory_schema", "job_schema", "parse_inventory", "parse_job"]
