"""The keys of a file of one's own device types and of a price file, and those of a node's storage.

``trimtab.spec.devices_document`` and ``trimtab.spec.prices_document`` turn what was read into what the planner uses.
"""

from __future__ import annotations

from trimtab.inventory import DeviceKind, Market
from trimtab.spec.fields import Boolean, Choice, Day, Field, FieldType, ListOf, MapOf, Object, Quantity, Text
from trimtab.spec.units import bandwidth_bytes_per_s, count, number, size_bytes, usd
from trimtab.strategy import Precision

PEAK_NAMES = (*(precision.value for precision in Precision), "mxfp4")
NAME_OF_TYPE = Text(pattern=r"[A-Za-z0-9][A-Za-z0-9 ._/+-]*", allowed="letters, digits, spaces and ._/+-", max_length=128)
SOURCE = Text(max_length=512, allowed="where it comes from: a document, a page or a measurement")
DAY = Day()
_SHAPE = Text(pattern=r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4}){0,2}", allowed="lengths of the axes such as 4x4x8", max_length=20)


def _number(low: float, high: float, *, above: bool = False) -> FieldType:
    return Quantity(reader=number, low=low, high=high, text=False, above=above)


def figure(kind: FieldType) -> Object:
    """A figure: its value, or a mapping that says where the value comes from too."""
    return Object(
        shorthand="value",
        fields={
            "value": Field(kind=kind, doc="The figure.", required=True),
            "source": Field(kind=SOURCE, doc="Where it comes from; the entry's source by default."),
            "date": Field(kind=DAY, doc="Day of the figure; the entry's date by default."),
        },
    )


_RATE = figure(_number(0, 1e6, above=True))
_LATENCY = figure(_number(0, 1e6))
_COUNT = figure(Quantity(reader=count, low=1, high=1e6))
_GIB = figure(_number(0, 1e6, above=True))


def _link(what: str, more: dict[str, Field] | None = None) -> Object:
    return Object(
        fields={
            "name": Field(kind=NAME_OF_TYPE, doc=f"Name of the {what}."),
            "bandwidth_gb_per_s": Field(kind=_RATE, doc="All that one device can send, one way, in GB/s."),
            "latency_us": Field(kind=_LATENCY, doc="Start-up time of one message in microseconds."),
            **(more or {}),
        }
    )


OWN_STORAGE = Object(
    fields={
        "local_read_gb_per_s": Field(kind=_RATE, doc="Reading from the node's own disks, all together, in GB/s."),
        "local_write_gb_per_s": Field(kind=_RATE, doc="Writing to them."),
        "network_read_gb_per_s": Field(kind=_RATE, doc="Reading of one node from storage on the network."),
        "network_write_gb_per_s": Field(kind=_RATE, doc="Writing to it."),
        "host_memory_gib": Field(kind=_GIB, doc="Memory of the node's host in GiB."),
        "host_link_gb_per_s": Field(kind=_RATE, doc="Between host memory and one device, one way."),
    }
)

OWN_TORUS = Object(
    fields={
        "axes": Field(kind=figure(_SHAPE), doc="Largest slice, such as 16x16."),
        "slices": Field(kind=figure(ListOf(item=_SHAPE, max_items=256)), doc="Other slices that can be had."),
        "ring_length": Field(kind=_COUNT, doc="An axis closes into a ring where its length is a multiple of this."),
        "in_cubes": Field(kind=Boolean(), doc="Rings only in slices of whole cubes of that length."),
        "link_bandwidth_gb_per_s": Field(kind=_RATE, doc="One link, one way."),
    }
)

OWN_DEVICE = Object(
    fields={
        "name": Field(
            kind=NAME_OF_TYPE,
            doc="Name of the type. One that the catalogue knows, by any spelling, is changed in the figures given here.",
            required=True,
        ),
        "aliases": Field(kind=ListOf(item=NAME_OF_TYPE, max_items=64), doc="Further spellings."),
        "kind": Field(kind=Choice(enum=DeviceKind), doc="Family of the device; a new type needs it."),
        "source": Field(kind=SOURCE, doc="Where the figures of this entry come from; the file's name by default."),
        "date": Field(kind=DAY, doc="Day of these figures."),
        "memory_gib": Field(kind=_GIB, doc="Memory of one device in GiB; a new type needs it."),
        "memory_bandwidth_gb_per_s": Field(kind=_RATE, doc="Memory bandwidth in GB/s; a new type needs it."),
        "peak_tflops": Field(
            kind=MapOf(item=_RATE, key_pattern="|".join(PEAK_NAMES), allowed=", ".join(PEAK_NAMES)),
            doc="Dense peak in TFLOP/s by number format; a new type needs one at least.",
        ),
        "link": Field(
            kind=_link("link", {"domain_size": Field(kind=_COUNT, doc="Devices that the link joins; 1 by default.")}),
            doc="Link to the other devices of the domain.",
        ),
        "devices_per_node": Field(kind=_COUNT, doc="Devices of the usual node."),
        "network": Field(kind=_link("network"), doc="What joins such nodes where an inventory says nothing."),
        "storage": Field(kind=OWN_STORAGE, doc="What such a node reads and writes."),
        "torus": Field(kind=OWN_TORUS, doc="Grid that joins the devices."),
    }
)

DEVICES_FILE = Object(
    fields={"devices": Field(kind=ListOf(item=OWN_DEVICE, single=False, max_items=1000), doc="The types.", required=True)}
)

OWN_PRICE = Object(
    fields={
        "pool": Field(
            kind=Text(max_length=256, allowed="the id of a pool, or a pattern such as local-*"),
            doc="Pools that the price is for, by id or pattern. Give pool or device.",
        ),
        "device": Field(kind=NAME_OF_TYPE, doc="Device type that the price is for, by any spelling."),
        "provider": Field(kind=NAME_OF_TYPE, doc="Who asks it (with device)."),
        "region": Field(kind=NAME_OF_TYPE, doc="Where (with device)."),
        "market": Field(kind=Choice(enum=Market), doc="Terms.", required=True),
        "usd_per_device_hour": Field(
            kind=Quantity(reader=usd, low=0, high=1e6), doc="US dollars for one device for one hour.", required=True
        ),
        "source": Field(kind=SOURCE, doc="Where the price comes from.", required=True),
        "date": Field(kind=DAY, doc="Day of the price; a day that is yet to come is an error.", required=True),
        "interruptions_per_hour": Field(kind=_number(0, 1000), doc="Expected interruptions of a node per hour (with pool)."),
        "startup_s": Field(kind=_number(0, 1e7), doc="Seconds until a node that is not there can be used (with pool)."),
    }
)

PRICES_FILE = Object(fields={"prices": Field(kind=ListOf(item=OWN_PRICE, single=False), doc="The prices.", required=True)})

STORAGE = Object(
    fields={
        "local_read": Field(
            kind=Quantity(reader=bandwidth_bytes_per_s, low=1, high=1e15), doc="Reading from the node's own disks."
        ),
        "local_write": Field(kind=Quantity(reader=bandwidth_bytes_per_s, low=1, high=1e15), doc="Writing to them."),
        "network_read": Field(
            kind=Quantity(reader=bandwidth_bytes_per_s, low=1, high=1e15), doc="Reading of one node from storage on the network."
        ),
        "network_write": Field(kind=Quantity(reader=bandwidth_bytes_per_s, low=1, high=1e15), doc="Writing to it."),
        "host_memory": Field(kind=Quantity(reader=size_bytes, low=1, high=1e15), doc="Memory of the node's host, such as 2TiB."),
        "host_link": Field(
            kind=Quantity(reader=bandwidth_bytes_per_s, low=1, high=1e15), doc="Between host memory and one device, one way."
        ),
        "source": Field(kind=SOURCE, doc="Where these figures come from; the inventory file by default."),
        "date": Field(kind=DAY, doc="Day of these figures."),
    }
)
