"""Models that cannot be traced, and some that try to be in the way."""

from __future__ import annotations

import os
import sys
import time

import torch
from torch import nn


class Small(nn.Module):
    """A linear layer."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def raising() -> nn.Module:
    raise ValueError("no width\nof that kind")


def leaving() -> nn.Module:
    sys.exit(3)


def vanishing() -> nn.Module:
    os._exit(7)


def endless() -> nn.Module:
    print("this takes a while", flush=True)
    if os.fork() == 0:  # a child that would outlive it, in a session of its own and with its output open
        os.setsid()
        time.sleep(600)
    while True:
        time.sleep(1)


def greedy() -> nn.Module:
    return nn.Linear(torch.zeros(1, device="cpu").numel() * 200_000, 100_000, device="cpu")


def nothing() -> int:
    return 3


class Branch(Small):
    """Goes by a value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        return y if y.sum() > 0 else -y


class Wrapped(nn.Module):
    """Holds the branch deep inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.body = nn.Sequential(Small(), Branch())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self.stem(x))


class Loud(Small):
    """Writes JSON and garbage to every stream, and its own answer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(200):
            print('{"version": 1, "document": null}' * 100)
            sys.stderr.buffer.write(b"\xff\x00\n" * 100)
        os.write(1, b"{}")
        return self.layer(x)


number = 3
