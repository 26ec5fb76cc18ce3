"""Which models the built-in trainer makes: one stack per role, of plain transformer layers as wide as the model."""

from __future__ import annotations

from trimtab.model import ModelFamily, ModelSpec, StackSpec

_MAX_NAMED = 4


def beyond_builtin(model: ModelSpec) -> tuple[str, ...]:
    """What the built-in trainer does not make of a model, in words; empty where it makes all of it."""
    found = []
    if model.family not in (ModelFamily.DECODER, ModelFamily.ENCODER_DECODER):
        found.append(f"a model of family {model.family}")
    if len({stack.role for stack in model.stacks}) < len(model.stacks):
        found.append("layers of several kinds in one stack")
    if model.parts:
        named = ", ".join(part.name for part in model.parts[:_MAX_NAMED])
        rest = len(model.parts) - _MAX_NAMED
        found.append(f"the parts {named} and {rest} more" if rest > 0 else f"the parts {named}")
    found.extend(model.traits)
    for stack in model.stacks:
        found.extend(text for text in _beyond(model, stack) if text not in found)
    return tuple(found)


def _beyond(model: ModelSpec, stack: StackSpec) -> tuple[str, ...]:
    plain_norms = stack.num_norms in (None, 3 if stack.cross_attention else 2) and stack.final_norm
    checks = (
        (stack.feed_forward.experts is not None, "a mixture of experts"),
        (stack.attention.latent is not None, "latent attention"),
        (model.width(stack) != model.hidden_size, "a stack of another width"),
        (stack.num_tokens is not None, "a stack with its own number of tokens"),
        (not plain_norms, "another number of norms"),
        (stack.other_parameters > 0, "further parameters in each layer"),
    )
    return tuple(text for wrong, text in checks if wrong)
