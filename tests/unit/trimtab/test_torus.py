"""Grids of devices: which slices there are, and where they close into rings."""

from __future__ import annotations

import dataclasses
from itertools import permutations

import pytest

from trimtab import wire
from trimtab.ids import DeviceTypeName
from trimtab.inventory import DeviceKind, DeviceType, Torus

FLAT = Torus(axes=(16, 16), slices=((2, 2), (8, 16), (16, 16)), ring_length=16, in_cubes=False, link_bandwidth_bytes_per_s=45e9)
CUBES = Torus(axes=(4, 8, 8), slices=((1, 2, 2), (2, 4, 4)), ring_length=4, in_cubes=True, link_bandwidth_bytes_per_s=90e9)


def test_sizes() -> None:
    assert (FLAT.num_devices, FLAT.num_links) == (256, 4)
    assert (CUBES.num_devices, CUBES.num_links) == (256, 6)


def test_a_flat_slice_closes_the_axes_that_go_all_the_way_round() -> None:
    assert FLAT.rings((8, 16)) == (False, True)
    assert FLAT.rings((16, 16)) == (True, True)
    assert FLAT.rings((2, 2)) == (False, False)


def test_cubes_close_all_axes_or_none() -> None:
    assert CUBES.rings((2, 4, 4)) == (False, False, False)
    assert CUBES.rings((4, 4, 8)) == (True, True, True)


@pytest.mark.parametrize("shape", [*permutations((2, 4, 4)), *permutations((4, 4, 8)), (4, 4, 16), (4, 4, 4), (4, 8, 8)])
def test_listed_slices_and_whole_cubes_can_be_had_in_any_order_of_axes(shape: tuple[int, ...]) -> None:
    assert CUBES.is_slice(shape)


@pytest.mark.parametrize("shape", [(2, 2, 2), (4, 4, 6), (8, 8, 8), (4, 4), (0, 4, 4), (4, 4, 4, 1)])
def test_other_shapes_cannot(shape: tuple[int, ...]) -> None:
    assert not CUBES.is_slice(shape)


def test_a_flat_grid_has_the_listed_slices_alone() -> None:
    assert FLAT.is_slice((16, 8))
    assert not FLAT.is_slice((16, 32))
    assert not FLAT.is_slice((4, 16))


@pytest.mark.parametrize(
    "change",
    [
        {"axes": ()},
        {"axes": (16, 8)},
        {"axes": (0, 16)},
        {"slices": ((16, 32),)},
        {"slices": ((4, 4, 4),)},
        {"slices": ((4, 2),)},
        {"ring_length": 1},
        {"link_bandwidth_bytes_per_s": 0.0},
    ],
)
def test_a_torus_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"torus|axis|slice"):
        dataclasses.replace(FLAT, **change)  # type: ignore[arg-type]


def test_a_device_type_with_a_torus_travels() -> None:
    made = DeviceType(
        name=DeviceTypeName("grid"), kind=DeviceKind.TPU, memory_bytes=2**34, peak_flops={"bf16": 2e14},
        memory_bandwidth_bytes_per_s=8e11, source="a page", retrieved_on="2026-01-05", devices_per_node=4, torus=CUBES,
    )  # fmt: skip
    assert wire.loads(DeviceType, wire.dumps(made)) == made


def test_a_device_type_written_before_there_was_a_torus_is_read() -> None:
    made = DeviceType(
        name=DeviceTypeName("old"), kind=DeviceKind.GPU, memory_bytes=2**34, peak_flops={"bf16": 2e14},
        memory_bandwidth_bytes_per_s=8e11, source="a page", retrieved_on="2026-01-05",
    )  # fmt: skip
    data = wire.encode(made)
    del data["torus"], data["devices_per_node"]
    assert wire.decode(DeviceType, data) == made
