"""Model arithmetic: exact parameters, forward FLOPs, bytes and saved activations of a ``ModelSpec``."""

from planner.models.counts import (
    ActivationCount,
    LayerFlops,
    LayerParameters,
    ModelParameters,
    SampleFlops,
    StackParameters,
    attention_span,
    head_flops,
    layer_activations,
    layer_flops,
    layer_parameters,
    layers_in_order,
    model_parameters,
    sample_flops,
    stack_tokens,
)

__all__ = [
    "ActivationCount",
    "LayerFlops",
    "LayerParameters",
    "ModelParameters",
    "SampleFlops",
    "StackParameters",
    "attention_span",
    "head_flops",
    "layer_activations",
    "layer_flops",
    "layer_parameters",
    "layers_in_order",
    "model_parameters",
    "sample_flops",
    "stack_tokens",
]
