from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from tests.contract.engine.cases import EIGHT, MATRIX, MODELS, strategy  # noqa: E402
from trimtab.model import ModelSpec  # noqa: E402
from trimtab.strategy import Strategy  # noqa: E402
from workers.training.distributed import Place  # noqa: E402
from workers.training.layout import chunk, cut_dimension, rank_layouts  # noqa: E402
from workers.training.models import build_on_meta  # noqa: E402
from workers.training.pipeline_split import stage_layers, stage_parts  # noqa: E402

pytestmark = pytest.mark.runtime


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("num_parts", [1, 2, 3, 4])
def test_chunks_are_torchs(size: int, num_parts: int) -> None:
    parts = torch.arange(size).chunk(num_parts)
    for index in range(num_parts):
        start, stop = chunk(size, num_parts, index)
        expected = parts[index].tolist() if index < len(parts) else []
        assert list(range(start, stop)) == expected


def test_tp_varies_fastest() -> None:
    places = [Place.of(Strategy(dp=2, fsdp=2, zero_stage=3, tp=2, pp=2), rank) for rank in range(16)]
    assert places == [Place(pp=pp, dp=dp, fsdp=fsdp, tp=tp) for pp, dp, fsdp, tp in itertools.product(range(2), repeat=4)]


@pytest.mark.parametrize("name", [*MATRIX, *EIGHT])
@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_primary_boxes_cover_every_parameter_once(model: ModelSpec, name: str) -> None:
    chosen = strategy(**{**MATRIX, **EIGHT}[name])
    whole = build_on_meta(model, torch.float32)
    shapes = {key: tuple(parameter.shape) for key, parameter in whole.named_parameters()}
    parts = stage_parts(model, chosen)
    covered = {key: torch.zeros(shape, dtype=torch.int64) for key, shape in shapes.items()}
    for rank in range(chosen.world_size):
        for key, layout in rank_layouts(shapes, strategy=chosen, place=Place.of(chosen, rank), parts=parts).items():
            if layout.primary:
                layout.part(covered[key]).add_(1)
    for key, count in covered.items():
        assert bool((count == 1).all()), key


def test_the_wrong_shape_is_refused() -> None:
    parts = stage_parts(MODELS["decoder"], Strategy())
    layout = rank_layouts({"embedding.weight": (5, 2)}, strategy=Strategy(), place=Place(), parts=parts)["embedding.weight"]
    with pytest.raises(ValueError, match=r"\(5, 2\), found \(2, 5\)"):
        layout.part(torch.zeros(2, 5))


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("embedding.weight", 0),
        ("head.weight", 0),
        ("decoder.layers.3.cross_attention.key.bias", 0),
        ("decoder.layers.3.attention.output.weight", 1),
        ("decoder.layers.3.attention.output.bias", None),
        ("encoder.layers.0.feed_forward.down.weight", 1),
        ("decoder.layers.0.attention_norm.weight", None),
        ("decoder.positions.weight", None),
    ],
)
def test_tensor_cuts(name: str, dimension: int | None) -> None:
    assert cut_dimension(name) == dimension


def test_stages_default_to_near_even() -> None:
    model = MODELS["encoder-decoder"]
    assert stage_layers(model, Strategy(pp=3)) == (2, 1, 1)
    assert stage_layers(model, Strategy(pp=2, stage_layers=(1, 3))) == (1, 3)


def test_a_stage_holds_what_it_runs() -> None:
    first, second = stage_parts(MODELS["encoder-decoder"], Strategy(pp=2, stage_layers=(3, 1)))
    assert (first.encoder, first.decoder, second.decoder) == (range(2), range(1), range(1, 2))
    for name, where in (
        ("embedding.weight", (True, True)),
        ("encoder.norm.weight", (True, False)),
        ("decoder.positions", (True, False)),
        ("decoder.layers.1.cross_norm.weight", (False, True)),
        ("decoder.norm.weight", (False, True)),
        ("head", (False, True)),
    ):
        assert (first.holds(name), second.holds(name)) == where, name
    untied = stage_parts(MODELS["biased decoder"], Strategy(pp=2))
    assert [part.holds("embedding") for part in untied] == [True, False]
