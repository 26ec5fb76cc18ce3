"""Spreads a model over the ranks of a strategy.

The model is built without storage, cut to this rank's pipeline stage, its parameters distributed over the tensor axis and then
the sharded axis, and only then filled: each rank keeps its part of the same initial values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab.model import ModelSpec
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload
from workers.training.batch import Batch
from workers.training.distributed import Place
from workers.training.layout import Layout, chunk, rank_layouts
from workers.training.loss import LossFunction, split_vocabulary_loss, summed_loss
from workers.training.models import Initialiser, Transformer, build_on_meta, give_storage
from workers.training.parallel_gather import gather
from workers.training.parallel_held import Held, as_distributed, is_distributed, local_of, squared_norm
from workers.training.parallel_plan import RankPlan
from workers.training.parallel_recompute import apply_recompute
from workers.training.parallel_sharded import ShardedUnits
from workers.training.parallel_sums import GradientSums, gradient_sums
from workers.training.parallel_tensor import apply_tensor_parallel, use_leaves
from workers.training.pipeline import PipelineRunner, cut_to_stage
from workers.training.precision import arithmetic


@dataclass(kw_only=True)
class ParallelModel:
    """This rank's part of the model, and what is done with it in a step.

    ``held`` are its parameters by full name, ``layouts`` those of every rank. ``units`` is set under FSDP2, ``pipeline`` under
    a pipeline.
    """

    module: Transformer
    held: Mapping[str, Held]
    layouts: Sequence[Mapping[str, Layout]]
    plan: RankPlan
    loss: LossFunction
    sums: GradientSums
    units: ShardedUnits | None = None
    pipeline: PipelineRunner | None = None

    @property
    def place(self) -> Place:
        """This rank's place in the mesh."""
        return self.plan.place

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return self.plan.device

    @property
    def has_loss(self) -> bool:
        """Whether this rank counts its data rank's loss: the last stage's first tensor rank."""
        return self.place.tp == 0 and self.plan.part.is_last

    def local_parameters(self) -> list[tuple[str, Tensor]]:
        """Name and local part of each parameter of this rank."""
        return [(each.name, each.local) for each in self.held.values()]

    def forward_backward(self, batch: Batch, *, weight: float) -> Tensor:
        """Gradients of ``weight`` times the summed loss of the batch; that weighted loss (at the last stage, 0 elsewhere)."""
        if self.pipeline is not None:
            return self.pipeline.run(batch, weight=weight, backward=True)
        strategy = self.plan.strategy
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        micros = batch.split(strategy.micro_batch)
        for index, micro in enumerate(micros):
            last = index == len(micros) - 1
            if self.units is not None:
                self.units.before_backward(last=last)
            with arithmetic(strategy.precision, self.device):
                loss = self.loss(self.module(micro.tokens, micro.source), micro.targets) * weight
            if last:
                self.sums.before_last_backward()
            loss.backward()
            total += loss.detach()
        return total

    def forward_only(self, batch: Batch) -> Tensor:
        """Summed loss of the batch (at the last stage, 0 elsewhere)."""
        if self.pipeline is not None:
            return self.pipeline.run(batch, weight=1.0, backward=False)
        strategy = self.plan.strategy
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.no_grad(), arithmetic(strategy.precision, self.device):
            for micro in batch.split(strategy.micro_batch):
                total += self.loss(self.module(micro.tokens, micro.source), micro.targets)
        if self.units is not None:
            self.units.after_forward_only()
        return total

    def reduced_gradients(self) -> list[Tensor]:
        """Local gradients in the order of the parameters, added up over the ranks that hold the same part."""
        return self.sums.finish(self.held)

    def squared_norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """This rank's share of the squared norm of all gradients."""
        counted = [gradient for gradient, each in zip(gradients, self.held.values(), strict=True) if each.layout.primary]
        return squared_norm(counted)

    def zero_gradients(self) -> None:
        """Free all gradients."""
        for each in self.held.values():
            each.bearer.grad = None

    def resident_tensors(self) -> list[Tensor]:
        """Tensors that live from step to step."""
        return [each.local for each in self.held.values()]

    def as_global(self, name: str, part: Tensor) -> Tensor:
        """A part laid out as the parameter of that name, as a tensor of the whole's shape."""
        return self.held[name].as_global(part)

    def assign(self, name: str, part: Tensor, value: Tensor) -> None:
        """Copy the whole ``value``, or a DTensor laid out as here, into ``part``."""
        self.held[name].assign(part, value)

    def gather(self) -> dict[str, Tensor] | None:
        """All parameters whole on the CPU at rank 0; None at the others."""
        return gather(self.held, self.layouts)


def build_parallel_model(*, model: ModelSpec, train: TrainWorkload, strategy: Strategy, device: torch.device) -> ParallelModel:
    """This rank's part of the model, filled with initial values.

    Raises ValueError where the strategy asks for what the engine does not have or does not fit the model or the number of ranks.
    """
    plan = RankPlan.of(model=model, train=train, strategy=strategy, device=device)
    module = build_on_meta(model, plan.formats.parameter)
    layouts = _all_layouts(module, plan)
    cut_to_stage(module, plan.part)
    if plan.mesh is not None and strategy.tp > 1:
        apply_tensor_parallel(module, plan.mesh["tp"], sequence_parallel=strategy.sequence_parallel)
    apply_recompute(module, strategy.recompute)
    units = _shard(module, plan)
    if strategy.tp > 1 or units is not None:
        module.to_empty(device=device)
        module.tie()
    else:
        give_storage(module, device)
    held = _hold(module, layouts[plan.rank], plan)
    _fill(held, Initialiser(model, train.seed))
    loss: LossFunction = summed_loss
    if strategy.tp > 1:
        loss = split_vocabulary_loss(chunk(model.vocab_size, strategy.tp, plan.place.tp)[0], plan.group("tp"))
    return ParallelModel(
        module=module,
        held={each.name: each for each in held},
        layouts=layouts,
        plan=plan,
        loss=loss,
        sums=gradient_sums(module, held, plan),
        units=units,
        pipeline=PipelineRunner(module, plan, loss) if strategy.pp > 1 else None,
    )


def _all_layouts(whole: Transformer, plan: RankPlan) -> list[dict[str, Layout]]:
    shapes = {name: tuple(parameter.shape) for name, parameter in whole.named_parameters()}
    places = [Place.of(plan.strategy, rank) for rank in range(plan.strategy.world_size)]
    return [rank_layouts(shapes, strategy=plan.strategy, place=place, parts=plan.parts) for place in places]


def _shard(module: Transformer, plan: RankPlan) -> ShardedUnits | None:
    if plan.mesh is None or plan.strategy.fsdp == 1:
        return None
    axes = plan.mesh["dp", "fsdp"] if plan.strategy.dp > 1 else plan.mesh["fsdp"]
    return ShardedUnits(module, axes, zero_stage=plan.strategy.zero_stage, formats=plan.formats)


def _hold(module: Transformer, layouts: Mapping[str, Layout], plan: RankPlan) -> list[Held]:
    """The parameters of the module with their local parts; the arithmetic runs on the parts where no unit of FSDP2 owns them."""
    held = []
    leaf = plan.strategy.fsdp == 1
    for name, parameter in module.named_parameters():
        layout = layouts[name]
        distributed = as_distributed(parameter) if is_distributed(parameter) else None
        local = local_of(parameter)
        if leaf:
            local.requires_grad_(True)
        assert tuple(local.shape) == layout.local_shape, f"{name}: {tuple(local.shape)} held, {layout.local_shape} planned"
        held.append(
            Held(
                name=name,
                parameter=parameter,
                local=local,
                layout=layout,
                leaf=leaf,
                mesh=distributed.device_mesh if distributed is not None else None,
                placements=tuple(distributed.placements) if distributed is not None else (),
            )
        )
    if leaf:
        use_leaves(module, {id(each.parameter): each.local for each in held})
    return held


def _fill(held: Sequence[Held], initialiser: Initialiser) -> None:
    with torch.no_grad():
        for each in held:
            each.local.copy_(each.layout.part(initialiser.value(each.name, torch.Size(each.layout.shape))))
