"""AdamW and SGD over the local parts of the parameters, and the learning rate as a pure function of the step.

Every update rule here works element by element, so that updating the local part of a sharded parameter equals updating the
whole. torch's own fused optimizers run on plain tensors that share their storage with the (possibly sharded) parameters: this
keeps the cost of dispatching sharded tensors out of the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

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
    """The update rule over the local parts of named parameters. Only matrices (two or more dimensions) decay.

    It calls the fused kernels below ``torch.optim`` themselves: torch's optimizer classes import the whole compiler when they
    are made, which takes seconds of every start.
    """

    def __init__(self, spec: OptimizerSpec, named: Sequence[tuple[str, Tensor]]) -> None:
        """``named`` gives the local tensor of each parameter; updates are written into its storage."""
        self.spec = spec
        self.names = [name for name, _ in named]
        self.parts = [tensor.detach() for _, tensor in named]
        self.state_names = STATE_NAMES[spec.kind] if spec.kind is OptimizerKind.ADAMW or spec.momentum else ()
        self._states: dict[str, list[Tensor]] = {}
        device = self.parts[0].device
        self._num_updates = torch.zeros((), dtype=torch.float32, device=device)
        decays = [part.dim() >= 2 for part in self.parts]
        self._groups = [
            (decay, [index for index, has in enumerate(decays) if has is chosen])
            for chosen, decay in ((True, spec.weight_decay), (False, 0.0))
            if chosen in decays
        ]

    def update(self, gradients: Sequence[Tensor], *, rate: float) -> None:
        """One update with the local gradients, in the order of the parameters."""
        self._make_states()
        self._num_updates += 1
        for decay, members in self._groups:
            parts = [self.parts[index] for index in members]
            theirs = [gradients[index] for index in members]
            states = [[self._states[key][index] for index in members] for key in self.state_names]
            if self.spec.kind is OptimizerKind.ADAMW:
                self._adamw(parts, theirs, states, rate=rate, decay=decay)
            else:
                self._sgd(parts, theirs, states, rate=rate, decay=decay)

    def _adamw(
        self, parts: list[Tensor], gradients: list[Tensor], states: list[list[Tensor]], *, rate: float, decay: float
    ) -> None:
        torch._fused_adamw_(
            parts,
            gradients,
            states[0],
            states[1],
            [],
            [self._num_updates] * len(parts),
            lr=rate,
            beta1=self.spec.beta1,
            beta2=self.spec.beta2,
            weight_decay=decay,
            eps=self.spec.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def _sgd(
        self, parts: list[Tensor], gradients: list[Tensor], states: list[list[Tensor]], *, rate: float, decay: float
    ) -> None:
        torch._fused_sgd_(
            parts,
            gradients,
            states[0] if states else [],
            weight_decay=decay,
            momentum=self.spec.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )

    def state(self) -> dict[str, dict[str, Tensor]]:
        """For each parameter its state tensors by name, zeros where no update has run yet."""
        self._make_states()
        return {name: {key: self._states[key][index] for key in self.state_names} for index, name in enumerate(self.names)}

    def tensors(self) -> list[Tensor]:
        """All state tensors that exist by now."""
        return [tensor for tensors in self._states.values() for tensor in tensors]

    def set_num_updates(self, num_updates: int) -> None:
        """Say how many updates the state stands for (the bias correction of AdamW depends on it)."""
        self._num_updates.fill_(float(num_updates))

    def _make_states(self) -> None:
        for key in self.state_names:
            if key not in self._states:
                self._states[key] = [torch.zeros_like(part) for part in self.parts]
