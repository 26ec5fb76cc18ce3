"""Peak bytes of tensors, by torch's own trackers.

On NVIDIA devices the caching allocator keeps count. On the CPU the allocator reports to torch's profiler: each report carries the
bytes allocated since profiling began, so that the peak of one step is the bytes of tensors that were alive before it plus the
highest report. Profiling costs time, so it is done for designated steps only. (``torch.profiler`` itself would import the whole
compiler when it starts, which takes seconds; the profiler of ``torch.autograd`` below it does not.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.autograd.profiler import profile

MEMORY_EVENT = "[memory]"


class PeakMeter:
    """Keeps the highest number of tensor bytes seen."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._peak_bytes = 0

    @property
    def peak_bytes(self) -> int:
        """Highest bytes of tensors alive at once, so far; 0 before anything was measured."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return self._peak_bytes

    @contextlib.contextmanager
    def measured(self, alive: Iterable[Tensor]) -> Iterator[None]:
        """Measure what runs inside. ``alive`` are the tensors that exist before (shared storage is counted once)."""
        if self.device.type == "cuda":
            yield
            return
        before = storage_bytes(alive)
        with profile(use_cpu=True, profile_memory=True) as profiler:
            yield
        self._peak_bytes = max(self._peak_bytes, before + _highest_report(profiler))


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind ``tensors``, each counted once."""
    sizes = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _highest_report(profiler: profile) -> int:
    results = profiler.kineto_results
    if results is None:
        raise RuntimeError("the profiler kept no results")
    alive = highest = 0
    for event in results.events():
        if event.name() == MEMORY_EVENT and event.device_type() == DeviceType.CPU:
            alive += event.nbytes()  # type: ignore[attr-defined]
            highest = max(highest, alive)
    return highest
