"""What each training framework does in a step, as facts: formats on the wire and in memory, kernels that it has, what it
overlaps.

A profile is chosen by name; its fitted constants have the same name in ``constants.json``. Sources: the frameworks' own code and
documentation, named at each field where it is not plain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from planner.training.habits import HabitArrays
from trimtab.errors import Problem, SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Habits of one framework.

    Bytes are per element: ``gradient_bytes`` of a gradient on the wire and as it is added up, ``held_gradient_bytes`` as it stays
    in memory, ``shard_bytes`` of a parameter that is fully sharded, ``logit_bytes`` of all copies of the logits.

    - ``fuses_adding``: weight gradients are added inside the product.
    - ``sends_by_parts``: tensor ranks send a part each to the next stage; ``spare_buffers``: micro-batches that a stage holds
      beyond its depth.
    - ``process_share``: how much of what a process holds beside tensors its memory reports count.
    - ``selective_drop``: share of a layer that selective recompute does not keep; ``keeps_low``: inputs of 8-bit products are
    kept
      in 8 bits (Transformer Engine).
    - ``sends_copies_once``: a token goes once to each node of its experts; ``hides_experts``: expert exchange is hidden behind
      another chunk of an interleaved pipeline; ``expert_tp_follows``: experts are cut as wide as the rest unless said otherwise.
    - ``keeps_gathered``: in a pipeline, fully sharded parameters stay gathered and gradients whole until the step ends;
      ``gathered_layers``: layers whose parameters are gathered at a time.
    - ``sequence_parallel``: used with tensor parallelism unless said otherwise.
    - ``memory_error_frac``: half width of the 80 % interval of peak memory.
    """

    name: str
    about: str
    fused_attention: bool = True
    gradient_bytes: float = 4.0
    held_gradient_bytes: float = 4.0
    gather_bytes: float = 2.0
    shard_bytes: float = 4.0
    logit_bytes: float = 6.0
    fuses_adding: bool = False
    sends_by_parts: bool = False
    spare_buffers: float = 0.0
    process_share: float = 0.0
    selective_drop: float = 0.5
    sends_copies_once: bool = False
    hides_experts: bool = False
    keeps_gathered: bool = False
    keeps_low: bool = False
    gathered_layers: float = 2.0
    expert_tp_follows: bool = False
    sequence_parallel: bool = True
    memory_error_frac: float = 0.1


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                name="megatron",
                keeps_low=True,
                memory_error_frac=0.05,
                about="Megatron-LM with fused attention, fp32 gradients added inside the products, nothing overlapped",
                fused_attention=True,
                expert_tp_follows=True,
                sequence_parallel=False,
                fuses_adding=True,
                sends_by_parts=True,
            ),
            Profile(
                name="megatron-2021",
                memory_error_frac=0.05,
                about="Megatron-LM before fused attention (fp16, scores written to memory)",
                fused_attention=False,
                sequence_parallel=False,
                fuses_adding=True,
                sends_by_parts=True,
            ),
            Profile(
                name="nemo",
                keeps_low=True,
                memory_error_frac=0.05,
                about="NeMo on Megatron-Core and Transformer Engine",
                expert_tp_follows=True,
                fuses_adding=True,
                sends_by_parts=True,
            ),
            Profile(
                name="megatron-bridge",
                keeps_low=True,
                memory_error_frac=0.05,
                about="Megatron-Bridge: Megatron-Core with DeepEP dispatch and expert exchange hidden by interleaving",
                sends_copies_once=True,
                hides_experts=True,
                fuses_adding=True,
                sends_by_parts=True,
            ),
            Profile(
                name="deepspeed",
                about="Megatron-DeepSpeed: unfused attention, DeepSpeed's pipeline engine with one buffer more than stages",
                fused_attention=False,
                held_gradient_bytes=2.0,
                logit_bytes=10.0,
                sends_by_parts=True,
                spare_buffers=1.0,
                process_share=1.0,
                sequence_parallel=False,
            ),
            Profile(
                name="deepspeed-fork",
                about="a research fork of Megatron-DeepSpeed with uneven stages (Sailor)",
                fused_attention=False,
                gradient_bytes=2.0,
                held_gradient_bytes=2.0,
                logit_bytes=10.0,
                process_share=0.5,
                sequence_parallel=False,
            ),
            Profile(
                name="composer-fsdp",
                memory_error_frac=0.08,
                about="Composer and LLM Foundry on PyTorch FSDP, with a fused loss",
                logit_bytes=6.0,
                sequence_parallel=False,
            ),
            Profile(name="torchtitan", about="torchtitan on FSDP2", logit_bytes=14.0, process_share=0.2, keeps_gathered=True),
            Profile(name="generic", about="a framework that is not named", logit_bytes=14.0, process_share=1.0),
            Profile(
                name="maxtext",
                about="MaxText on TPU: XLA gathers matrix by matrix over ICI and tiles the loss over the vocabulary",
                logit_bytes=1.0,
                gathered_layers=0.7,
            ),
            Profile(name="maxtext-gpu", about="MaxText on GPU: XLA", logit_bytes=4.0, gathered_layers=0.7),
            Profile(
                name="trimtab", about="the built-in trainer: FSDP2, tensor parallelism and pipelines in PyTorch", logit_bytes=14.0
            ),
        )
    }
)


def profile_of(name: str) -> Profile:
    """The profile of that name. Raises SpecError listing what is allowed."""
    if name in PROFILES:
        return PROFILES[name]
    raise SpecError([Problem(path="framework", message=f"unknown framework {name!r}", allowed=", ".join(sorted(PROFILES)))])


def habit_arrays(profiles: Sequence[Profile], *, is_half: Sequence[bool], halves_gradients: Sequence[bool]) -> HabitArrays:
    """Habits as arrays, one profile per strategy or one for all.

    ``is_half``: gathered parameters are 16 bits wide. ``halves_gradients``: gradients are exchanged and added in 16 bits (fp16
    training of DeepSpeed, pure 16-bit training of FSDP).
    """
    lowered = [
        np.array(profile.gradient_bytes if not low else 2.0) for profile, low in zip(profiles, halves_gradients, strict=True)
    ]

    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([float(getattr(profile, name)) for profile in profiles])

    gradients = np.array([float(value) for value in lowered])
    return HabitArrays(
        fused_attention=column("fused_attention"),
        gradient_bytes=gradients,
        held_gradient_bytes=np.minimum(column("held_gradient_bytes"), gradients),
        gather_bytes=np.where(np.array(is_half), 2.0, 4.0),
        shard_bytes=column("shard_bytes"),
        sends_by_parts=column("sends_by_parts"),
        accumulate_bytes=2.0 * gradients + np.where(column("fuses_adding") > 0, 0.0, 4.0),
        sends_copies_once=column("sends_copies_once"),
        hides_experts=column("hides_experts"),
        counts_process=column("process_share"),
        spare_buffers=column("spare_buffers"),
        logit_bytes=column("logit_bytes"),
        selective_drop=column("selective_drop"),
        keeps_gathered=column("keeps_gathered"),
        keeps_low=column("keeps_low"),
        gathered_layers=column("gathered_layers"),
    )
