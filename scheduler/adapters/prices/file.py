"""Prices from a YAML file, and an assumed price, labelled so, for every pool that the file does not name.

The file (``prices.yaml`` in the state folder, or where the settings say)::

    prices:
      - pool: local-*              # a pool id or a pattern
        market: on-demand          # reserved, on-demand or spot
        usd_per_device_hour: 2.10
        source: https://example.org/prices
        retrieved_on: 2026-01-05
        interruptions_per_hour: 0  # optional
        startup_s: 0               # optional
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from trimtab.errors import Problem, SpecError
from trimtab.ids import OfferId
from trimtab.inventory import DeviceKind, Inventory, Market, Offer, Pool

ASSUMED_USD_PER_CORE_HOUR = 0.04
"""What a core-hour of a general-purpose cloud machine costs on demand, to one digit: an assumption, shown as one."""
ASSUMED_USD_PER_ACCELERATOR_HOUR = 2.0
ASSUMED_ON = "2026-01-01"
_KEYS = ("pool", "market", "usd_per_device_hour", "source", "retrieved_on", "interruptions_per_hour", "startup_s")
_NEEDED = _KEYS[:5]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceLine:
    """One line of the file; ``pool`` may be a pattern."""

    pool: str
    market: Market
    usd_per_device_hour: float
    source: str
    retrieved_on: str
    interruptions_per_hour: float = 0.0
    startup_s: float = 0.0


class FilePrices:
    """PriceBook over a file that is read again when it changes. A pool that no line names gets an assumed on-demand price."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._lines: tuple[PriceLine, ...] = ()

    def offers(self, at: datetime, inventory: Inventory) -> Sequence[Offer]:
        """See the port. Raises SpecError for a file that cannot be read, naming every problem."""
        self._refresh()
        found: list[Offer] = []
        for pool in inventory.pools:
            named: dict[Market, PriceLine] = {}
            for line in self._lines:
                if fnmatchcase(pool.id, line.pool):
                    named.setdefault(line.market, line)
            found.extend(_offer(pool, line) for line in named.values())
            if not named:
                found.append(_offer(pool, _assumed(inventory, pool)))
        return tuple(found)

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._lines = None, ()
            return
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._lines = parse_prices(self._path.read_text(encoding="utf-8"), source=str(self._path))
            self._stamp = stamp


def _offer(pool: Pool, line: PriceLine) -> Offer:
    return Offer(
        id=OfferId(f"{pool.id}/{line.market}"),
        pool_id=pool.id,
        market=line.market,
        price_usd_per_device_hour=line.usd_per_device_hour,
        source=line.source,
        retrieved_on=line.retrieved_on,
        interruptions_per_hour=line.interruptions_per_hour,
        startup_s=line.startup_s,
        nodes_now=pool.num_nodes,
        nodes_possible=pool.num_nodes,
    )


def _assumed(inventory: Inventory, pool: Pool) -> PriceLine:
    if inventory.device_type(pool.device_type).kind is DeviceKind.CPU:
        cores = max((len(device.cores) for node in pool.nodes for device in node.devices), default=1)
        price, what = ASSUMED_USD_PER_CORE_HOUR * max(1, cores), f"{ASSUMED_USD_PER_CORE_HOUR} USD per core-hour"
    else:
        price, what = ASSUMED_USD_PER_ACCELERATOR_HOUR, f"{ASSUMED_USD_PER_ACCELERATOR_HOUR} USD per device-hour"
    return PriceLine(
        pool=pool.id,
        market=Market.ON_DEMAND,
        usd_per_device_hour=price,
        source=f"assumed: {what}; no price file names pool {pool.id}",
        retrieved_on=ASSUMED_ON,
    )


def parse_prices(text: str, *, source: str) -> tuple[PriceLine, ...]:
    """The lines of a price file. Raises SpecError listing every problem with its line."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = f"not YAML: {getattr(error, 'problem', error)}"
        problem = Problem(path="", message=message, line=mark.line + 1 if mark is not None else None)
        raise SpecError([problem], source=source) from None
    if not isinstance(data, Mapping) or set(data) != {"prices"} or not isinstance(data["prices"], list):
        problem = Problem(path="", message="expected one key with a list", line=1, allowed="prices")
        raise SpecError([problem], source=source)
    nodes = root.value[0][1].value if root is not None else []
    problems: list[Problem] = []
    lines: list[PriceLine] = []
    for index, (entry, node) in enumerate(zip(data["prices"], nodes, strict=True)):
        found = _entry_problems(entry, f"prices[{index}]", node.start_mark.line + 1)
        problems.extend(found)
        if not found:
            lines.append(_line(entry))
    if problems:
        raise SpecError(problems, source=source)
    return tuple(lines)


def _line(entry: Mapping[str, Any]) -> PriceLine:
    return PriceLine(
        pool=entry["pool"],
        market=Market(entry["market"]),
        usd_per_device_hour=float(entry["usd_per_device_hour"]),
        source=entry["source"],
        retrieved_on=str(entry["retrieved_on"]),
        interruptions_per_hour=float(entry.get("interruptions_per_hour", 0.0)),
        startup_s=float(entry.get("startup_s", 0.0)),
    )


def _entry_problems(entry: object, path: str, line: int) -> list[Problem]:
    if not isinstance(entry, Mapping):
        return [Problem(path=path, message=f"expected a mapping, found {type(entry).__name__}", line=line)]
    found = [_unknown_key(f"{path}.{key}", str(key), line) for key in entry if key not in _KEYS]
    found += [Problem(path=f"{path}.{key}", message="missing", line=line) for key in _NEEDED if key not in entry]
    for key in ("pool", "source"):
        if key in entry and not (isinstance(entry[key], str) and entry[key]):
            found.append(Problem(path=f"{path}.{key}", message=f"expected text, found {entry[key]!r}", line=line))
    markets = [market.value for market in Market]
    if "market" in entry and entry["market"] not in markets:
        message, near = f"found {entry['market']!r}", _nearest(str(entry["market"]), markets)
        found.append(Problem(path=f"{path}.market", message=message, line=line, allowed=", ".join(markets), nearest=near))
    for key in ("usd_per_device_hour", "interruptions_per_hour", "startup_s"):
        if key in entry and not _is_amount(entry[key]):
            message = f"expected a number of at least 0, found {entry[key]!r}"
            found.append(Problem(path=f"{path}.{key}", message=message, line=line))
    if "retrieved_on" in entry and not _is_date(entry["retrieved_on"]):
        message = f"expected a date such as 2026-01-05, found {entry['retrieved_on']!r}"
        found.append(Problem(path=f"{path}.retrieved_on", message=message, line=line))
    return found


def _unknown_key(path: str, key: str, line: int) -> Problem:
    return Problem(path=path, message="unknown key", line=line, allowed=", ".join(_KEYS), nearest=_nearest(key, _KEYS))


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_date(value: object) -> bool:
    if isinstance(value, date):
        return True
    try:
        date.fromisoformat(str(value))
    except ValueError:
        return False
    return True


def _nearest(found: str, allowed: Sequence[str]) -> str | None:
    close = difflib.get_close_matches(found, allowed, n=1)
    return close[0] if close else None
