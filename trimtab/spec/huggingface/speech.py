"""Models of speech: Whisper, and the encoders of waveforms after wav2vec 2.0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from trimtab.model import (
    AttentionSpec,
    FeedForwardSpec,
    ModelFamily,
    ModelSpec,
    NormKind,
    PartPlace,
    PartSpec,
    PositionKind,
    StackRole,
    StackSpec,
)
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.heads import Head, Rule, linear, num_labels, small
from trimtab.spec.huggingface.layers import activation, whole_heads
from trimtab.spec.huggingface.seq2seq import bart_stack


def spectrum_convolutions(config: Config, hidden: int) -> PartSpec:
    """Whisper's two convolutions over frames; the second one halves their number to ``max_source_positions``."""
    bins, frames = config.count("num_mel_bins"), config.count("max_source_positions")
    return PartSpec(
        name="convolutions of the spectrogram",
        num_parameters=3 * bins * hidden + 3 * hidden * hidden + 2 * hidden,
        flops_per_sample=2.0 * frames * (2 * 3 * bins * hidden + 3 * hidden * hidden),
        activations_per_sample=float(frames * (2 * bins + 6 * hidden)),
    )


def whisper_encoder(config: Config, *, final_norm: bool = True) -> StackSpec:
    """Layers over ``max_source_positions`` frames; keys have no bias."""
    stack = bart_stack(config, StackRole.ENCODER, final_norm=final_norm, key_bias=False)
    return replace(stack, num_tokens=config.count("max_source_positions"))


def read_whisper(config: Config, head: Head) -> ModelSpec:
    """Whisper: convolutions, an encoder with fixed positions, a decoder with learned ones."""
    hidden = config.count("d_model")
    encoder = whisper_encoder(config)
    parts: tuple[PartSpec, ...] = (spectrum_convolutions(config, hidden),)
    if head is Head.AUDIO_CLASSES:
        width = config.count("classifier_proj_size")
        weighted = encoder.num_layers + 1 if config.flag("use_weighted_layer_sum") else 0
        parts += small("weights of the layers", weighted, place=PartPlace.AFTER)
        parts += (linear("projector", hidden, width, per_token=True), linear("classes of a recording", width, num_labels(config)))
        return _waves_model(config, hidden=hidden, stack=encoder, parts=parts, norm_epsilon=1e-5)
    decoder = bart_stack(config, StackRole.DECODER, final_norm=True, key_bias=False)
    positions = config.count("max_target_positions")
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER_DECODER,
        hidden_size=hidden,
        vocab_size=config.count("vocab_size"),
        stacks=(encoder, decoder),
        position=PositionKind.SINUSOIDAL,
        max_positions=positions,
        tied_embeddings=config.flag("tie_word_embeddings"),
        has_head=head is Head.GENERATION,
        parts=parts + small("positions of the decoder", positions * hidden),
        traits=("keys without a bias",),
    )


def read_speech_to_text(config: Config, head: Head) -> ModelSpec:
    """Speech2Text: gated convolutions that halve the frames, then BART's layers with norms before the blocks."""
    hidden, layers = config.count("d_model"), config.count("num_conv_layers")
    kernels = config.counts("conv_kernel_sizes", length=layers)
    inputs, channels = config.count("input_feat_per_channel") * config.count("input_channels"), config.count("conv_channels")
    parameters, flops, kept, frames = 0, 0.0, 0.0, config.count("max_source_positions")
    for index, kernel in enumerate(kernels):
        outputs = 2 * hidden if index == layers - 1 else channels
        frames = -(-frames // 2)
        parameters += inputs * outputs * kernel + outputs
        flops += 2.0 * frames * inputs * outputs * kernel
        kept += float(frames * (2 * inputs + outputs))
        inputs = outputs // 2
    convolutions = PartSpec(
        name="convolutions of the spectrogram", num_parameters=parameters, flops_per_sample=flops, activations_per_sample=kept
    )
    encoder = replace(bart_stack(config, StackRole.ENCODER, final_norm=True), num_tokens=max(1, frames))
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER_DECODER,
        hidden_size=hidden,
        vocab_size=config.count("vocab_size"),
        stacks=(encoder, bart_stack(config, StackRole.DECODER, final_norm=True)),
        position=PositionKind.SINUSOIDAL,
        max_positions=config.count("max_target_positions"),
        tied_embeddings=config.flag("tie_word_embeddings"),
        has_head=head is Head.GENERATION,
        parts=(convolutions,),
        traits=("scaled embeddings",) if config.flag("scale_embedding") else (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waves:
    """In what an encoder of waveforms differs from wav2vec 2.0. ``deep_positions``: several convolutions instead of one of
    which the weights are normed; ``gated_positions``: a gated table of relative positions (WavLM); ``all_norms``: every
    convolution has a norm; ``adapters``: the class has them; ``always_masked``: it has a token for masks in any case."""

    deep_positions: bool = False
    gated_positions: bool = False
    all_norms: bool = False
    adapters: bool = False
    always_masked: bool = False


def read_waves(config: Config, head: Head, row: Waves) -> ModelSpec:
    """An encoder of waveforms: convolutions over samples, one token per frame of them, layers of attention."""
    hidden = config.count("hidden_size")
    features, channels = _feature_convolutions(config, row)
    normed = config.get("feat_proj_layer_norm") is not False
    masked = row.always_masked or config.number("mask_time_prob", 0.0) > 0 or config.number("mask_feature_prob", 0.0) > 0
    parts: tuple[PartSpec, ...] = (
        features,
        *small("norm of the features", 2 * channels * normed),
        _token_layer("projection of the features", channels, hidden),
        *small("mask token", hidden * masked),
        _position_convolution(config, row, hidden),
        *small(
            "relative positions", config.count("num_buckets") * config.count("num_attention_heads") if row.gated_positions else 0
        ),
    )
    adapted, width = _adapter(config, hidden) if row.adapters else ((), hidden)
    parts += adapted
    if head is Head.CTC:
        parts += (linear("letters", width, config.count("vocab_size"), per_token=True),)
    if head is Head.SEQUENCE_CLASSES:
        narrow = config.count("classifier_proj_size")
        weighted = config.count("num_hidden_layers") + 1 if config.flag("use_weighted_layer_sum") else 0
        parts += small("weights of the layers", weighted, place=PartPlace.AFTER)
        parts += (
            linear("projector", hidden, narrow, per_token=True),
            linear("classes of a recording", narrow, num_labels(config)),
        )
    return _waves_model(config, hidden=hidden, stack=_wave_layers(config, row, hidden), parts=parts)


def _waves_model(
    config: Config, *, hidden: int, stack: StackSpec, parts: tuple[PartSpec, ...], norm_epsilon: float | None = None
) -> ModelSpec:
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.ENCODER,
        hidden_size=hidden,
        vocab_size=0,
        stacks=(stack,),
        position=PositionKind.NONE,
        has_head=False,
        norm_epsilon=norm_epsilon or config.number("layer_norm_eps", 1e-5),
        parts=parts,
        traits=("positions by convolution",) if norm_epsilon is None else ("keys without a bias",),
    )


def _wave_layers(config: Config, row: Waves, hidden: int) -> StackSpec:
    heads = config.count("num_attention_heads")
    size = whole_heads(config, hidden, heads)
    narrow = config.optional("adapter_attn_dim") if config.flag("do_stable_layer_norm") and row.adapters else None
    extra = 2 * hidden + 2 * hidden * narrow + narrow + hidden if narrow else 0
    if row.gated_positions:
        extra += heads + 8 * size + 8
    return StackSpec(
        role=StackRole.ENCODER,
        num_layers=config.count("num_hidden_layers"),
        attention=AttentionSpec(num_heads=heads, num_kv_heads=heads, head_size=size, qkv_bias=True, output_bias=True),
        feed_forward=FeedForwardSpec(
            hidden_size=config.count("intermediate_size"), gated=False, activation=activation(config), bias=True
        ),
        norm=NormKind.LAYER,
        norm_bias=True,
        causal=False,
        other_parameters=extra,
    )


def _feature_convolutions(config: Config, row: Waves) -> tuple[PartSpec, int]:
    """FLOPs are per token: of a convolution that runs ``r`` times as often as tokens come, ``r`` times."""
    widths = config.counts("conv_dim")
    kernels = config.counts("conv_kernel", length=len(widths))
    strides = config.counts("conv_stride", length=len(widths))
    kind = "layer" if row.all_norms else config.choice("feat_extract_norm", ("group", "layer"))
    bias = config.flag("conv_bias")
    parameters, flops, kept, inputs = 0, 0.0, 0.0, 1
    for index, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
        rate = 1
        for stride in strides[index + 1 :]:
            rate *= stride
        normed = kind == "layer" or index == 0
        parameters += inputs * width * kernel + width * bias + 2 * width * normed
        flops += 2.0 * rate * inputs * width * kernel
        kept += float(rate * width * (3 if normed else 2))
        inputs = width
    part = PartSpec(
        name="convolutions of the waveform", num_parameters=parameters, flops_per_token=flops, activations_per_token=kept
    )
    return part, inputs


def _token_layer(name: str, inputs: int, outputs: int) -> PartSpec:
    return PartSpec(
        name=name,
        num_parameters=inputs * outputs + outputs,
        flops_per_token=2.0 * inputs * outputs,
        activations_per_token=float(inputs),
    )


def _position_convolution(config: Config, row: Waves, hidden: int) -> PartSpec:
    groups = config.count("num_conv_pos_embedding_groups")
    config.divides(groups, hidden, ("num_conv_pos_embedding_groups", "hidden_size"))
    kernel, repeats = config.count("num_conv_pos_embeddings"), 1
    if row.deep_positions:
        kernel, repeats = config.count("conv_pos_kernel_size"), kernel
    weights = hidden * (hidden // groups) * kernel
    normed = 0 if row.deep_positions else 2 * hidden if config.flag("conv_pos_batch_norm") else kernel
    return PartSpec(
        name="positions by convolution",
        num_parameters=repeats * (weights + hidden) + normed,
        flops_per_token=2.0 * repeats * weights,
        activations_per_token=2.0 * repeats * hidden,
    )


def _adapter(config: Config, hidden: int) -> tuple[tuple[PartSpec, ...], int]:
    if not config.flag("add_adapter"):
        return (), hidden
    width = config.optional("output_hidden_size") or hidden
    parts: tuple[PartSpec, ...] = ()
    if width != hidden:
        parts += (linear("projection of the adapter", hidden, width, per_token=True),)
        parts += small("norm of the adapter", 2 * width, place=PartPlace.AFTER)
    kernel, stride, rate, flops = config.count("adapter_kernel_size"), config.count("adapter_stride"), 1.0, 0.0
    weights, layers = 2 * width * width * kernel, config.count("num_adapter_layers", low=0)
    for _ in range(layers):
        rate /= stride
        flops += 2.0 * weights * rate
    adapter = PartSpec(
        name="adapter",
        num_parameters=layers * (weights + 2 * width),
        place=PartPlace.AFTER,
        flops_per_token=flops,
        activations_per_token=3.0 * width,
    )
    return (*parts, adapter), width


_WAVE_HEADS = (Head.CTC, Head.NONE, Head.SEQUENCE_CLASSES)
_WAVE_LAYOUT = (
    "convolutions of the waveform, a projection, positions by a convolution whose weights are normed, layers with biases"
)
_WAVES: Mapping[str, tuple[str, Waves, str]] = {
    "wav2vec2": ("Wav2Vec2", Waves(adapters=True), _WAVE_LAYOUT + "; adapters by add_adapter and adapter_attn_dim"),
    "hubert": ("Hubert", Waves(), _WAVE_LAYOUT),
    "unispeech": ("UniSpeech", Waves(), _WAVE_LAYOUT),
    "unispeech-sat": ("UniSpeechSat", Waves(always_masked=True), _WAVE_LAYOUT),
    "wavlm": ("WavLM", Waves(gated_positions=True, adapters=True), _WAVE_LAYOUT + "; a gated table of relative positions"),
    "data2vec-audio": (
        "Data2VecAudio",
        Waves(deep_positions=True, all_norms=True, adapters=True),
        "wav2vec 2.0 with norms of all convolutions and positions by several of them",
    ),
}

TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        "whisper": Rule(
            read=read_whisper,
            all_heads=(Head.GENERATION, Head.NONE, Head.AUDIO_CLASSES),
            class_name="Whisper",
            layout="two convolutions, fixed positions of the encoder, learned ones of the decoder, no bias of the keys",
        ),
        "speech_to_text": Rule(
            read=read_speech_to_text,
            all_heads=(Head.GENERATION, Head.NONE),
            class_name="Speech2Text",
            layout="gated convolutions, fixed positions, norms before the blocks and at the end of each stack, biases",
        ),
        **{
            model_type: Rule(
                read=lambda config, head, row=row: read_waves(config, head, row),  # type: ignore[misc]
                all_heads=_WAVE_HEADS,
                class_name=name,
                layout=layout,
            )
            for model_type, (name, row, layout) in _WAVES.items()
        },
    }
)
