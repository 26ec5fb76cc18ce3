"""The keys of a file of measured steps; ``trimtab.spec.measured_document`` turns what was read into runs."""

from __future__ import annotations

from trimtab.spec.device_schema import DAY, NAME_OF_TYPE, SOURCE
from trimtab.spec.fields import Boolean, Choice, Field, FieldType, ListOf, Object, Quantity, Text
from trimtab.spec.schema import MODEL
from trimtab.spec.units import count, number
from trimtab.strategy import Offload, PipelineSchedule, Precision, Recompute

MAX_STEPS = 50
MAX_RUNS = 1000


def _count(low: int, high: float) -> FieldType:
    return Quantity(reader=count, low=low, high=high)


_SECONDS = Quantity(reader=number, low=0, high=1e7, text=False, above=True)
_DEGREE = _count(1, 1e6)

MEASURED_STRATEGY = Object(
    fields={
        "dp": Field(kind=_DEGREE, doc="Replicas; 1 by default, as the other degrees."),
        "fsdp": Field(kind=_DEGREE, doc="Ranks that shard state."),
        "zero_stage": Field(kind=_count(0, 3), doc="What they shard; 3 by default where fsdp is above 1."),
        "tp": Field(kind=_DEGREE, doc="Tensor-parallel degree."),
        "sequence_parallel": Field(kind=Boolean(), doc="With tp; false by default."),
        "cp": Field(kind=_DEGREE, doc="Context-parallel degree."),
        "pp": Field(kind=_DEGREE, doc="Pipeline stages; layers are split evenly."),
        "virtual_stages": Field(kind=_DEGREE, doc="Chunks of an interleaved stage."),
        "schedule": Field(kind=Choice(enum=PipelineSchedule), doc="Order of the passes; 1f1b by default."),
        "ep": Field(kind=_DEGREE, doc="Expert-parallel degree."),
        "etp": Field(kind=_DEGREE, doc="Tensor-parallel degree of experts."),
        "micro_batch": Field(kind=_DEGREE, doc="Samples of a micro-batch.", required=True),
        "num_micro_batches": Field(
            kind=_DEGREE, doc="Micro-batches of a step on a data rank; what the job's batch leaves, or 1."
        ),
        "recompute": Field(kind=Choice(enum=Recompute), doc="Activations that are computed again; none by default."),
        "offload": Field(kind=Choice(enum=Offload), doc="What the host's memory holds; none by default."),
    }
)

MEASURED_RUN = Object(
    fields={
        "run": Field(
            kind=Text(pattern=r"[A-Za-z0-9][A-Za-z0-9._/#:+-]*", allowed="letters, digits and ._/#:+-", max_length=128),
            doc="Name of the run, unique; file name and position by default. One that is known is replaced.",
        ),
        "job": Field(kind=Text(), doc="Path of a job file: its model and workload. Give job or model."),
        "model": Field(kind=MODEL, doc="The model, as in a job file, with sequence_length beside it."),
        "sequence_length": Field(kind=_count(2, 1e8), doc="Tokens of a sample, of the decoder (with model)."),
        "source_length": Field(kind=_count(2, 1e8), doc="Tokens of the encoder's side (with model)."),
        "precision": Field(kind=Choice(enum=Precision), doc="Format of the matrix products; the job's, or bf16, by default."),
        "device": Field(kind=NAME_OF_TYPE, doc="Device type, by any spelling.", required=True),
        "nodes": Field(kind=_count(1, 1e6), doc="Nodes; 1 by default."),
        "devices_per_node": Field(kind=_count(1, 1e6), doc="Devices of each; what the strategy's degrees come to by default."),
        "framework": Field(kind=Text(max_length=64), doc="Trainer, such as torchtitan; trimtab by default."),
        "strategy": Field(kind=MEASURED_STRATEGY, doc="How the work was split.", required=True),
        "step_s": Field(kind=_SECONDS, doc="Seconds of a typical step. Give step_s or steps_s."),
        "num_steps": Field(kind=_count(1, 1e9), doc="Steps that step_s stands for; 1 by default."),
        "steps_s": Field(
            kind=ListOf(item=_SECONDS, max_items=MAX_STEPS, single=False), doc=f"Seconds of 1 to {MAX_STEPS} steps."
        ),
        "drop_first": Field(
            kind=_count(0, MAX_STEPS - 1), doc="How many of steps_s are warm-up; --drop-first, or 0, by default."
        ),
        "date": Field(kind=DAY, doc="Day of the run; today by default. A day that is yet to come is an error."),
        "source": Field(kind=SOURCE, doc="Where the figures come from, for people."),
    }
)

MEASURED_FILE = Object(
    fields={
        "measurements": Field(
            kind=ListOf(item=MEASURED_RUN, max_items=MAX_RUNS, single=False), doc="The measured runs.", required=True
        )
    }
)
