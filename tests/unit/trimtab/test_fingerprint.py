from __future__ import annotations

from dataclasses import replace

import pytest

from trimtab.fingerprint import NodeFacts, cpu_slots, node_facts, physical_cores, slug

FACTS = NodeFacts(cpu_model="a", num_cores=2, memory_gib=8, gpus=(), driver="", versions={"torch": "2.0"})


def test_any_fact_changes_the_fingerprint() -> None:
    changes = [
        {"cpu_model": "b"},
        {"num_cores": 4},
        {"memory_gib": 9},
        {"gpus": ("g",)},
        {"driver": "1"},
        {"versions": {"torch": "3"}},
    ]
    found = {FACTS.fingerprint(), *(replace(FACTS, **change).fingerprint() for change in changes)}
    assert len(found) == len(changes) + 1


def test_this_machine_is_the_same_each_time() -> None:
    assert node_facts().fingerprint() == node_facts().fingerprint()
    assert node_facts().cpu_model


@pytest.mark.parametrize(("name", "wanted"), [("AMD EPYC", "amd-epyc"), (" x@2.0GHz ", "x-2-0ghz"), ("…", "unknown")])
def test_slugs(name: str, wanted: str) -> None:
    assert slug(name) == wanted


def test_every_device_has_cores_and_cores_are_shared_only_when_they_run_out() -> None:
    cores = physical_cores()
    slots = cpu_slots(len(cores))
    assert sorted(core for slot in slots for core in slot) == sorted(cores)
    assert all(cpu_slots(3 * len(cores)))


def test_no_device_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 device is needed, found 0"):
        cpu_slots(0)
