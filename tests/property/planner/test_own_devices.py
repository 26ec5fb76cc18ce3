"""Own figures laid over the catalogue: what is stated counts, what is not stays, whatever the type and the figure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from planner.devices import entries, raw_entries, with_own
from trimtab.spec import KnownDevices, parse_devices

NOW = datetime(2026, 11, 25, tzinfo=UTC)
KNOWN = KnownDevices(find=raw_entries().get, nearest=lambda name: None)
GROUPS = {"link": ("bandwidth_gb_per_s", "latency_us"), "network": ("bandwidth_gb_per_s", "latency_us")}
STORAGE = ("network_read_gb_per_s", "network_write_gb_per_s", "host_memory_gib", "host_link_gb_per_s")

names = st.sampled_from(sorted(entries()))
numbers = st.floats(min_value=0.01, max_value=1e5, allow_nan=False)
stated_figures = st.one_of(
    numbers,
    st.fixed_dictionaries({"value": numbers, "source": st.sampled_from(["a page", "measured"]), "date": st.just("2026-11-01")}),
)


@st.composite
def own_entries(draw: st.DrawFn) -> dict[str, Any]:
    """An entry of the file: a known name, and some of its figures."""
    name = draw(names)
    part: dict[str, Any] = {"name": name}
    for key in draw(st.sets(st.sampled_from(["memory_gib", "memory_bandwidth_gb_per_s"]))):
        part[key] = draw(stated_figures)
    for group, keys in GROUPS.items():
        chosen = draw(st.sets(st.sampled_from(keys)))
        if chosen:
            part[group] = {key: draw(stated_figures) for key in sorted(chosen)}
    chosen = draw(st.sets(st.sampled_from(STORAGE)))
    if chosen:
        part["storage"] = {key: draw(stated_figures) for key in sorted(chosen)}
    peaks = sorted(entries()[name].device_type.peak_flops)
    chosen = draw(st.sets(st.sampled_from(peaks)))
    if chosen:
        part["peak_tflops"] = {key: draw(stated_figures) for key in sorted(chosen)}
    return part


def stated(part: dict[str, Any]) -> dict[str, Any]:
    """Every stated figure by the catalogue's name of it."""
    out: dict[str, Any] = {}
    for key, item in part.items():
        if key == "peak_tflops":
            out.update({f"peak_{name}_tflops": value for name, value in item.items()})
        elif key in ("link", "network", "storage"):
            out.update({f"{key}_{name}": value for name, value in item.items()})
        elif key != "name":
            out[key] = item
    return out


@given(own_entries())
def test_what_is_stated_counts_and_what_is_not_stays(part: dict[str, Any]) -> None:
    raws = parse_devices({"devices": [part]}, known=KNOWN, source="mine.yaml", now=NOW)
    found = with_own(raws)
    assert set(found) == set(entries())
    assert all(found[name] is entries()[name] for name in entries() if name != part["name"])
    own = stated(part)
    usual = {figure.name: figure for figure in entries()[part["name"]].figures}
    made = {figure.name: figure for figure in found[part["name"]].figures}
    assert set(made) == set(usual)
    for name, figure in made.items():
        if name not in own:
            assert figure == usual[name]
        else:
            value = own[name]["value"] if isinstance(own[name], dict) else own[name]
            assert figure.value == value
            assert figure.source.startswith("mine.yaml")
