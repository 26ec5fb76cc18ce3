"""A training script of one's own, unchanged for Trimtab: it reads what torchrun would set and saves where it is told.

    trimtab run --devices 2 -- python examples/any-script/train.py --steps 200

Data-parallel linear regression on gloo or NCCL. It also runs alone: ``python examples/any-script/train.py``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist


def main() -> None:
    """Train, and go on from the last checkpoint where there is one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else torch.device("cpu")
    if world > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    folder = Path(os.environ.get("TRIMTAB_CHECKPOINT_DIR", "."))
    file = folder / "any-script.pt"
    weight = torch.zeros(16, device=device)
    first = 0
    if file.exists():
        saved = torch.load(file, weights_only=True, map_location=device)
        weight, first = saved["weight"], int(saved["step"])
        print(f"rank {rank}: going on from step {first}", flush=True)
    truth = torch.arange(16, dtype=torch.float32, device=device)
    for step in range(first, steps):
        generator = torch.Generator().manual_seed(step * world + rank)
        inputs = torch.randn(64, 16, generator=generator).to(device)
        gradient = inputs.T @ (inputs @ (weight - truth)) / len(inputs)
        if world > 1:
            dist.all_reduce(gradient)
        weight = weight - 0.1 * gradient / world
        if rank == 0 and (step + 1) % 50 == 0:
            temporary = file.with_suffix(".tmp")
            torch.save({"weight": weight, "step": step + 1}, temporary)
            os.replace(temporary, file)
            print(f"step {step + 1}: error {float((weight - truth).norm()):.6f}", flush=True)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
