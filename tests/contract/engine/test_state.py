"""A state saved under one strategy goes on under any other as if nothing had happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.engine.cases import MATRIX, MODELS, QUICK
from tests.contract.engine.equality import trial
from tests.contract.engine.gang import Gang, Outcome
from tests.support.long import LONG
from trimtab.strategy import Precision

pytestmark = pytest.mark.runtime

BEFORE, AFTER = 4, 4
CHAIN = ["dp2", "tp2", "fsdp2", "pp2"]
LONG_CHAIN = ["pp2 uneven", "fsdp2 tp2 sequence", "dp2 pp2", "tp2 pp2", "zero1 x2", "dp2 fsdp2", "pp4", "full recompute", "dp4"]


def go_through(gang: Gang, model_name: str, chain: list[str], folder: Path) -> None:
    """Each strategy of the chain takes over from the one before; compared with one process that is never interrupted."""
    model = MODELS[model_name]
    steps = 2 * len(chain)
    whole = gang.run(trial(model, Precision.FP64, steps))
    path, losses = "", []
    names: set[str] = set()
    for index, name in enumerate(chain):
        saved = str(folder / f"{index}.pt")
        part = replace(trial(model, Precision.FP64, 2, **MATRIX[name]), first_step=2 * index, load_from=path, save_to=saved)
        outcome: Outcome = gang.run(part)
        losses += outcome.losses
        names |= set(outcome.names)
        path = saved
    assert tuple(losses) == pytest.approx(whole.losses, rel=1e-9)
    assert names == set(whole.names)
    assert "step" in names
    assert "decoder.layers.3.attention.query.weight.exp_avg" in names or model_name != "decoder"


def test_a_chain_of_strategies(gang: Gang, tmp_path: Path) -> None:
    assert set(CHAIN) == set(QUICK)
    go_through(gang, "decoder", CHAIN, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model_name", ["biased decoder", "encoder-decoder"] if LONG else ["encoder-decoder"])
def test_a_long_chain(gang: Gang, tmp_path: Path, model_name: str) -> None:
    go_through(gang, model_name, CHAIN + LONG_CHAIN, tmp_path)
