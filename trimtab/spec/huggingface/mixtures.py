"""Decoders with a mixture of experts in some or all layers, and those with latent attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from trimtab.model import AttentionSpec, ExpertsSpec, FeedForwardSpec, LatentSpec, NormKind
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.decoders import DECODER_HEADS, Blocks, Decoder, Said, decoder_rule, said
from trimtab.spec.huggingface.heads import Head, Rule
from trimtab.spec.huggingface.layers import (
    chunks,
    early_windows,
    full_by_type,
    heads_of,
    late_windows,
    one_window,
    windows_but_every,
)
from trimtab.spec.huggingface.llama_like import per_head, per_width, where

_ATTENTION = "attention_bias"
_PARTIAL = "rotary positions in a part of each head"
_AFTER = "norms after the blocks"
Sparse = Callable[[Config, int], Sequence[bool]]


def every_layer(config: Config, num_layers: int) -> Sequence[bool]:
    """All layers have experts."""
    return (True,) * num_layers


def after_dense(key: str = "first_k_dense_replace") -> Sparse:
    """The first layers are dense, as many as the key says."""

    def read(config: Config, num_layers: int) -> Sequence[bool]:
        first = config.count(key, low=0) if config.get(key) is not None else 0
        return tuple(index >= first for index in range(num_layers))

    return read


def by_layer_type(first_dense: int | str) -> Sparse:
    """As ``mlp_layer_types`` says; without them the first layers are dense."""

    def read(config: Config, num_layers: int) -> Sequence[bool]:
        if config.get("mlp_layer_types") is not None:
            words = config.words("mlp_layer_types", ("sparse", "dense"), length=num_layers)
            return tuple(word == "sparse" for word in words)
        first = config.count(first_dense, low=0) if isinstance(first_dense, str) else first_dense
        return tuple(index >= first for index in range(num_layers))

    return read


def by_step(config: Config, num_layers: int) -> Sequence[bool]:
    """Qwen: every ``decoder_sparse_step``-th layer, but none of ``mlp_only_layers``."""
    step = config.count("decoder_sparse_step")
    dense = set(config.counts("mlp_only_layers", low=0)) if config.get("mlp_only_layers") else set()
    has_experts = config.count("num_experts", low=0) > 0
    return tuple(has_experts and index not in dense and (index + 1) % step == 0 for index in range(num_layers))


def _ernie_layers(config: Config, num_layers: int) -> Sequence[bool]:
    step, start = config.count("moe_layer_interval"), config.count("moe_layer_start_index", low=0)
    end = config.count("moe_layer_end_index", low=-1)
    last = num_layers - 1 if end == -1 else end
    return tuple((index + 1) % step == 0 and start <= index <= last for index in range(num_layers))


def _llama4_layers(config: Config, num_layers: int) -> Sequence[bool]:
    if config.get("moe_layers") is not None:
        listed = set(config.counts("moe_layers", low=0))
    else:
        step = config.count("interleave_moe_layer_step")
        listed = set(range(step - 1, num_layers, step))
    return tuple(index in listed for index in range(num_layers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Where the experts of a model type stand in its config. ``shared_key`` is the width of the shared block, or with
    ``num_shared_key`` the number of shared experts, each as wide as a routed one. ``dense_key`` is the width of dense layers.
    ``bias`` says whether the experts have biases where they differ from the dense block, ``top_default`` how many experts a
    token passes where the config says null.
    """

    sparse: Sparse = every_layer
    experts_key: str = "num_local_experts"
    top_key: str = "num_experts_per_tok"
    size_key: str = "intermediate_size"
    num_shared_key: str | None = None
    shared_key: str | None = None
    shared_gate: bool = False
    router_bias: bool = False
    dense_key: str | None = None
    bias: Said | None = None
    top_default: int | None = None

    def blocks(self, config: Config, dense: FeedForwardSpec) -> Sequence[FeedForwardSpec]:
        """One block per layer."""
        num_layers = config.count("num_hidden_layers")
        where_sparse = self.sparse(config, num_layers)
        if self.dense_key is not None:
            dense = replace(dense, hidden_size=config.count(self.dense_key))
        expert = self._experts(config, dense) if any(where_sparse) else dense
        return tuple(expert if has_experts else dense for has_experts in where_sparse)

    def _experts(self, config: Config, dense: FeedForwardSpec) -> FeedForwardSpec:
        num = config.count(self.experts_key)
        unsaid = self.top_default is not None and config.get(self.top_key) is None
        top = min(num, self.top_default or 1) if unsaid else config.count(self.top_key)
        if not config.require(top <= num, self.top_key, f"found {top}", allowed=f"at most {num} experts", nearest=str(num)):
            top = num
        size = config.count(self.size_key)
        shared = config.optional(self.shared_key, low=0) if self.shared_key else 0
        if self.num_shared_key:
            shared = size * (config.optional(self.num_shared_key, low=0) or 0)
        experts = ExpertsSpec(
            num_experts=num,
            top_k=top,
            shared_size=shared or 0,
            router_bias=self.router_bias,
            shared_gate=self.shared_gate,
        )
        bias = dense.bias if self.bias is None else said(config, self.bias)
        return replace(dense, hidden_size=size, experts=experts, bias=bias)


def latent_heads(config: Config) -> AttentionSpec:
    """Latent attention: ranks and sizes as DeepSeek-V2 names them."""
    heads = config.count("num_attention_heads")
    size = config.count("qk_nope_head_dim")
    latent = LatentSpec(
        kv_rank=config.count("kv_lora_rank"),
        rope_size=config.count("qk_rope_head_dim", low=0),
        value_size=config.optional("v_head_dim") or config.count("hidden_size") // heads or 1,
        query_rank=config.optional("q_lora_rank"),
    )
    return AttentionSpec(num_heads=heads, num_kv_heads=heads, head_size=size, latent=latent)


def shared_biases(config: Config, dense: FeedForwardSpec, block: FeedForwardSpec) -> int:
    """Biases of the shared block where the routed experts have none."""
    shared = block.experts.shared_size if block.experts is not None else 0
    inner = 2 if block.gated else 1
    return (inner * shared + config.count("hidden_size")) * dense.bias if shared and not block.bias else 0


def _wide_heads(config: Config) -> AttentionSpec:
    """Heads whose size is rounded down where they do not divide the width."""
    heads = config.count("num_attention_heads")
    if config.get("head_dim") is not None:
        return heads_of(config)
    rounded = config.count("hidden_size") // heads * heads
    return heads_of(config, width=max(heads, rounded))


def _after_block(config: Config, dense: FeedForwardSpec, block: FeedForwardSpec) -> int:
    return config.count("hidden_size") if block.experts is not None else 0


def _sinks(config: Config, attention: AttentionSpec) -> int:
    return attention.num_heads


def _gated_heads(config: Config, attention: AttentionSpec) -> int:
    """Norms of queries and keys, and a gate of the attention's output."""
    return 2 * attention.head_size + config.count("hidden_size") * attention.num_heads * attention.head_size


def _indexer(config: Config, attention: AttentionSpec) -> int:
    """The small attention that chooses keys (DeepSeek-V3.2): its queries, its key with a norm, its weights of heads."""
    heads, size, hidden = config.count("index_n_heads"), config.count("index_head_dim"), config.count("hidden_size")
    return config.count("q_lora_rank") * heads * size + hidden * size + 2 * size + hidden * heads


def _row(mixture: Mixture, **fields: object) -> Decoder:
    blocks: Blocks = mixture.blocks
    return Decoder(blocks=blocks, **fields)  # type: ignore[arg-type]


_DEEPSEEK = Mixture(
    sparse=after_dense(), experts_key="n_routed_experts", size_key="moe_intermediate_size", num_shared_key="n_shared_experts"
)
_BIASED = {"qkv_bias": _ATTENTION, "output_bias": _ATTENTION}
_MANY = Mixture(experts_key="num_experts")

_ROWS: Mapping[str, tuple[str, Decoder, str]] = {
    "mixtral": ("Mixtral", _row(Mixture(), windows=one_window), "experts in every layer"),
    "qwen2_moe": (
        "Qwen2Moe",
        _row(
            Mixture(
                sparse=by_step,
                experts_key="num_experts",
                size_key="moe_intermediate_size",
                shared_key="shared_expert_intermediate_size",
                shared_gate=True,
            ),
            qkv_bias="qkv_bias",
            windows=early_windows,
        ),
        "a gated shared expert; layers by decoder_sparse_step and mlp_only_layers; biases in q, k, v by qkv_bias",
    ),
    "qwen3_moe": (
        "Qwen3Moe",
        _row(
            Mixture(sparse=by_step, experts_key="num_experts", size_key="moe_intermediate_size"),
            further=per_head,
            windows=late_windows,
            **_BIASED,
        ),
        "no shared expert; norms of queries and keys as wide as a head",
    ),
    "qwen3_vl_moe_text": (
        "Qwen3VLMoeText",
        _row(
            Mixture(sparse=by_step, experts_key="num_experts", size_key="moe_intermediate_size"),
            further=per_head,
            **_BIASED,
        ),
        "Qwen3 MoE",
    ),
    "deepseek_v2": (
        "DeepseekV2",
        _row(
            replace(_DEEPSEEK, bias=False, top_default=6),
            heads=latent_heads,
            mlp_bias="mlp_bias",
            block_extra=shared_biases,
            **_BIASED,
        ),
        "latent attention; n_shared_experts; dense before first_k_dense_replace",
    ),
    "deepseek_v3": (
        "DeepseekV3",
        _row(_DEEPSEEK, heads=latent_heads, **_BIASED),
        "latent attention; n_shared_experts; dense before first_k_dense_replace; correction of the router is a buffer",
    ),
    "deepseek_v32": (
        "DeepseekV32",
        _row(replace(_DEEPSEEK, sparse=by_layer_type("first_k_dense_replace")), heads=latent_heads, further=_indexer, **_BIASED),
        "DeepSeek-V3 with the small attention that chooses keys",
    ),
    "sarvam_mla": ("DeepseekV3", _row(_DEEPSEEK, heads=latent_heads, **_BIASED), "as DeepSeek-V3"),
    "youtu": ("Youtu", Decoder(heads=latent_heads, qkv_bias=_ATTENTION, output_bias=_ATTENTION), "latent attention, dense"),
    "minicpm3": (
        "MiniCPM3",
        Decoder(
            heads=latent_heads,
            qkv_bias=_ATTENTION,
            output_bias=_ATTENTION,
            mlp_bias="mlp_bias",
            traits=("scaled embeddings and residuals",),
        ),
        "latent attention, dense",
    ),
    "glm4_moe_lite": (
        "Glm4MoeLite",
        _row(replace(_DEEPSEEK, sparse=by_layer_type(1)), heads=latent_heads, **_BIASED),
        "as DeepSeek-V3; layers by mlp_layer_types",
    ),
    "gpt_oss": (
        "GptOss",
        _row(
            Mixture(router_bias=True),
            further=_sinks,
            mlp_bias=True,
            windows=windows_but_every(2),
            traits=("attention sinks",),
            **_BIASED,
        ),
        "biases in experts and router; one sink per head",
    ),
    "llama4_text": (
        "Llama4",
        _row(
            Mixture(sparse=_llama4_layers, shared_key="intermediate_size", dense_key="intermediate_size_mlp"),
            windows=chunks,
            traits=("layers without positions",),
            **_BIASED,
        ),
        "a shared expert; dense layers of intermediate_size_mlp by interleave_moe_layer_step or moe_layers",
    ),
    "olmoe": ("Olmoe", _row(_MANY, further=per_width, **_BIASED), "norms over all queries and over all keys"),
    "flex_olmo": ("FlexOlmo", _row(_MANY, further=per_width, traits=(_AFTER,), **_BIASED), "OLMo 2 with experts"),
    "phimoe": (
        "Phimoe",
        _row(Mixture(), norm=NormKind.LAYER, norm_bias=True, head_bias="lm_head_bias", windows=one_window, **_BIASED),
        "layer norms with biases; a bias in the head by lm_head_bias",
    ),
    "granitemoe": ("GraniteMoe", _row(Mixture(), traits=("scaled residuals",), **_BIASED), "experts in every layer"),
    "granitemoeshared": (
        "GraniteMoeShared",
        _row(Mixture(shared_key="shared_intermediate_size"), traits=("scaled residuals",), **_BIASED),
        "a shared block of shared_intermediate_size",
    ),
    "granitemoe_swa": (
        "GraniteMoeSWA",
        _row(
            Mixture(shared_key="shared_intermediate_size"),
            further=_sinks,
            windows=full_by_type,
            traits=("scaled residuals", "attention sinks"),
            **_BIASED,
        ),
        "a shared block; one sink per head",
    ),
    "exaone_moe": (
        "ExaoneMoe",
        _row(
            Mixture(
                sparse=by_layer_type("first_k_dense_replace"),
                experts_key="num_experts",
                size_key="moe_intermediate_size",
                num_shared_key="num_shared_experts",
            ),
            further=per_head,
            windows=windows_but_every(4),
        ),
        "shared experts; layers by mlp_layer_types or first_k_dense_replace",
    ),
    "ernie4_5_moe": (
        "Ernie4_5_Moe",
        _row(
            Mixture(
                sparse=_ernie_layers,
                experts_key="moe_num_experts",
                top_key="moe_k",
                size_key="moe_intermediate_size",
                num_shared_key="moe_num_shared_experts",
                bias=False,
            ),
            qkv_bias="use_bias",
            output_bias="use_bias",
            mlp_bias="use_bias",
            head_bias="use_bias",
            block_extra=shared_biases,
        ),
        "shared experts; layers by moe_layer_start_index, _end_index and _interval; the router's correction does not train",
    ),
    "dots1": (
        "Dots1",
        _row(_DEEPSEEK, further=per_head, windows=full_by_type, **_BIASED),
        "n_shared_experts; dense before first_k_dense_replace; norms of queries and keys as wide as a head",
    ),
    "glm4_moe": (
        "Glm4Moe",
        _row(_DEEPSEEK, heads=_wide_heads, qkv_bias=_ATTENTION, further=where("use_qk_norm", per_head), traits=(_PARTIAL,)),
        "n_shared_experts; dense before first_k_dense_replace; norms of queries and keys by use_qk_norm",
    ),
    "sarvam_moe": (
        "Glm4Moe",
        _row(_DEEPSEEK, qkv_bias=_ATTENTION, further=where("use_qk_norm", per_head), traits=(_PARTIAL,)),
        "as GLM-4 MoE",
    ),
    "solar_open": (
        "SolarOpen",
        _row(replace(_DEEPSEEK, sparse=every_layer), inner_key="moe_intermediate_size", qkv_bias=_ATTENTION),
        "n_shared_experts",
    ),
    "mellum": (
        "Mellum",
        _row(
            Mixture(sparse=by_layer_type(0), experts_key="num_experts", size_key="moe_intermediate_size"),
            further=per_head,
            windows=full_by_type,
            **_BIASED,
        ),
        "layers by mlp_layer_types; norms of queries and keys as wide as a head",
    ),
    "hy_v3": (
        "HYV3",
        _row(
            Mixture(
                sparse=by_layer_type(1),
                experts_key="num_experts",
                size_key="moe_intermediate_size",
                num_shared_key="num_shared_experts",
                bias=False,
            ),
            further=per_head,
            mlp_bias="mlp_bias",
            block_extra=shared_biases,
            **_BIASED,
        ),
        "shared experts; layers by mlp_layer_types; norms of queries and keys as wide as a head",
    ),
    "axk1": (
        "AXK1",
        _row(replace(_DEEPSEEK, sparse=by_layer_type(1)), heads=latent_heads, block_extra=_after_block, **_BIASED),
        "as DeepSeek-V3, with a norm after the experts",
    ),
    "afmoe": (
        "Afmoe",
        _row(
            Mixture(
                sparse=after_dense("num_dense_layers"),
                experts_key="num_experts",
                size_key="moe_intermediate_size",
                num_shared_key="num_shared_experts",
            ),
            num_norms=4,
            further=_gated_heads,
            windows=windows_but_every("global_attn_every_n_layers"),
            traits=("gated attention", _AFTER),
            **_BIASED,
        ),
        "4 RMS norms a layer; a gate of the attention's output; shared experts; dense before num_dense_layers",
    ),
    "minimax_m2": (
        "MiniMaxM2",
        _row(Mixture(), further=per_width, traits=(_PARTIAL,)),
        "norms over all queries and over all keys",
    ),
    "hunyuan_v1_moe": (
        "HunYuanMoEV1",
        _row(Mixture(experts_key="num_experts", top_key="moe_topk", shared_key="intermediate_size"), further=per_head, **_BIASED),
        "a shared block as wide as an expert; norms of queries and keys as wide as a head",
    ),
}

TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        model_type: decoder_rule(name, row, layout, heads=(Head.NONE,) if name.endswith("Text") else DECODER_HEADS)
        for model_type, (name, row, layout) in _ROWS.items()
    }
)
