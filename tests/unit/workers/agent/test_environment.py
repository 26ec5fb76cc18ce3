"""The environment of a rank."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support.attempts import MODEL
from trimtab.ids import AttemptRef, NodeId, PoolId, UnitId
from trimtab.inventory import DeviceKind
from trimtab.job import DeviceRef
from trimtab.jobspec import CommandSpec, JobKind, JobSpec
from trimtab.orders import RankSlot, RunOrder
from trimtab.workload import DataKind, DataSpec, TrainWorkload
from workers.agent.environment import Rendezvous, places, rank_environment

MEET = Rendezvous(address="127.0.0.1", port=1234, kernel_path="/kernel", order_file="/order", plan_file="/plan")
COMMAND = JobSpec(name="x", kind=JobKind.COMMAND, command=CommandSpec(argv=("x",), working_dir="/"))
TRAIN = JobSpec(
    name="x",
    kind=JobKind.TRAIN,
    model=MODEL,
    train=TrainWorkload(num_steps=1, sequence_length=8, global_batch=1, data=DataSpec(kind=DataKind.STDLIB)),
)


def slot(rank: int, local_rank: int, index: int, kind: DeviceKind = DeviceKind.GPU, cores: tuple[int, ...] = ()) -> RankSlot:
    device = DeviceRef(pool_id=PoolId("p"), node_id=NodeId("n"), index=index)
    return RankSlot(rank=rank, local_rank=local_rank, device=device, kind=kind, cores=cores)


def order(*slots: RankSlot, spec: JobSpec = COMMAND, **environment: str) -> RunOrder:
    return RunOrder(
        attempt=AttemptRef(unit_id=UnitId("job_x.u0"), number=3),
        job_id=AttemptRef(unit_id=UnitId("job_x.u0"), number=3).job_id,
        spec=spec,
        strategy=None,
        argv=("x",),
        working_dir="/",
        environment=environment,
        slots=slots,
        attempt_dir="/attempt",
        checkpoint_dir="/checkpoints",
        address="unix:/x",
        credential="secret",
        grace_s=1.0,
    )


def environments(made: RunOrder, **base: str) -> list[dict[str, str]]:
    found = places(made)
    return [rank_environment(base, made, place, num_ranks=len(found), meet=MEET) for place in found]


def test_one_gpu_per_rank_shows_all_gpus_in_local_order_as_torchrun_does() -> None:
    first, second = environments(order(slot(1, 1, 2), slot(0, 0, 5)))
    assert first["CUDA_VISIBLE_DEVICES"] == second["CUDA_VISIBLE_DEVICES"] == "5,2"
    assert [first["LOCAL_RANK"], second["LOCAL_RANK"]] == ["0", "1"]
    assert first["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_rank_with_several_gpus_sees_only_its_own() -> None:
    first, second = environments(order(slot(0, 0, 4), slot(0, 0, 5), slot(1, 1, 6), slot(1, 1, 7)))
    assert (first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]) == ("4,5", "6,7")
    assert first["WORLD_SIZE"] == second["WORLD_SIZE"] == "2"


def test_a_rank_on_cores_sees_no_gpu_whatever_it_inherits() -> None:
    (found,) = environments(order(slot(0, 0, 0, DeviceKind.CPU, (2, 3))), CUDA_VISIBLE_DEVICES="0,1")
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    assert found["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(("spec", "threads"), [(COMMAND, "7"), (TRAIN, "1")])
def test_a_users_number_of_threads_stands_and_ours_is_what_was_planned(spec: JobSpec, threads: str) -> None:
    (found,) = environments(order(slot(0, 0, 0, DeviceKind.CPU, (2,)), spec=spec, OMP_NUM_THREADS="7"))
    assert found["OMP_NUM_THREADS"] == threads


def test_the_order_wins_over_what_the_agent_inherits_and_the_run_over_both() -> None:
    made = order(slot(0, 0, 0), A="order", RANK="9", PYTHONPATH="/mine", TRIMTAB_ATTEMPT="forged")
    (found,) = environments(made, A="agent", B="agent", TRIMTAB_RESUME_FROM="/other", TRIMTAB_REPORT_FD="3", TRIMTAB_HOME="/home")
    assert (found["A"], found["B"], found["RANK"]) == ("order", "agent", "0")
    assert found["PYTHONPATH"] == "/kernel:/mine"
    assert found["TRIMTAB_ATTEMPT"] == "job_x.u0.a3"
    assert found["TRIMTAB_HOME"] == "/home"
    assert "TRIMTAB_RESUME_FROM" not in found
    assert "TRIMTAB_REPORT_FD" not in found
    assert "secret" not in " ".join(found.values())


def test_a_retry_is_a_restart_to_torch() -> None:
    made = dataclasses.replace(order(slot(0, 0, 0)), resume_from="/checkpoints/a2/step-7")
    (found,) = environments(made)
    assert found["TORCHELASTIC_RESTART_COUNT"] == "2"
    assert found["TRIMTAB_RESUME_FROM"] == "/checkpoints/a2/step-7"
    assert found["TRIMTAB_CHECKPOINT_DIR"] == "/checkpoints"
