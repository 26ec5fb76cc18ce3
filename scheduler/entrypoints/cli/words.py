"""Numbers, times and strategies as people read them. Pure functions."""

from __future__ import annotations

import math
from datetime import datetime

from trimtab.estimate import Estimate
from trimtab.strategy import PipelineSchedule, Recompute, Strategy

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_COUNT_UNITS = ("", "k", "M", "G", "T", "P")
_INTERVAL_SEPARATOR = "–"


def digits(value: float, significant: int = 3) -> str:
    """``value`` with that many significant digits, never in exponent form between 1e-4 and 1e15: ``0.0123  12.3  1,230``."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    rounded = float(f"{value:.{significant - 1}e}")  # 0.99996 has the magnitude of 1.00
    magnitude = math.floor(math.log10(abs(rounded)))
    if magnitude < -4 or magnitude >= 15:
        return f"{value:.{significant - 1}e}"
    decimals = max(0, significant - 1 - magnitude)
    return f"{value:,.{decimals}f}"


def bytes_text(value: float) -> str:
    """Bytes in binary units: ``61.3 GiB``."""
    amount = float(value)
    for unit in _BYTE_UNITS:
        if abs(amount) < 999.5 or unit == _BYTE_UNITS[-1]:
            return f"{amount:.0f} B" if unit == "B" else f"{digits(amount)} {unit}"
        amount /= 1024
    raise AssertionError("the loop ends in its last unit")


def count_text(value: float) -> str:
    """A count in decimal units: ``12.3k``, ``8.03G``."""
    amount = float(value)
    if abs(amount) < 1000:
        return f"{amount:.0f}" if amount == int(amount) else digits(amount)
    for unit in _COUNT_UNITS:
        if abs(amount) < 999.5 or unit == _COUNT_UNITS[-1]:
            return f"{digits(amount)}{unit}"
        amount /= 1000
    raise AssertionError("the loop ends in its last unit")


def seconds_text(value: float) -> str:
    """A time: ``412 µs``, ``84.1 ms``, ``4.21 s``, ``3m 20s``, ``5h 12m``, ``3d 4h``."""
    if not math.isfinite(value):
        return "never"
    size = abs(value)
    if size == 0:
        return "0 s"
    if size < 0.9995e-3:
        return f"{digits(value * 1e6)} µs"
    if size < 0.9995:
        return f"{digits(value * 1e3)} ms"
    if size < 119.5:
        return f"{digits(value)} s"
    if size < 7170:
        minutes, seconds = divmod(round(value), 60)
        return f"{minutes}m {seconds:02d}s"
    if size < 48 * 3600:
        hours, minutes = divmod(round(value / 60), 60)
        return f"{hours}h {minutes:02d}m"
    days, hours = divmod(round(value / 3600), 24)
    return f"{days}d {hours:02d}h"


def usd_text(value: float) -> str:
    """Money: ``$0.0031``, ``$4.20``, ``$1,234``."""
    if not math.isfinite(value):
        return "unknown"
    if value == 0:
        return "$0"
    if abs(value) >= 99.5:
        return f"${value:,.0f}"
    if abs(value) >= 0.995:
        return f"${value:,.2f}"
    return f"${digits(value, 2)}" if value >= 1e-4 else "<$0.0001"


def interval_text(estimate: Estimate, unit: str) -> str:
    """``4.21 s (3.9–4.6)``: the value and its 80 % interval in one unit; ``unit`` is ``seconds``, ``bytes`` or ``usd``."""
    return span_text(estimate.value, estimate.low, estimate.high, unit=unit)


def span_text(value: float, low: float, high: float, *, unit: str) -> str:
    """As ``interval_text``, of plain numbers."""
    numbers = (value, low, high)
    if unit == "usd":
        middle, least, most = (usd_text(part) for part in numbers)
        return middle if least == most else f"{middle} ({least}{_INTERVAL_SEPARATOR}{most})"
    scale, name = _time_unit(value) if unit == "seconds" else _byte_unit(value)
    middle, least, most = (digits(part / scale) for part in numbers)
    return f"{middle} {name}" if least == most else f"{middle} {name} ({least}{_INTERVAL_SEPARATOR}{most})"


def change_text(value: float, base: float) -> str:
    """How a value differs from one above 0: ``−12 %``, ``+3.2 %``, ``×2.4``, ``=``."""
    ratio = value / base
    if abs(ratio - 1.0) < 0.0005:
        return "="
    if ratio >= 1.995:
        return f"×{digits(ratio, 2)}"
    return f"{'+' if ratio > 1.0 else '−'}{percent_text(abs(ratio - 1.0))}"


def _time_unit(value: float) -> tuple[float, str]:
    """Scale and name of the unit in which a time has few digits."""
    for limit, scale, name in ((0.9995e-3, 1e-6, "µs"), (0.9995, 1e-3, "ms"), (119.5, 1.0, "s"), (7170.0, 60.0, "min")):
        if abs(value) < limit:
            return scale, name
    return (3600.0, "h") if abs(value) < 240 * 3600 else (86_400.0, "d")


def _byte_unit(value: float) -> tuple[float, str]:
    """Scale and name of the unit in which an amount of bytes has few digits."""
    scale = 1.0
    for name in _BYTE_UNITS:
        if abs(value) / scale < 999.5:
            return scale, name
        scale *= 1024
    return scale / 1024, _BYTE_UNITS[-1]


def percent_text(frac: float) -> str:
    """A share: ``76 %``, ``0.9 %``, ``0 %``."""
    value = frac * 100
    if not math.isfinite(value):
        return "unknown"
    if value == 0:
        return "0 %"
    return f"{value:.0f} %" if abs(value) >= 9.95 else f"{digits(value, 2)} %"


def moment_text(at: datetime) -> str:
    """A moment in local time."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def age_text(seconds: float) -> str:
    """How long ago, short, for tables: ``12s``, ``4m``, ``3h``, ``5d``."""
    size = max(0.0, seconds)
    for limit, unit_s, unit in ((120, 1, "s"), (7200, 60, "m"), (48 * 3600, 3600, "h")):
        if size < limit:
            return f"{size / unit_s:.0f}{unit}"
    return f"{size / 86_400:.0f}d"


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 device``, ``2 devices``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def strategy_words(strategy: Strategy) -> list[str]:
    """What a strategy does, one plain sentence per choice."""
    out = [_data_words(strategy)]
    if strategy.tp > 1:
        extra = ", norms and residuals split along the sequence" if strategy.sequence_parallel else ""
        out.append(f"each layer's matrices split over {strategy.tp} ranks (tensor parallel{extra})")
    if strategy.cp > 1:
        out.append(f"each sequence split over {strategy.cp} ranks (context parallel)")
    if strategy.pp > 1:
        out.append(_pipeline_words(strategy))
    if strategy.ep > 1:
        out.append(f"experts spread over {strategy.ep} ranks")
    out.append(_batch_words(strategy))
    out.append(
        {
            Recompute.NONE: "all activations kept, none recomputed",
            Recompute.SELECTIVE: "attention activations recomputed in the backward pass",
            Recompute.FULL: "each layer's activations recomputed in the backward pass",
        }[strategy.recompute]
        + f"; matrix multiplications in {strategy.precision}"
    )
    return out


def _data_words(strategy: Strategy) -> str:
    if strategy.data_ranks == 1:
        return "one data rank sees the whole batch" if strategy.world_size > 1 else "one rank does everything"
    if strategy.fsdp == 1:
        return f"{strategy.dp} replicas share each batch (data parallel)"
    shares = {1: "optimizer state", 2: "optimizer state and gradients", 3: "parameters, gradients and optimizer state"}
    text = f"{strategy.fsdp} ranks share each batch and hold {shares[strategy.zero_stage]} in shards (FSDP)"
    return text if strategy.dp == 1 else f"{strategy.dp} replicas; in each, {text}"


def _pipeline_words(strategy: Strategy) -> str:
    order = {
        PipelineSchedule.ONE_F_ONE_B: "one forward, one backward in turn",
        PipelineSchedule.GPIPE: "all forward, then all backward",
        PipelineSchedule.INTERLEAVED: f"interleaved, {strategy.virtual_stages} parts per rank",
        PipelineSchedule.ZERO_BUBBLE: "zero-bubble order",
    }[strategy.schedule]
    layers = f" of {'+'.join(str(n) for n in strategy.stage_layers)} layers" if len(strategy.stage_layers) in range(1, 9) else ""
    return f"layers in {strategy.pp} stages{layers} (pipeline, {order})"


def _batch_words(strategy: Strategy) -> str:
    per_rank = strategy.micro_batch * strategy.num_micro_batches
    samples = plural(strategy.micro_batch, "sample")
    if strategy.num_micro_batches == 1:
        return f"global batch {strategy.global_batch:,}: {samples} on each data rank at once"
    return (
        f"global batch {strategy.global_batch:,}: {per_rank} on each data rank, "
        f"in {strategy.num_micro_batches} micro-batches of {samples}"
    )
