"""What the tracer says of a model on tensors without data is what torch does with data on the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest

from planner.models.counts import model_parameters, sample_flops
from trimtab.inventory import DeviceKind
from trimtab.spec.model_document import ModelDocument, TracedInput, parse_document
from trimtab.wire import dumps
from workers.trace.request import TraceRequest, read_inputs

pytestmark = pytest.mark.runtime
torch = pytest.importorskip("torch", reason="torch is not installed (extra: runtime)")

from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tests.contract.trace import models  # noqa: E402
from workers.trace.build import build  # noqa: E402
from workers.trace.document import trace  # noqa: E402
from workers.trace.kernels import kernels_of  # noqa: E402

IMAGE, TOKENS, WIDE = ("x=Bx3x64x64",), ("tokens=BxS:int64",), ("x=BxSx64",)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...], int | None]] = {
    "resnet-50": (models.ResNet, IMAGE, None),
    "vit": (models.VisionTransformer, ("image=Bx3x32x32",), None),
    "own-attention": (models.LanguageModel, TOKENS, 64),
    "fused-attention": (models.FusedAttention, WIDE, 64),
    "encoder": (models.encoder, ("src=BxSx64",), 48),
    "lstm": (models.Recurrent, TOKENS, 24),
    "masked": (models.Masked, WIDE, 64),
    "repeated": (models.Repeated, ("x=Bx32",), None),
}


def request(texts: tuple[str, ...], *, batch: int, length: int | None, device: DeviceKind) -> TraceRequest:
    return TraceRequest(
        target="models:made",
        config={},
        inputs=read_inputs(texts, batch=batch, sequence_length=length),
        batch=batch,
        sequence_length=length,
        folder="/",
        name="made",
        memory_bytes=1 << 33,
        time_limit_s=60.0,
        device=device,
    )


def traced(
    make: Callable[[], nn.Module],
    texts: tuple[str, ...],
    *,
    length: int | None = None,
    batch: int = 4,
    device: DeviceKind = DeviceKind.CPU,
) -> ModelDocument:
    asked = request(texts, batch=batch, length=length, device=device)
    with kernels_of(device):
        module, notes = build(make, {})
        document = trace(module, asked, notes=notes)
    assert parse_document(dumps(document).encode()) == document
    return document


def real_tensor(entry: TracedInput) -> Any:
    dtype = getattr(torch, entry.dtype)
    return torch.randn(entry.shape, dtype=dtype) if dtype.is_floating_point else torch.randint(0, 100, entry.shape, dtype=dtype)


class Saved:
    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


def on_cpu(make: Callable[[], nn.Module], inputs: tuple[TracedInput, ...]) -> tuple[int, int, int]:
    """Forward and backward FLOPs, and bytes that autograd keeps, with real tensors."""
    module = make().train()
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    saved: list[weakref.ref[Saved]] = []

    def pack(tensor: Any) -> Saved:
        held = Saved(tensor)
        saved.append(weakref.ref(held))
        return held

    # Without the CPU's own recurrent kernel, which the FLOP counter does not know.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
            output = module(*map(real_tensor, inputs))
        forward = counter.get_total_flops()
        living = [held.tensor for held in (reference() for reference in saved) if held is not None]
        kept = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in living}
        output = output["logits"] if isinstance(output, dict) else output
        output.sum().backward()
    return forward, counter.get_total_flops() - forward, sum(size for place, size in kept.items() if place not in own)


@pytest.mark.parametrize("case", CASES)
def test_parameters_flops_and_kept_activations_are_torchs(case: str) -> None:
    make, texts, length = CASES[case]
    document = traced(make, texts, length=length)
    parameters = list(make().parameters())
    forward, backward, kept = on_cpu(make, document.origin.inputs)
    model, measures = document.model, document.measures
    assert model_parameters(model).total == sum(p.numel() for p in parameters)
    assert sum(entry.num_trainable for entry in measures) == sum(p.numel() for p in parameters if p.requires_grad)
    assert sum(entry.forward_flops for entry in measures) == forward > 0
    assert document.backward_flops == backward > 0
    assert sample_flops(model, sequence_length=length or 1).forward * 4 == pytest.approx(forward, rel=1e-9)
    assert sum(entry.kept_bytes for entry in measures) == pytest.approx(kept, rel=0.1)
    elements = sum(part.activations_per_sample + part.activations_per_token * (length or 0) for part in model.parts)
    assert elements * 4 * document.element_bytes == pytest.approx(sum(entry.kept_bytes for entry in measures), rel=1e-9)


def test_a_residual_network_falls_into_its_blocks() -> None:
    document = traced(models.ResNet, IMAGE)
    names = [part.name for part in document.model.parts]
    assert sum(part.num_parameters for part in document.model.parts) == 25_557_032  # torchvision's ResNet-50
    assert names[:2] == ["conv1", "bn1"]
    assert names[-1] == "fc"
    assert [name for name in names if name.startswith("layer")] == [
        f"layer{stage}.{block}" for stage, count in enumerate((3, 4, 6, 3), start=1) for block in range(count)
    ]
    assert {m.run for m in document.measures if m.name.startswith("layer3")} == {None, "layer3[1..5]"}


def test_a_module_that_cannot_be_built_on_meta_is_built_on_the_cpu_and_says_so() -> None:
    document = traced(models.VisionTransformer, ("image=Bx3x32x32",))
    assert any("built on the CPU" in note and "models.py:" in note for note in document.origin.notes)
    assert [part.name for part in document.model.parts if "layers" in part.name] == [f"encoder.layers.{i}" for i in range(3)]


def test_shared_parameters_are_counted_once_where_they_stand_first() -> None:
    document = traced(models.LanguageModel, TOKENS, length=64)
    by_name = {part.name: part for part in document.model.parts}
    assert by_name["head"].num_parameters == 0
    assert by_name["head"].flops_per_token == 2 * 64 * 500
    assert by_name["embed"].num_parameters == 500 * 64
    assert not by_name["embed"].is_matrix
    assert any("head.weight: shared" in note for note in document.origin.notes)
    assert document.model.hidden_size == 64


def test_what_grows_with_the_square_of_the_length_is_told_apart() -> None:
    length, width = 64, 64
    document = traced(models.LanguageModel, TOKENS, length=length)
    block = next(entry for entry in document.measures if entry.name == "blocks.0")
    scores = 4 * 4 * length * length * width  # two products of the batch of 4: 2 s^2 h multiply-adds each
    assert block.square_flops == scores
    assert block.forward_flops == 4 * 2 * length * 12 * width * width + scores
    assert any("grow with the square of the length" in note for note in document.origin.notes)
    twice = traced(models.LanguageModel, TOKENS, length=2 * length)
    other = next(entry for entry in twice.measures if entry.name == "blocks.0")
    assert other.square_flops == 4 * block.square_flops


def test_batches_that_do_not_scale_and_lengths_that_do_not_run_are_said() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Parameter(torch.ones(64, 64)), nn.Parameter(torch.ones(64, 64))

        def forward(self, x: Any) -> Any:
            return x @ (self.left @ self.right)

    document = traced(Table, ("x=Bx64",))
    assert [part.name for part in document.model.parts] == ["(root)"]
    assert any("FLOPs grow" in note for note in document.origin.notes)

    class OneLength(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(32, 32)

        def forward(self, x: Any) -> Any:
            return self.mix(x.transpose(1, 2))

    document = traced(OneLength, ("x=BxSx16",), length=32)
    assert any("16 tokens could not be traced" in note for note in document.origin.notes)
    assert document.model.parts[0].flops_per_token * 32 == 2 * 16 * 32 * 32


def test_a_block_that_runs_several_times_and_one_that_never_does() -> None:
    document = traced(models.Repeated, ("x=Bx32",))
    by_name = {part.name: part for part in document.model.parts}
    assert by_name["block"].flops_per_sample == 3 * 2 * 32 * 32
    assert by_name["unused"].flops_per_sample == 0
    assert by_name["unused"].num_parameters == 32 * 7 + 7
    assert by_name["(root)"].flops_per_sample == 2 * 32 * 32
    assert any("unused" in note and "never calls" in note for note in document.origin.notes)


def test_a_model_of_a_hundred_billion_parameters_takes_seconds() -> None:
    def huge() -> nn.Module:
        return nn.Sequential(*(nn.Sequential(nn.Linear(12288, 49152), nn.GELU(), nn.Linear(49152, 12288)) for _ in range(96)))

    document = traced(huge, ("input=BxSx12288",), batch=1, length=2048)
    num_parameters = 96 * (2 * 12288 * 49152 + 49152 + 12288)
    assert model_parameters(document.model).total == num_parameters > 100e9
    assert sum(entry.forward_flops for entry in document.measures) == 2048 * 2 * 96 * 2 * 12288 * 49152
    assert {entry.run for entry in document.measures} == {"(root)[0..95]"}


def test_lazy_modules_get_their_shapes_first() -> None:
    document = traced(lambda: nn.Sequential(nn.LazyLinear(7), nn.ReLU(), nn.LazyLinear(3)), ("input=Bx5",))
    assert model_parameters(document.model).total == 5 * 7 + 7 + 7 * 3 + 3


def test_what_a_checkpointed_block_recomputes_is_not_kept() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)) for _ in range(2))

        def forward(self, x: Any) -> Any:
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=False)
            return x

    document = traced(Checkpointed, ("x=Bx16",))
    assert sum(entry.kept_bytes for entry in document.measures) == 2 * 4 * 16 * 4  # the inputs of two blocks


@pytest.mark.parametrize("make", [models.encoder, models.FusedAttention, models.Masked], ids=["encoder", "causal", "masked"])
def test_a_gpu_keeps_no_scores_of_a_fused_attention(make: Callable[[], nn.Module]) -> None:
    texts = ("src=BxSx64",) if make is models.encoder else WIDE
    cpu = traced(make, texts, length=128)
    gpu = traced(make, texts, length=128, device=DeviceKind.GPU)
    assert sum(entry.forward_flops for entry in gpu.measures) == sum(entry.forward_flops for entry in cpu.measures)
    kept, scores = sum(entry.kept_bytes for entry in gpu.measures), 4 * 4 * 128 * 128 * 4
    assert kept <= 1.001 * sum(entry.kept_bytes for entry in cpu.measures)  # a GPU keeps the seed of its chance as well
    if make is models.encoder:  # it drops scores, for which a CPU has no fused kernel: the chance and the softmax of each layer
        assert sum(entry.kept_bytes for entry in cpu.measures) - kept > 3 * 2 * scores
