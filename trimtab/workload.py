"""What is to be done with a model: the training run, its data and its optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from trimtab.strategy import Precision


class OptimizerKind(StrEnum):
    """Update rule."""

    ADAMW = "adamw"
    SGD = "sgd"


class ScheduleKind(StrEnum):
    """Learning-rate schedule after the warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"
    LINEAR = "linear"


class DataKind(StrEnum):
    """Where samples come from."""

    STDLIB = "stdlib"
    TRANSLATION = "translation"
    TEXT = "text"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """Optimizer and learning-rate schedule; ``clip_norm`` 0 clips nothing."""

    kind: OptimizerKind = OptimizerKind.ADAMW
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: ScheduleKind = ScheduleKind.COSINE
    warmup_steps: int = 0
    final_learning_rate_frac: float = 0.1
    clip_norm: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """The data set. ``paths`` are files or folders of text for kind text; ``held_out_frac`` of the documents is never trained on.

    Kind external is read by another trainer's own program: images, audio, token files of its own.

    ``size`` is the number of sentence pairs that the translation grammar writes.
    """

    kind: DataKind
    paths: tuple[str, ...] = ()
    held_out_frac: float = 0.05
    max_bytes: int | None = None
    size: int = 20_000
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainWorkload:
    """A training run of ``num_steps`` optimizer steps.

    ``sequence_length`` in tokens per sample (of the decoder; ``source_length`` is the encoder's, 0 where there is none);
    ``global_batch`` in samples per step. ``num_steps`` is what tokens or samples in the job file come to.
    """

    num_steps: int
    sequence_length: int
    global_batch: int
    data: DataSpec
    source_length: int = 0
    precision: Precision = Precision.FP32
    optimizer: OptimizerSpec = OptimizerSpec()
    seed: int = 0
    evaluate_every_steps: int = 0

    @property
    def tokens_per_sample(self) -> int:
        """Tokens of one sample, encoder and decoder together."""
        return self.sequence_length + self.source_length

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step."""
        return self.tokens_per_sample * self.global_batch
