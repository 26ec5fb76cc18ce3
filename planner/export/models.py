"""What models are to a target: the plain decoder that most trainers build, and the words for what is beyond it."""

from __future__ import annotations

from planner.export.types import ExportCase
from trimtab.model import ActivationKind, ModelFamily, ModelSpec, NormKind, PositionKind, StackRole, StackSpec
from trimtab.strategy import Precision
from trimtab.workload import OptimizerKind

TF32_VARIABLE = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
"""PyTorch's own variable that lets float32 matrix multiplications use TF32 (aten/src/ATen/Context.h)."""


def decoders(model: ModelSpec) -> tuple[StackSpec, ...]:
    """The decoder's stacks, in order."""
    return tuple(stack for stack in model.stacks if stack.role is StackRole.DECODER)


def beyond_decoder(model: ModelSpec) -> tuple[str, ...]:
    """What of a model is no decoder of equal width: towers, encoders, parts, widths of their own."""
    checks = (
        (model.family is ModelFamily.DECODER, f"a model of family {model.family}"),
        (len(decoders(model)) == len(model.stacks), "a tower beside the decoder"),
        (not model.parts, "parts outside the layers"),
        (not any(stack.cross_attention for stack in model.stacks), "cross-attention"),
        (all(model.width(stack) == model.hidden_size for stack in model.stacks), "stacks of several widths"),
        (model.has_head and model.vocab_size > 0, "a model without token embeddings or head"),
    )
    return tuple(text for good, text in checks if not good)


def beyond_llama(model: ModelSpec) -> tuple[str, ...]:
    """What of a model is no run of Llama's layers: RMS norms, rotary positions, gated SiLU, no biases, full attention."""
    stacks = decoders(model)
    checks = (
        (model.position is PositionKind.ROTARY, f"{model.position} positions"),
        (all(s.norm is NormKind.RMS and not s.norm_bias for s in stacks), "other norms than RMS"),
        (all(s.num_norms in (None, 2) and s.final_norm for s in stacks[-1:]), "another number of norms"),
        (all(s.feed_forward.gated and s.feed_forward.activation is ActivationKind.SILU for s in stacks), "another activation"),
        (not any(s.feed_forward.bias or s.attention.qkv_bias or s.attention.output_bias for s in stacks), "biases"),
        (all(s.attention.window is None for s in stacks), "sliding windows"),
        (all(s.attention.latent is None for s in stacks), "latent attention"),
        (len(stacks) <= 1, "layers of several kinds"),
    )
    return (*beyond_decoder(model), *(text for good, text in checks if not good))


def is_expert(model: ModelSpec) -> bool:
    """Whether any layer has experts."""
    return any(stack.feed_forward.experts is not None for stack in model.stacks)


def tf32_environment(case: ExportCase) -> dict[str, str]:
    """The variable of TF32 where the precision is that."""
    return {TF32_VARIABLE: "1"} if case.strategy.precision is Precision.TF32 else {}


def is_adamw(case: ExportCase) -> bool:
    """Whether the optimizer is AdamW."""
    return case.train.optimizer.kind is OptimizerKind.ADAMW


def variables(case: ExportCase) -> dict[str, str]:
    """The strategy as variables for a program of one's own: ``TRIMTAB_DP``, ``TRIMTAB_TP`` and so on, one for each dimension."""
    s = case.strategy
    values: dict[str, object] = {
        "dp": s.dp,
        "fsdp": s.fsdp,
        "zero_stage": s.zero_stage,
        "tp": s.tp,
        "sequence_parallel": int(s.sequence_parallel),
        "cp": s.cp,
        "pp": s.pp,
        "virtual_stages": s.virtual_stages,
        "schedule": s.schedule,
        "ep": s.ep,
        "etp": s.etp,
        "micro_batch": s.micro_batch,
        "num_micro_batches": s.num_micro_batches,
        "recompute": s.recompute,
        "precision": s.precision,
        "offload": s.offload,
        "stage_layers": ",".join(str(layers) for layers in case.stage_layers),
        "global_batch": s.global_batch,
        "sequence_length": case.train.sequence_length,
    }
    return {f"TRIMTAB_{name.upper()}": str(value) for name, value in values.items()}
