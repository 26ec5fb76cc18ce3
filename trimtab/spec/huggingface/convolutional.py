"""Convolutional networks: ResNet, ConvNeXt, MobileNetV2; every stage is a part, counted for one picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from trimtab.model import ModelFamily, ModelSpec, PartPlace, PartSpec, PositionKind
from trimtab.spec.huggingface.config import Config
from trimtab.spec.huggingface.heads import Head, Rule, linear, num_labels
from trimtab.spec.huggingface.images import IMAGE_HEADS, pair

DEFAULT_IMAGE = 224
"""Side of a picture where the config of a convolutional network names none; only FLOPs and activations depend on it."""


class Stage:
    """Counts of a run of convolutions over one picture, as they are added.

    FLOPs are two per multiply-add. Kept for the backward pass: the input of every convolution and of every norm; an activation
    that overwrites its input keeps nothing more.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.channels, self.height, self.width = channels, height, width
        self.num_parameters, self.flops, self.kept = 0, 0.0, 0.0

    def convolve(
        self,
        outputs: int,
        *,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        norm: bool = True,
    ) -> None:
        """A convolution that keeps the size but for its stride, and the norm after it."""
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        weights = outputs * (self.channels // groups) * rows * columns
        self.kept += self.elements
        self.height, self.width = -(-self.height // stride), -(-self.width // stride)
        self.channels = outputs
        self.num_parameters += weights + outputs * bias
        self.flops += 2.0 * weights * self.height * self.width
        if norm:
            self.normalize()

    def normalize(self) -> None:
        """A norm over the channels."""
        self.num_parameters += 2 * self.channels
        self.kept += self.elements

    @property
    def elements(self) -> float:
        """Elements of the picture as it is now."""
        return float(self.channels * self.height * self.width)

    def part(self, name: str) -> PartSpec:
        """What was added so far."""
        return PartSpec(
            name=name, num_parameters=self.num_parameters, flops_per_sample=self.flops, activations_per_sample=self.kept
        )

    def next(self) -> Stage:
        """A stage that begins where this one ends."""
        return Stage(self.channels, self.height, self.width)


def _image(config: Config) -> tuple[int, int]:
    return pair(config, "image_size") if config.get("image_size") is not None else (DEFAULT_IMAGE, DEFAULT_IMAGE)


def _network(config: Config, head: Head, parts: list[PartSpec], width: int) -> ModelSpec:
    if head is Head.IMAGE_CLASSES:
        parts = [*parts, linear("classes of an image", width, num_labels(config))]
    return ModelSpec(
        name=config.model_type,
        family=ModelFamily.CONVOLUTIONAL,
        hidden_size=width,
        vocab_size=0,
        stacks=(),
        position=PositionKind.NONE,
        has_head=False,
        tied_embeddings=False,
        parts=tuple(parts),
    )


def _residual(stage: Stage, outputs: int, stride: int, *, bottleneck: bool, stride_first: bool) -> None:
    """One residual block; a shortcut has a convolution where the width or the size changes."""
    if stage.channels != outputs or stride != 1:
        shortcut = stage.next()
        shortcut.convolve(outputs, stride=stride)
        stage.num_parameters += shortcut.num_parameters
        stage.flops += shortcut.flops
        stage.kept += shortcut.elements
    if bottleneck:
        inner = max(1, outputs // 4)
        stage.convolve(inner, stride=stride if stride_first else 1)
        stage.convolve(inner, kernel=3, stride=1 if stride_first else stride)
        stage.convolve(outputs)
    else:
        stage.convolve(outputs, kernel=3, stride=stride)
        stage.convolve(outputs, kernel=3)


def read_resnet(config: Config, head: Head) -> ModelSpec:
    """ResNet: a convolution of 7 x 7, a pooling, stages of residual blocks (arXiv 1512.03385)."""
    height, width = _image(config)
    stem = Stage(config.count("num_channels"), height, width)
    stem.convolve(config.count("embedding_size"), kernel=7, stride=2)
    parts = [stem.part("stem")]
    stage = Stage(stem.channels, -(-stem.height // 2), -(-stem.width // 2))
    depths = config.counts("depths")
    widths = config.counts("hidden_sizes", length=len(depths))
    bottleneck = config.choice("layer_type", ("bottleneck", "basic")) == "bottleneck"
    for index, (depth, outputs) in enumerate(zip(depths, widths, strict=True)):
        stage = stage.next()
        shrinks = index > 0 or config.flag("downsample_in_first_stage")
        for block in range(depth):
            _residual(
                stage,
                outputs,
                2 if shrinks and block == 0 else 1,
                bottleneck=bottleneck,
                stride_first=config.flag("downsample_in_bottleneck"),
            )
        parts.append(stage.part(f"stage {index + 1}"))
    return _network(config, head, parts, stage.channels)


def read_convnext(config: Config, head: Head, *, second: bool = False) -> ModelSpec:
    """ConvNeXt: patches, stages of depthwise convolutions with two dense layers (arXiv 2201.03545; 2301.00808 the second)."""
    height, width = _image(config)
    depths = config.counts("depths")
    widths = config.counts("hidden_sizes", length=len(depths))
    stages = config.count("num_stages")
    config.require(stages == len(depths), "num_stages", f"found {stages}", allowed=f"as many as depths: {len(depths)}")
    patch = pair(config, "patch_size")
    stem = Stage(config.count("num_channels"), height, width)
    stem.kept += stem.elements
    stem.num_parameters += stem.channels * patch[0] * patch[1] * widths[0] + widths[0]
    rows, columns = max(1, height // patch[0]), max(1, width // patch[1])
    stem.flops += 2.0 * stem.channels * patch[0] * patch[1] * widths[0] * rows * columns
    stem.channels, stem.height, stem.width = widths[0], rows, columns
    stem.normalize()
    parts, stage = [stem.part("stem")], stem
    for index, (depth, outputs) in enumerate(zip(depths, widths, strict=True)):
        stage = stage.next()
        if index:
            stage.normalize()
            shrunk = stage.height // 2, stage.width // 2
            stage.convolve(outputs, kernel=2, stride=2, bias=True, norm=False)
            stage.flops *= max(1, shrunk[0]) * max(1, shrunk[1]) / (stage.height * stage.width)
            stage.height, stage.width = max(1, shrunk[0]), max(1, shrunk[1])
        for _ in range(depth):
            stage.convolve(outputs, kernel=7, groups=outputs, bias=True)
            stage.convolve(4 * outputs, bias=True, norm=second)
            stage.convolve(outputs, bias=True, norm=False)
            scaled = not second and config.number("layer_scale_init_value", 1e-6) > 0
            stage.num_parameters += outputs * scaled
        parts.append(stage.part(f"stage {index + 1}"))
    final = PartSpec(name="final norm", num_parameters=2 * stage.channels, place=PartPlace.AFTER, is_matrix=False)
    return _network(config, head, [*parts, final], stage.channels)


_MOBILE = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Width, number of blocks and first stride of each row of table 2 of arXiv 1801.04381."""


def _rounded(config: Config, channels: float) -> int:
    """Channels as a multiple of ``depth_divisible_by``, at least ``min_depth``, never less than nine tenths."""
    unit, least, channels = config.count("depth_divisible_by"), config.count("min_depth"), round(channels)
    value = max(least, int(channels + unit / 2) // unit * unit)
    return value + unit if value < 0.9 * channels else value


def read_mobilenet_v2(config: Config, head: Head) -> ModelSpec:
    """MobileNetV2: inverted residual blocks of an expansion, a depthwise convolution and a projection."""
    height, width = _image(config)
    multiplier, expand = config.number("depth_multiplier", 1.0), config.number("expand_ratio", 6.0)
    config.require(0 < multiplier <= 64, "depth_multiplier", f"found {multiplier:g}", allowed="more than 0, at most 64")
    stage = Stage(config.count("num_channels"), height, width)
    stage.convolve(_rounded(config, 32 * multiplier), kernel=3, stride=2)
    if not config.flag("first_layer_is_expansion"):
        stage.convolve(stage.channels)
    stage.convolve(stage.channels, kernel=3, groups=stage.channels)
    stage.convolve(_rounded(config, 16 * multiplier))
    parts, turn, shrunk = [stage.part("stem")], stage, 2
    for index, (channels, repeats, first) in enumerate(_MOBILE[1:]):
        turn = turn.next()
        for block in range(repeats):
            stride = first if block == 0 else 1
            stride = stride if shrunk * stride <= config.count("output_stride") else 1
            shrunk *= stride
            inner = _rounded(config, turn.channels * expand)
            turn.convolve(inner)
            turn.convolve(inner, kernel=3, stride=stride, groups=inner)
            turn.convolve(_rounded(config, channels * multiplier))
        parts.append(turn.part(f"stage {index + 1}"))
    last = turn.next()
    wide = config.flag("finegrained_output") and multiplier < 1.0
    last.convolve(1280 if wide else _rounded(config, 1280 * multiplier))
    return _network(config, head, [*parts, last.part("last convolution")], last.channels)


_EFFICIENT_LISTS = ("out_channels", "strides", "kernel_sizes", "expand_ratios", "num_block_repeats")


def _widened(config: Config, channels: int) -> int:
    """Channels times ``width_coefficient`` as a multiple of ``depth_divisor``, never less than nine tenths."""
    unit, wanted = config.count("depth_divisor"), channels * config.number("width_coefficient", 1.0)
    value = max(unit, int(wanted + unit / 2) // unit * unit)
    return value + unit if value < 0.9 * wanted else value


def _efficient_block(stage: Stage, outputs: int, stride: int, *, kernel: int, expand: int, squeezed: int) -> None:
    """Expansion, depthwise convolution, squeeze and excitation, projection."""
    if expand != 1:
        stage.convolve(stage.channels * expand)
    inner = stage.channels
    stage.convolve(inner, kernel=kernel, stride=stride, groups=inner)
    stage.num_parameters += 2 * inner * squeezed + squeezed + inner
    stage.flops += 4.0 * inner * squeezed
    stage.kept += stage.elements + inner + 2.0 * squeezed
    stage.convolve(outputs)


def read_efficientnet(config: Config, head: Head) -> ModelSpec:
    """EfficientNet: MobileNet's blocks with squeeze and excitation, widened and deepened (arXiv 1905.11946)."""
    height, width = _image(config)
    depth, ratio = config.number("depth_coefficient", 1.0), config.number("squeeze_expansion_ratio", 0.25)
    config.require(0 < depth <= 100, "depth_coefficient", f"found {depth:g}", allowed="more than 0, at most 100")
    config.require(0 < config.number("width_coefficient", 1.0) <= 100, "width_coefficient", "out of range", allowed="0 to 100")
    stage = Stage(config.count("num_channels"), height, width)
    stage.convolve(_widened(config, 32), kernel=3, stride=2)
    parts, inputs = [stage.part("stem")], config.counts("in_channels")
    lists = [config.counts(key, length=len(inputs)) for key in _EFFICIENT_LISTS]
    config.settle()
    for index, (channels, *row) in enumerate(zip(inputs, *lists, strict=True)):
        outputs, stride, kernel, expand, repeats = row
        stage = stage.next()
        stage.channels = _widened(config, channels)
        for block in range(math.ceil(depth * repeats)):
            squeezed = max(1, int(stage.channels * ratio))
            first = stride if block == 0 else 1
            _efficient_block(stage, _widened(config, outputs), first, kernel=kernel, expand=expand, squeezed=squeezed)
        parts.append(stage.part(f"stage {index + 1}"))
    last = stage.next()
    last.convolve(_widened(config, 1280))
    hidden = config.count("hidden_dim")
    same = hidden == last.channels
    config.require(same, "hidden_dim", f"found {hidden}", allowed=f"{last.channels}, 1280 widened", nearest=str(last.channels))
    return _network(config, head, [*parts, last.part("last convolution")], hidden)


TABLE: Mapping[str, Rule] = MappingProxyType(
    {
        "resnet": Rule(
            read=read_resnet,
            all_heads=IMAGE_HEADS,
            class_name="ResNet",
            layout="7 x 7 stem, stages of basic or bottleneck blocks with batch norms, shortcuts where size or width change",
        ),
        "convnext": Rule(
            read=read_convnext,
            all_heads=IMAGE_HEADS,
            class_name="ConvNext",
            layout="patches, stages of depthwise 7 x 7 convolutions with two dense layers, a norm and a scale",
        ),
        "convnextv2": Rule(
            read=lambda config, head: read_convnext(config, head, second=True),
            all_heads=IMAGE_HEADS,
            class_name="ConvNextV2",
            layout="ConvNeXt with a norm of responses instead of the scale",
        ),
        "efficientnet": Rule(
            read=read_efficientnet,
            all_heads=IMAGE_HEADS,
            class_name="EfficientNet",
            layout="MobileNetV2's blocks with squeeze and excitation, widths and depths by their coefficients",
        ),
        "mobilenet_v2": Rule(
            read=read_mobilenet_v2,
            all_heads=IMAGE_HEADS,
            class_name="MobileNetV2",
            layout="inverted residual blocks of three convolutions with batch norms, widths by depth_multiplier",
        ),
    }
)
