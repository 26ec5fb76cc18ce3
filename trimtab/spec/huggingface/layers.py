"""What the families share: attention sizes, activations, windows and runs of equal layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from trimtab.model import ActivationKind, AttentionSpec, StackSpec
from trimtab.spec.fields import nearest, shown
from trimtab.spec.huggingface.config import Config

_SILU = ("silu", "swish")
_GELU = (
    "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "gelu_accurate", "gelu_python_tanh", "gelu_10",
    "quick_gelu", "laplace", "mish", "tanh", "sigmoid", "linear", "hardswish", "hard_swish", "leaky_relu", "xielu",
    "sqrtsoftplus",
)  # fmt: skip
_RELU = ("relu", "relu2", "relu6", "prelu")
MAX_RUNS = 4
"""More runs of layers than this are put together by kind."""

LAYER_TYPES = ("full_attention", "sliding_attention", "chunked_attention")
Windows = Callable[[Config, int], Sequence[int | None]]


def activation(config: Config, key: str = "hidden_act") -> ActivationKind:
    """The feed-forward activation, as the nearest of the kinds that the kernel tells apart; FLOPs and bytes are the same."""
    value = config.get(key)
    kinds = ((_SILU, ActivationKind.SILU), (_GELU, ActivationKind.GELU), (_RELU, ActivationKind.RELU))
    for names, kind in kinds:
        if value in names:
            return kind
    known = [name for names, _ in kinds for name in names]
    config.note(key, f"found {shown(value)}", allowed=", ".join(known), nearest=nearest(str(value), known))
    return ActivationKind.GELU


def heads_of(config: Config, *, width: int | None = None, kv_key: str | None = "num_key_value_heads") -> AttentionSpec:
    """Heads without biases: ``head_dim`` where the config says it, else the width divided by the number of heads."""
    hidden = config.count("hidden_size") if width is None else width
    heads = config.count("num_attention_heads")
    key_heads = (config.optional(kv_key) if kv_key else None) or heads
    size = config.optional("head_dim") or whole_heads(config, hidden, heads)
    if heads % key_heads:
        config.divides(key_heads, heads, (kv_key or "num_attention_heads", "num_attention_heads"))
        key_heads = heads
    return AttentionSpec(num_heads=heads, num_kv_heads=key_heads, head_size=size)


def whole_heads(config: Config, hidden: int, heads: int, *, key: str = "num_attention_heads") -> int:
    """Width of a head; notes a problem where the heads do not divide the width."""
    config.divides(heads, hidden, (key, config.name("hidden_size")))
    return max(1, hidden // heads)


def runs(layers: Sequence[StackSpec], *, final_norm: bool) -> tuple[StackSpec, ...]:
    """Layers in their order as stacks of equal ones; only the last stack has the final norm.

    Kinds that take turns (more than ``MAX_RUNS`` runs) become one stack per kind, in the order in which the kinds first appear,
    and all but the first say that they alternate with the one before: sums over the layers are the same.
    """
    groups = [(layer, len(list(same))) for layer, same in itertools.groupby(layers)]
    mixed = len(groups) > MAX_RUNS
    if mixed:
        sums = dict.fromkeys(layers, 0)
        for layer, num in groups:
            sums[layer] += num
        groups = list(sums.items())
    last = len(groups) - 1
    return tuple(
        replace(layer, num_layers=num, final_norm=final_norm and index == last, alternates=mixed and index > 0)
        for index, (layer, num) in enumerate(groups)
    )


def no_windows(config: Config, num_layers: int) -> Sequence[int | None]:
    """Every layer sees everything."""
    return (None,) * num_layers


def one_window(config: Config, num_layers: int) -> Sequence[int | None]:
    """Every layer has the ``sliding_window``, where there is one."""
    return (config.optional("sliding_window"),) * num_layers


def late_windows(config: Config, num_layers: int) -> Sequence[int | None]:
    """Only with ``use_sliding_window``: the layers from ``max_window_layers`` on, or as ``layer_types`` says."""
    if not config.flag("use_sliding_window"):
        return (None,) * num_layers
    window, first = config.optional("sliding_window"), config.optional("max_window_layers", low=0)
    default = [window is not None and index >= (first or 0) for index in range(num_layers)]
    return _windowed(config, default, window)


def early_windows(config: Config, num_layers: int) -> Sequence[int | None]:
    """Only with ``use_sliding_window``: every other layer before ``max_window_layers``, or as ``layer_types`` says."""
    if not config.flag("use_sliding_window"):
        return (None,) * num_layers
    first = config.count("max_window_layers", low=0)
    default = [(index + 1) % 2 == 1 and index < first for index in range(num_layers)]
    return _windowed(config, default, config.optional("sliding_window"))


def windows_but_every(period: int | str, *, first: bool = False) -> Windows:
    """All layers but every ``period``-th have the window, or as ``layer_types`` says. ``period`` may be a key, and
    ``sliding_window_pattern`` says another one; with ``first`` the first layer of each period has none, not the last."""

    def read(config: Config, num_layers: int) -> Sequence[int | None]:
        given = config.get("sliding_window_pattern")
        step = period if isinstance(period, int) else config.count(period)
        if isinstance(given, int) and given:
            step = config.count("sliding_window_pattern")
        default = [(index + (not first)) % step != 0 for index in range(num_layers)]
        return _windowed(config, default, config.optional("sliding_window"))

    return read


def windows_by_type(config: Config, num_layers: int) -> Sequence[int | None]:
    """The window where ``layer_types`` says so; without them in every layer."""
    return _windowed(config, [True] * num_layers, config.optional("sliding_window"))


def full_by_type(config: Config, num_layers: int) -> Sequence[int | None]:
    """The window where ``layer_types`` says so; without them in no layer."""
    return _windowed(config, [False] * num_layers, config.optional("sliding_window"))


def chunks(config: Config, num_layers: int) -> Sequence[int | None]:
    """Llama 4: the layers with rotary positions see their chunk, all but every ``no_rope_layer_interval``-th."""
    given = config.get("no_rope_layers")
    if given:
        rotary = [flag != 0 for flag in config.counts("no_rope_layers", length=num_layers, low=0)]
    else:
        step = config.count("no_rope_layer_interval")
        rotary = [(index + 1) % step != 0 for index in range(num_layers)]
    return _windowed(config, rotary, config.optional("attention_chunk_size"))


def _windowed(config: Config, default: Sequence[bool], window: int | None) -> Sequence[int | None]:
    if config.get("layer_types") is not None:
        words = config.words("layer_types", LAYER_TYPES, length=len(default))
        default = [word != "full_attention" for word in words]
    return tuple(window if local else None for local in default)
