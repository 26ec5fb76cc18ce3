"""Convolutional presets have the parameters and, to 2 %, the FLOPs of the networks in torchvision and timm."""

from __future__ import annotations

import pytest

from planner.models.counts import model_parameters, sample_flops
from trimtab.spec import PRESETS

pytestmark = pytest.mark.runtime
torch = pytest.importorskip("torch", reason="torch is not installed (extra: runtime)")

TORCHVISION = {
    "resnet-18": "resnet18",
    "resnet-34": "resnet34",
    "resnet-50": "resnet50",
    "resnet-101": "resnet101",
    "resnet-152": "resnet152",
    "convnext-tiny": "convnext_tiny",
    "convnext-base": "convnext_base",
    "mobilenet-v2": "mobilenet_v2",
    "efficientnet-b0": "efficientnet_b0",
    "vit-b-16": "vit_b_16",
    "vit-l-16": "vit_l_16",
}
TIMM = {
    "resnet-18": "resnet18",
    "resnet-50": "resnet50",
    "resnet-101": "resnet101",
    "resnet-152": "resnet152",
    "convnext-tiny": "convnext_tiny",
    "mobilenet-v2": "mobilenetv2_100",
    "efficientnet-b0": "efficientnet_b0",
    "vit-b-16": "vit_base_patch16_224",
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    models = pytest.importorskip("torchvision", reason="torchvision is not installed: its networks are the reference here").models
    with torch.device("meta"):
        module = getattr(models, TORCHVISION[name])()
    assert sum(p.numel() for p in module.parameters()) == model_parameters(PRESETS[name]).total
    assert sample_flops(PRESETS[name], sequence_length=1).forward == pytest.approx(_flops(module), rel=0.02)


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed: its networks are the reference here")
    with torch.device("meta"):
        module = timm.create_model(TIMM[name])
    assert sum(p.numel() for p in module.parameters()) == model_parameters(PRESETS[name]).total


def _flops(module: torch.nn.Module) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module.eval()(torch.empty(1, 3, 224, 224, device="meta"))
    return int(counter.get_total_flops())
