"""The keys of a job file and of an inventory file. ``trimtab.spec.job`` turns what was read into kernel dataclasses."""

from __future__ import annotations

from enum import StrEnum

from trimtab.inventory import DeviceKind, Market
from trimtab.jobspec import JobKind, Optimize, Trainer
from trimtab.model import ActivationKind, ModelFamily, NormKind, PositionKind
from trimtab.spec.device_schema import DAY, SOURCE, STORAGE
from trimtab.spec.fields import Boolean, Choice, CountRange, Field, FieldType, ListOf, MapOf, Object, Quantity, Text
from trimtab.spec.units import bandwidth_bytes_per_s, count, duration_s, fraction, number, size_bytes, usd
from trimtab.strategy import Precision, Recompute
from trimtab.workload import DataKind, OptimizerKind, ScheduleKind

NAME = Text(
    pattern=r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?",
    allowed="lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
    max_length=63,
)
FREE_NAME = Text(pattern=r"[A-Za-z0-9][A-Za-z0-9 ._/+-]*", allowed="letters, digits, spaces and ._/+-", max_length=128)


def _count(low: int, high: float = 1e15) -> FieldType:
    return Quantity(reader=count, low=low, high=high)


def _number(low: float, high: float, *, above: bool = False) -> FieldType:
    return Quantity(reader=number, low=low, high=high, text=False, above=above)


class TrainPrecision(StrEnum):
    """Precisions that the training worker runs; a subset of ``trimtab.strategy.Precision`` by value."""

    FP64 = "fp64"
    FP32 = "fp32"
    BF16 = "bf16"


DURATION = Quantity(reader=duration_s, low=0, high=3.2e8)
FRACTION = Quantity(reader=fraction, low=0, high=1)
MONEY = Quantity(reader=usd, low=0, high=1e12, above=True)


class ExplicitFamily(StrEnum):
    """Families that explicit fields can describe; the others come from a config."""

    DECODER = ModelFamily.DECODER.value
    ENCODER_DECODER = ModelFamily.ENCODER_DECODER.value


MODEL = Object(
    shorthand="preset",
    fields={
        "preset": Field(kind=FREE_NAME, doc="A known model by name, instead of the fields below."),
        "config": Field(kind=Text(), doc="Path of a Hugging Face config.json, instead of the fields below."),
        "document": Field(kind=Text(), doc="Path of a document that trimtab trace wrote, instead of the fields below."),
        "name": Field(kind=FREE_NAME, doc="Name for people; the job's name by default."),
        "family": Field(kind=Choice(enum=ExplicitFamily), doc="Arrangement of the stacks."),
        "layers": Field(kind=_count(1, 10_000), doc="Layers of the decoder."),
        "encoder_layers": Field(kind=_count(1, 10_000), doc="Layers of the encoder (encoder-decoder only)."),
        "hidden_size": Field(kind=_count(1, 1e6), doc="Width of the model."),
        "heads": Field(kind=_count(1, 10_000), doc="Attention heads; must divide hidden_size unless head_size is given."),
        "kv_heads": Field(kind=_count(1, 10_000), doc="Key and value heads; heads by default, must divide heads."),
        "head_size": Field(kind=_count(1, 100_000), doc="Width of a head; hidden_size / heads by default."),
        "feed_forward_size": Field(kind=_count(1, 1e7), doc="Inner width of the feed-forward block."),
        "gated": Field(kind=Boolean(), doc="Gated feed-forward block with three matrices; true by default."),
        "activation": Field(kind=Choice(enum=ActivationKind), doc="Feed-forward activation; silu by default."),
        "bias": Field(kind=Boolean(), doc="Biases in all linear layers and norms; false by default."),
        "norm": Field(kind=Choice(enum=NormKind), doc="Normalisation; rms by default."),
        "position": Field(kind=Choice(enum=PositionKind), doc="How positions enter; rotary by default."),
        "vocab_size": Field(kind=_count(2, 1e8), doc="Rows of the embedding; the tokeniser is trained to this size."),
        "max_positions": Field(kind=_count(1, 1e9), doc="Longest sequence; the workload's lengths by default."),
        "tied_embeddings": Field(kind=Boolean(), doc="Embedding and head share one matrix; true by default."),
        "attention_window": Field(
            kind=_count(1, 1e9), doc="Sliding window of the decoder's attention in tokens; none by default."
        ),
    },
)

DATA = Object(
    fields={
        "kind": Field(
            kind=Choice(enum=DataKind),
            doc="Source of samples: stdlib (this Python's own source text), translation (a seeded grammar), text (your files), "
            "external (read by another trainer's own program).",
            required=True,
        ),
        "paths": Field(kind=ListOf(item=Text()), doc="Files or folders of text, relative to the job file (kind text)."),
        "held_out": Field(kind=FRACTION, doc="Share of the documents kept for evaluation; 5% by default."),
        "max_size": Field(kind=Quantity(reader=size_bytes, low=1, high=1e15), doc="Read at most this much text, such as 8MB."),
        "pairs": Field(kind=_count(100, 1e8), doc="Sentence pairs that the grammar writes (kind translation)."),
        "seed": Field(kind=_count(0, 2**31 - 1), doc="Seed of the split and of the grammar; 0 by default."),
    }
)

OPTIMIZER = Object(
    shorthand="name",
    fields={
        "name": Field(kind=Choice(enum=OptimizerKind), doc="Update rule; adamw by default."),
        "learning_rate": Field(kind=_number(0, 100, above=True), doc="Highest learning rate; 0.001 by default."),
        "schedule": Field(kind=Choice(enum=ScheduleKind), doc="Learning rate after the warm-up; cosine by default."),
        "warmup_steps": Field(kind=_count(0, 1e9), doc="Steps of linear warm-up; 0 by default."),
        "final_learning_rate": Field(kind=FRACTION, doc="Last learning rate as a share of the highest; 10% by default."),
        "beta1": Field(kind=_number(0, 0.999999), doc="AdamW first moment decay; 0.9 by default."),
        "beta2": Field(kind=_number(0, 0.999999), doc="AdamW second moment decay; 0.95 by default."),
        "epsilon": Field(kind=_number(0, 1, above=True), doc="AdamW denominator; 1e-8 by default."),
        "momentum": Field(kind=_number(0, 0.999999), doc="SGD momentum; 0 by default."),
        "weight_decay": Field(kind=_number(0, 10), doc="Decoupled weight decay of matrices; 0 by default."),
        "clip_norm": Field(kind=_number(0, 1e9), doc="Global gradient norm limit; 0 (the default) clips nothing."),
    },
)

WORKLOAD = Object(
    fields={
        "steps": Field(kind=_count(1, 1e12), doc="Optimizer steps. Give steps, tokens or samples."),
        "tokens": Field(kind=_count(1), doc="Tokens to train on, such as 15B; rounded up to whole steps."),
        "samples": Field(kind=_count(1), doc="Samples to train on; rounded up to whole steps."),
        "sequence_length": Field(kind=_count(2, 1e8), doc="Tokens of a sample (of the decoder).", required=True),
        "source_length": Field(kind=_count(2, 1e8), doc="Tokens of the encoder's side (encoder-decoder only)."),
        "global_batch": Field(kind=_count(1, 1e9), doc="Samples of one optimizer step over all devices.", required=True),
        "precision": Field(kind=Choice(enum=TrainPrecision), doc="Number format of the matrix multiplications; fp32 by default."),
        "optimizer": Field(kind=OPTIMIZER, doc="Optimizer and learning-rate schedule."),
        "seed": Field(kind=_count(0, 2**31 - 1), doc="Seed of weights and sample order; 0 by default."),
        "evaluate_every": Field(kind=_count(0, 1e12), doc="Steps between evaluations on held-out data; 0: only at the end."),
    }
)

DEVICES = Object(
    shorthand="count",
    fields={
        "count": Field(
            kind=CountRange(),
            doc="Devices: 2, 1..8, or 2.. for no upper end.",
        ),
        "types": Field(kind=ListOf(item=FREE_NAME), doc="Allowed device types; any by default."),
    },
)

STRATEGY = Object(
    fields={
        "dp": Field(kind=_count(1, 1e6), doc="Fix the data-parallel (replica) degree."),
        "fsdp": Field(kind=_count(1, 1e6), doc="Fix the sharding degree."),
        "tp": Field(kind=_count(1, 1e6), doc="Fix the tensor-parallel degree."),
        "pp": Field(kind=_count(1, 1e6), doc="Fix the pipeline degree."),
        "micro_batch": Field(kind=_count(1, 1e6), doc="Fix the samples of one micro-batch."),
        "recompute": Field(kind=Choice(enum=Recompute), doc="Fix which activations are recomputed."),
    }
)

LIMITS = Object(
    fields={
        "max_cost": Field(kind=MONEY, doc="Most that the job may cost, in US dollars."),
        "max_hours": Field(kind=_number(0, 1e6, above=True), doc="Most hours that the job may run."),
        "max_hourly": Field(kind=MONEY, doc="Most that its devices may cost per hour, in US dollars."),
    }
)

CHECKPOINT = Object(
    fields={
        "every_steps": Field(kind=_count(0, 1e12), doc="Steps between checkpoints; 0: by time alone."),
        "every": Field(kind=DURATION, doc="Time between checkpoints; 60s by default, 0s: by steps alone."),
        "keep": Field(kind=_count(1, 1000), doc="Verified checkpoints to keep; 2 by default."),
    }
)

RETRY = Object(
    fields={
        "max_failures": Field(kind=_count(0, 1e6), doc="Failed attempts to forgive; 3 by default."),
        "max_losses": Field(kind=_count(0, 1e6), doc="Attempts lost with their node to forgive; 10 by default."),
        "backoff": Field(kind=DURATION, doc="Wait after the first failure, doubled each time; 2s by default."),
        "max_backoff": Field(kind=DURATION, doc="Longest such wait; 5m by default."),
    }
)

COMMAND = Object(
    fields={
        "argv": Field(
            kind=ListOf(item=Text(max_length=65_536), max_items=256, single=False),
            doc="Program and arguments; no shell reads them.",
            required=True,
        ),
        "working_dir": Field(kind=Text(), doc="Folder to start in, relative to the job file; that folder by default."),
        "environment": Field(
            kind=MapOf(
                item=Text(pattern=r"(?s).*", allowed="text", max_length=32_768),
                key_pattern=r"[A-Za-z_][A-Za-z0-9_]*",
                allowed="letters, digits and _",
            ),
            doc="Environment variables added to the agent's.",
        ),
        "ranks_per_node": Field(kind=_count(1, 4096), doc="Processes on each node; one per device by default."),
    }
)

JOB = Object(
    fields={
        "kind": Field(
            kind=Choice(enum=JobKind), doc="What the job does: train a model, or run a command of yours.", required=True
        ),
        "name": Field(kind=NAME, doc="Name for people; need not be unique.", required=True),
        "model": Field(kind=MODEL, doc="The model (kind train)."),
        "data": Field(kind=DATA, doc="The data set (kind train)."),
        "workload": Field(kind=WORKLOAD, doc="The training run (kind train)."),
        "framework": Field(
            kind=Choice(enum=Trainer),
            doc="What trains: trimtab (default) is started here, a plan for another trainer is exported to it.",
        ),
        "command": Field(kind=COMMAND, doc="The program (kind command)."),
        "devices": Field(kind=DEVICES, doc="How many devices, and which; any number of any type by default."),
        "market": Field(kind=ListOf(item=Choice(enum=Market)), doc="Allowed markets; any by default."),
        "strategy": Field(kind=STRATEGY, doc="Parts of the strategy to fix; the planner chooses the rest."),
        "limits": Field(kind=LIMITS, doc="Hard limits on cost and time."),
        "optimize": Field(kind=Choice(enum=Optimize), doc="What matters most: time (default), cost, balanced or deadline."),
        "deadline": Field(kind=DURATION, doc="Time from the submit within which the job should be done, such as 12h."),
        "checkpoint": Field(kind=CHECKPOINT, doc="When to write checkpoints."),
        "retry": Field(kind=RETRY, doc="How often to try again."),
        "project": Field(kind=NAME, doc="Tenant that the job belongs to."),
        "queue": Field(kind=NAME, doc="Queue."),
        "priority": Field(kind=_number(-1000, 1000), doc="Higher goes first; 0 by default."),
        "grace": Field(kind=DURATION, doc="Time between being asked to stop and being killed; 30s by default."),
        "labels": Field(
            kind=MapOf(
                item=Text(max_length=256), key_pattern=r"[A-Za-z0-9._/-]{1,63}", allowed="letters, digits and ._/-", max_items=64
            ),
            doc="Free labels.",
        ),
    }
)

LINK = Object(
    fields={
        "bandwidth": Field(
            kind=Quantity(reader=bandwidth_bytes_per_s, low=1, high=1e15),
            doc="One-way bandwidth of one device, such as 450 GB/s or 400 Gbit/s.",
            required=True,
        ),
        "latency": Field(kind=DURATION, doc="Latency of one message, such as 5us.", required=True),
    }
)

OFFER = Object(
    fields={
        "market": Field(kind=Choice(enum=Market), doc="Terms: reserved, on-demand or spot.", required=True),
        "price_per_device_hour": Field(
            kind=Quantity(reader=usd, low=0, high=1e6),
            doc="US dollars for one device for one hour; the cheapest known price that fits by default.",
        ),
        "source": Field(kind=SOURCE, doc="Where the price comes from; needed beside a price."),
        "date": Field(kind=DAY, doc="Day of the price; needed beside a price. A day that is yet to come is an error."),
        "provider": Field(kind=FREE_NAME, doc="Provider whose known price is taken; any by default."),
        "region": Field(kind=FREE_NAME, doc="Region whose known price is taken; any by default."),
        "interruptions_per_hour": Field(kind=_number(0, 1000), doc="Expected interruptions of a node per hour."),
        "startup": Field(kind=DURATION, doc="Time until a node that is not there can be used."),
        "max_nodes": Field(kind=_count(0, 1e6), doc="Nodes that could be had in all; those that are there by default."),
    }
)

POOL = Object(
    fields={
        "name": Field(kind=NAME, doc="Name of the pool.", required=True),
        "device_type": Field(kind=FREE_NAME, doc="A type of the catalogue or of device_types below.", required=True),
        "nodes": Field(kind=_count(0, 1e6), doc="Nodes that are there.", required=True),
        "devices_per_node": Field(kind=_count(1, 4096), doc="Devices of each node.", required=True),
        "zone": Field(kind=FREE_NAME, doc="Zone; 'default' if left out."),
        "node_link": Field(kind=LINK, doc="Link between the devices of a node; the device type's by default."),
        "network": Field(kind=LINK, doc="Link between nodes, as one device's share of it; the device type's by default."),
        "storage": Field(kind=STORAGE, doc="What a node reads and writes; what is left out is as the device type says."),
        "offers": Field(kind=ListOf(item=OFFER, single=False), doc="Terms under which the pool can be had.", required=True),
    }
)

DEVICE_TYPE = Object(
    fields={
        "name": Field(kind=FREE_NAME, doc="Name of the device type.", required=True),
        "kind": Field(kind=Choice(enum=DeviceKind), doc="cpu, gpu or tpu.", required=True),
        "memory": Field(kind=Quantity(reader=size_bytes, low=1, high=1e15), doc="Memory, such as 80GiB.", required=True),
        "tflops": Field(
            kind=MapOf(item=_number(0, 1e9, above=True), key_pattern="|".join(p.value for p in Precision), allowed="a precision"),
            doc="Dense peak in TFLOP/s by precision.",
            required=True,
        ),
        "memory_bandwidth": Field(
            kind=Quantity(reader=bandwidth_bytes_per_s, low=1, high=1e15), doc="Memory bandwidth.", required=True
        ),
        "link": Field(kind=LINK, doc="Link to the other devices of its domain."),
        "domain_size": Field(kind=_count(1, 1e6), doc="Devices that this link joins; 1 by default."),
        "network": Field(kind=LINK, doc="Link between nodes where a pool names none."),
        "storage": Field(kind=STORAGE, doc="What a node of them reads and writes."),
        "source": Field(kind=FREE_NAME, doc="Where the figures come from.", required=True),
        "date": Field(kind=DAY, doc="Day of the figures.", required=True),
    }
)

INVENTORY = Object(
    fields={
        "pools": Field(kind=ListOf(item=POOL, single=False), doc="The pools.", required=True),
        "device_types": Field(
            kind=ListOf(item=DEVICE_TYPE, single=False), doc="Device types beside or instead of the catalogue's."
        ),
    }
)
