"""The candidate of a unit that keeps what it has."""

from __future__ import annotations

from planner.candidates.calibrate import calibrated
from planner.candidates.generate import Generator, Scored, command_strategy_time, train_candidate
from planner.candidates.predict import Judged, needed_bytes, verdict
from planner.costs import predict
from trimtab.inventory import Inventory, Offer, Shape
from trimtab.plan import Candidate, PlanRequest


def fixed_candidate(request: PlanRequest, inventory: Inventory, generator: Generator) -> Scored:
    """What a fixed unit runs: its devices as a shape, the first offer of their pool, its strategy with its prediction.

    Raises ValueError where the unit holds nothing, or devices of several pools or of a pool without an offer.
    """
    pool_ids = {device.pool_id for device in request.held}
    if len(pool_ids) != 1:
        raise ValueError(f"unit {request.unit_id} holds devices of {len(pool_ids)} pools; a unit runs in one")
    pool = inventory.pool(next(iter(pool_ids)))
    offer = _first_offer(request, inventory)
    nodes = list(dict.fromkeys(device.node_id for device in request.held))
    shape = Shape(num_nodes=len(nodes), devices_per_node=-(-len(request.held) // len(nodes)))
    spec = request.spec
    if request.strategy is None or spec.model is None or spec.train is None:
        return _command(request, offer, shape)
    context = generator.context(pool, shape)
    raw = predict(model=spec.model, train=spec.train, strategy=request.strategy, context=context)
    prediction = calibrated(raw, generator.calibration(pool, spec.framework))
    capacity = float(context.device_type.memory_bytes)
    worst = max(needed_bytes(entry) for entry in prediction.memory)
    judged = Judged(
        strategy=request.strategy,
        prediction=prediction,
        fit=verdict(prediction.memory, capacity),
        headroom_frac=(capacity - worst) / capacity if capacity else 0.0,
        overflow_frac=0.0,
    )
    return train_candidate(request, offer, shape=shape, judged=judged)


def _first_offer(request: PlanRequest, inventory: Inventory) -> Offer:
    pool_id = request.held[0].pool_id
    wanted = request.spec.devices.markets
    matching = [offer for offer in inventory.offers if offer.pool_id == pool_id]
    asked = [offer for offer in matching if not wanted or offer.market in wanted]
    if not matching:
        raise ValueError(f"unit {request.unit_id} holds devices of {pool_id}, which no offer names")
    return (asked or matching)[0]


def _command(request: PlanRequest, offer: Offer, shape: Shape) -> Scored:
    unknown = command_strategy_time()
    candidate = Candidate(
        unit_id=request.unit_id,
        offer_id=offer.id,
        pool_id=offer.pool_id,
        shape=shape,
        strategy=None,
        step_s=unknown,
        total_s=unknown,
        cost_usd=unknown,
        price_usd_per_hour=offer.price_usd_per_device_hour * len(request.held),
    )
    return Scored(candidate=candidate, headroom_frac=1.0, overflow_frac=0.0, constants=())
