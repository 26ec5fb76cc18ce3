"""AdamW and SGD over the local parts of the parameters, and the learning rate as a pure function of the step.

Every update rule here works element by element, so that updating the local part of a sharded parameter equals updating the
whole. torch's own fused optimizers run on plain tensors that share their storage with the (possibly sharded) parameters: this
keeps the cost of dispatching sharded tensors out of the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trimtab.workload import OptimizerKind, OptimizerSpec, ScheduleKind

STATE_NAMES = {OptimizerKind.ADAMW: ("exp_avg", "exp_avg_sq"), OptimizerKind.SGD: ("momentum_buffer",)}


def learning_rate(spec: OptimizerSpec, step: int, num_steps: int) -> float:
    """Rate of the update number ``step`` (from 0) of ``num_steps``.

    Rises linearly over ``warmup_steps``, then stays, or falls along a half cosine or a line to ``final_learning_rate_frac`` of
    it at the last step.
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    if spec.schedule is ScheduleKind.CONSTANT:
        return spec.learning_rate
    span = max(1, num_steps - 1 - spec.warmup_steps)
    done = min(1.0, (step - spec.warmup_steps) / span)
    fallen = done if spec.schedule is ScheduleKind.LINEAR else (1.0 - math.cos(math.pi * done)) / 2
    return spec.learning_rate * (1.0 - (1.0 - spec.final_learning_rate_frac) * fallen)


def clip_factor(norm: float, clip_norm: float) -> float:
    """What gradients of that global norm are multiplied by, as ``torch.nn.utils.clip_grad_norm_`` has it; 1 where nothing is
    clipped.
    """
    return min(1.0, clip_norm / (norm + 1e-6)) if clip_norm > 0 else 1.0


class LocalOptimizer:
    """The update rule over the local parts of named parameters. Only matrices (two or more dimensions) decay."""

    def __init__(self, spec: OptimizerSpec, named: Sequence[tuple[str, Tensor]]) -> None:
        """``named`` gives the local tensor of each parameter; updates are written into its storage."""
        self.spec = spec
        self.names = [name for name, _ in named]
        self.parts = [nn.Parameter(tensor.detach(), requires_grad=True) for _, tensor in named]
        self.state_names = STATE_NAMES[spec.kind] if spec.kind is OptimizerKind.ADAMW or spec.momentum else ()
        matrices = [part for part in self.parts if part.dim() >= 2]
        others = [part for part in self.parts if part.dim() < 2]
        groups = [
            {"params": params, "weight_decay": decay}
            for params, decay in ((matrices, spec.weight_decay), (others, 0.0))
            if params
        ]
        self.optimizer: torch.optim.Optimizer
        if spec.kind is OptimizerKind.ADAMW:
            betas = (spec.beta1, spec.beta2)
            self.optimizer = torch.optim.AdamW(groups, lr=spec.learning_rate, betas=betas, eps=spec.epsilon, fused=True)
        else:
            self.optimizer = torch.optim.SGD(groups, lr=spec.learning_rate, momentum=spec.momentum, fused=True)

    def update(self, gradients: Sequence[Tensor], *, rate: float) -> None:
        """One update with the local gradients, in the order of the parameters."""
        for part, gradient in zip(self.parts, gradients, strict=True):
            part.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        for part in self.parts:
            part.grad = None

    def state(self) -> dict[str, dict[str, Tensor]]:
        """For each parameter its state tensors by name, made (as zeros) where no update has run yet."""
        return {
            name: {key: self._state_of(part)[key] for key in self.state_names}
            for name, part in zip(self.names, self.parts, strict=True)
        }

    def tensors(self) -> list[Tensor]:
        """All state tensors that exist by now."""
        return [tensor for state in self.optimizer.state.values() for tensor in state.values()]

    def set_num_updates(self, num_updates: int) -> None:
        """Say how many updates the state stands for (the bias correction of AdamW depends on it)."""
        for part in self.parts:
            state = self._state_of(part)
            if self.spec.kind is OptimizerKind.ADAMW:
                state["step"].fill_(float(num_updates))

    def _state_of(self, part: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.optimizer.state[part]
        if not state:
            for key in self.state_names:
                state[key] = torch.zeros_like(part.data)
            if self.spec.kind is OptimizerKind.ADAMW:
                device = part.device if part.device.type == "cuda" else torch.device("cpu")
                state["step"] = torch.zeros((), dtype=torch.float32, device=device)
        return state
