"""Job files and inventory files; the trees of all documents are read by ``scheduler.adapters.documents.tree``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from scheduler.adapters.documents.tree import MAX_BYTES, MAX_DEPTH, MAX_NODES, read_document, read_text
from trimtab.inventory import DeviceType, Inventory
from trimtab.jobspec import JobSpec
from trimtab.prices import PriceBook
from trimtab.spec import MeasuredFile, MeasuredSteps, job_paths, parse_inventory, parse_job, parse_measured

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "load_inventory", "load_job", "load_measured", "read_document", "read_text"]


def load_job(path: Path) -> JobSpec:
    """The job of a job file. Raises SpecError with every problem, NotFoundError for a missing file."""
    tree, marks = read_document(path)
    return parse_job(tree, marks, base_dir=path.resolve().parent, source=str(path))


def load_inventory(path: Path, *, catalogue: dict[str, DeviceType], prices: PriceBook | None = None, now: datetime) -> Inventory:
    """The inventory of an inventory file; ``prices`` are for offers that name none.

    Raises SpecError with every problem, NotFoundError for a missing file.
    """
    tree, marks = read_document(path)
    return parse_inventory(tree, marks, catalogue=catalogue, prices=prices or PriceBook(), source=str(path), now=now)


def load_measured(path: Path, *, drop_first: int, now: datetime) -> tuple[MeasuredFile, tuple[MeasuredSteps, ...]]:
    """The runs of a file of measured steps, and the file for what is found wrong with them later. Job files are found from its
    folder.

    Raises SpecError with every problem, NotFoundError for a missing file.
    """
    tree, marks = read_document(path)
    file = MeasuredFile(path=path, marks=marks, drop_first=drop_first, now=now)
    folder = path.resolve().parent
    jobs = {name: load_job(folder / name) for name in job_paths(tree) if (folder / name).is_file()}
    return file, parse_measured(tree, file, jobs=jobs)
