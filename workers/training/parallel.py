"""Spreads a model over the ranks of a strategy.

The model is built without storage, cut to this rank's pipeline stage, its parameters distributed over the tensor axis and then
the sharded axis, and only then filled: each rank keeps its part of the same initial values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from trimtab.model import ModelSpec
from trimtab.strategy import Strategy
from trimtab.workload import TrainWorkload
from workers.training.batch import Batch
from workers.training.distributed import Place, build_mesh
from workers.training.layout import Layout, chunk, rank_layouts
from workers.training.loss import LossFunction, split_vocabulary_loss, summed_loss
from workers.training.models import Initialiser, Transformer, build_on_meta, give_storage
from workers.training.parallel_checks import check
from workers.training.parallel_held import Held, as_distributed, is_distributed, local_of, squared_norm
from workers.training.parallel_recompute import apply_recompute
from workers.training.parallel_replicas import Replicas
from workers.training.parallel_sharded import ShardedUnits
from workers.training.parallel_tensor import apply_tensor_parallel, sequence_names, use_leaves
from workers.training.pipeline import PipelineRunner, cut_to_stage, stage_edges
from workers.training.pipeline_split import StagePart, stage_parts
from workers.training.precision import Formats, arithmetic, formats


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSums:
    """What has to be added up after the backward pass, beside what FSDP2 does itself.

    ``replicas`` over dp; ``partial`` names over ``tensor`` (sequence parallelism); ``shared`` names over ``holders``, the
    stages that hold the same embedding.
    """

    replicas: Replicas | None = None
    partial: tuple[str, ...] = ()
    tensor: dist.ProcessGroup | None = None
    shared: tuple[str, ...] = ()
    holders: dist.ProcessGroup | None = None


class ParallelModel:
    """This rank's part of the model, and what is done with it in a step."""

    def __init__(
        self,
        *,
        module: Transformer,
        held: Sequence[Held],
        place: Place,
        strategy: Strategy,
        loss: LossFunction,
        sums: GradientSums,
        others: Mapping[int, Mapping[str, Layout]],
    ) -> None:
        """``others`` gives, at rank 0, the layouts of every rank."""
        self.module = module
        self.held = {each.name: each for each in held}
        self.place = place
        self.strategy = strategy
        self.device = held[0].local.device
        self.units: ShardedUnits | None = None
        self.pipeline: PipelineRunner | None = None
        self._loss = loss
        self._sums = sums
        self._others = others

    @property
    def has_loss(self) -> bool:
        """Whether this rank counts its data rank's loss: the last stage's first tensor rank."""
        return self.place.tp == 0 and self.place.pp == self.strategy.pp - 1

    def local_parameters(self) -> list[tuple[str, Tensor]]:
        """Name and local part of each parameter of this rank."""
        return [(each.name, each.local) for each in self.held.values()]

    def forward_backward(self, batch: Batch, *, weight: float) -> Tensor:
        """Gradients of ``weight`` times the summed loss of the batch; that weighted loss (at the last stage, 0 elsewhere)."""
        if self.pipeline is not None:
            return self.pipeline.run(batch, weight=weight, backward=True)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        micros = batch.split(self.strategy.micro_batch)
        for index, micro in enumerate(micros):
            last = index == len(micros) - 1
            if self.units is not None:
                self.units.before_backward(last=last)
            with arithmetic(self.strategy.precision, self.device):
                loss = self._loss(self.module(micro.tokens, micro.source), micro.targets) * weight
            if last and self._sums.replicas is not None:
                self._sums.replicas.arm()
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def forward_only(self, batch: Batch) -> Tensor:
        """Summed loss of the batch (at the last stage, 0 elsewhere)."""
        if self.pipeline is not None:
            return self.pipeline.run(batch, weight=1.0, backward=False)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with torch.no_grad(), arithmetic(self.strategy.precision, self.device):
            for micro in batch.split(self.strategy.micro_batch):
                total += self._loss(self.module(micro.tokens, micro.source), micro.targets)
        if self.units is not None:
            self.units.after_forward_only()
        return total

    def reduced_gradients(self) -> list[Tensor]:
        """Local gradients in the order of the parameters, added up over the ranks that hold the same part."""
        if self._sums.replicas is not None:
            self._sums.replicas.finish()
        gradients = {name: each.gradient() for name, each in self.held.items()}
        _add_up([gradients[name] for name in self._sums.partial], self._sums.tensor)
        _add_up([gradients[name] for name in self._sums.shared], self._sums.holders)
        return list(gradients.values())

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
        """All parameters whole on the CPU at rank 0; None at the others. Each box travels once, from its primary holder."""
        mine = {name: each.local.detach() for name, each in self.held.items() if each.layout.primary}
        if not dist.is_initialized():
            return {name: part.cpu().clone() for name, part in mine.items()}
        if dist.get_rank() != 0:
            if mine:
                dist.send(torch.cat([part.flatten() for part in mine.values()]), dst=0)
            return None
        whole: dict[str, Tensor] = {}
        for rank, layouts in self._others.items():
            boxes = {name: layout for name, layout in layouts.items() if layout.primary}
            if not boxes:
                continue
            if rank == 0:
                parts = mine
            else:
                parts = _receive(boxes, rank, like=next(iter(self.held.values())).local)
            for name, layout in boxes.items():
                target = whole.setdefault(name, torch.empty(layout.shape, dtype=parts[name].dtype))
                layout.part(target).copy_(parts[name])
        return whole


def _receive(boxes: Mapping[str, Layout], rank: int, *, like: Tensor) -> dict[str, Tensor]:
    sizes = [torch.Size(layout.local_shape).numel() for layout in boxes.values()]
    flat = torch.empty(sum(sizes), dtype=like.dtype, device=like.device)
    dist.recv(flat, src=rank)
    return {name: part.view(layout.local_shape) for (name, layout), part in zip(boxes.items(), flat.split(sizes), strict=True)}


def _add_up(tensors: Sequence[Tensor], group: dist.ProcessGroup | None) -> None:
    """Sum the tensors in place over ``group``, in one message."""
    if not tensors or group is None:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat, group=group)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def build_parallel_model(*, model: ModelSpec, train: TrainWorkload, strategy: Strategy, device: torch.device) -> ParallelModel:
    """This rank's part of the model, filled with initial values.

    Raises ValueError where the strategy asks for what the engine does not have or does not fit the model or the number of ranks.
    """
    check(model, train, strategy)
    kinds = formats(strategy.precision, device)
    mesh = build_mesh(strategy, device)
    place = Place.of(strategy, dist.get_rank() if mesh is not None else 0)
    parts = stage_parts(model, strategy)
    module = build_on_meta(model, kinds.parameter)
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    places = [Place.of(strategy, rank) for rank in range(strategy.world_size)]
    layouts = [rank_layouts(shapes, strategy=strategy, place=each, parts=parts) for each in places]
    cut_to_stage(module, parts[place.pp])
    if mesh is not None and strategy.tp > 1:
        apply_tensor_parallel(module, mesh["tp"], sequence_parallel=strategy.sequence_parallel)
    apply_recompute(module, strategy.recompute)
    units = _shard(module, mesh, strategy=strategy, kinds=kinds)
    if strategy.tp > 1 or strategy.fsdp > 1:
        module.to_empty(device=device)
        module.tie()
    else:
        give_storage(module, device)
    held = _hold(module, layouts[dist.get_rank() if mesh is not None else 0], strategy)
    _fill(held, Initialiser(model, train.seed))
    parallel = ParallelModel(
        module=module,
        held=held,
        place=place,
        strategy=strategy,
        loss=_loss(model, strategy, mesh, place),
        sums=_gradient_sums(module, held, mesh, strategy=strategy, parts=parts),
        others=dict(enumerate(layouts)) if place == Place() else {},
    )
    parallel.units = units
    if mesh is not None and strategy.pp > 1:
        part = parts[place.pp]
        parallel.pipeline = PipelineRunner(
            module,
            part=part,
            loss=_loss(model, strategy, mesh, place),
            edges=stage_edges(model, train, strategy, part, formats=kinds),
            strategy=strategy,
            train=train,
            group=mesh["pp"].get_group(),
            device=device,
        )
    return parallel


def _shard(module: Transformer, mesh: DeviceMesh | None, *, strategy: Strategy, kinds: Formats) -> ShardedUnits | None:
    if mesh is None or strategy.fsdp == 1:
        return None
    axes = mesh["dp", "fsdp"] if strategy.dp > 1 else mesh["fsdp"]
    return ShardedUnits(module, axes, zero_stage=strategy.zero_stage, formats=kinds)


def _hold(module: Transformer, layouts: Mapping[str, Layout], strategy: Strategy) -> list[Held]:
    """The parameters of the filled module with their local parts; computing on the parts where no unit of FSDP2 owns them."""
    held = []
    for name, parameter in module.named_parameters():
        layout = layouts[name]
        distributed = as_distributed(parameter) if is_distributed(parameter) else None
        local = local_of(parameter)
        leaf = strategy.fsdp == 1
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
    if strategy.fsdp == 1:
        use_leaves(module, {id(each.parameter): each.local for each in held})
    return held


def _fill(held: Sequence[Held], initialiser: Initialiser) -> None:
    with torch.no_grad():
        for each in held:
            each.local.copy_(each.layout.part(initialiser.value(each.name, torch.Size(each.layout.shape))))


def _loss(model: ModelSpec, strategy: Strategy, mesh: DeviceMesh | None, place: Place) -> LossFunction:
    if mesh is None or strategy.tp == 1:
        return summed_loss
    first, _ = chunk(model.vocab_size, strategy.tp, place.tp)
    return split_vocabulary_loss(first, mesh["tp"].get_group())


def _gradient_sums(
    module: Transformer,
    held: Sequence[Held],
    mesh: DeviceMesh | None,
    *,
    strategy: Strategy,
    parts: tuple[StagePart, ...],
) -> GradientSums:
    if mesh is None:
        return GradientSums()
    replicas = None
    if strategy.dp > 1 and strategy.fsdp == 1:
        replicas = Replicas([each.bearer for each in held], mesh["dp"].get_group())
    sequence = strategy.tp > 1 and strategy.sequence_parallel
    holders = _embedding_holders(mesh, [part.index for part in parts if part.holds("embedding")])
    return GradientSums(
        replicas=replicas,
        partial=tuple(sequence_names(module)) if sequence else (),
        tensor=mesh["tp"].get_group() if sequence else None,
        shared=("embedding.weight",) if holders is not None and module.embedding is not None else (),
        holders=holders,
    )


def _embedding_holders(mesh: DeviceMesh, stages: Sequence[int]) -> dist.ProcessGroup | None:
    """The group of this rank's counterparts in the stages that hold the embedding; None where only one stage does, or this one
    does not.

    Every rank makes every group, in the same order, as torch requires.
    """
    if len(stages) < 2:
        return None
    mine = None
    ranks = mesh.mesh.flatten(1)
    for column in range(ranks.shape[1]):
        members = [int(ranks[stage, column]) for stage in stages]
        group = dist.new_group(members)
        if dist.get_rank() in members:
            mine = group
    return mine
