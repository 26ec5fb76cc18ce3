from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from planner.models.counts import model_parameters  # noqa: E402
from tests.contract.engine.cases import MODELS, decoder  # noqa: E402
from trimtab.model import ModelSpec, PositionKind  # noqa: E402
from workers.training.models import Initialiser, build_model, build_on_meta  # noqa: E402
from workers.training.models.blocks import Rotary, rotate  # noqa: E402

pytestmark = pytest.mark.runtime


@pytest.mark.parametrize("position", PositionKind)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_the_planner_counts_the_same_parameters(model: ModelSpec, position: PositionKind, tied: bool) -> None:
    changed = ModelSpec(
        name=model.name,
        family=model.family,
        hidden_size=model.hidden_size,
        vocab_size=model.vocab_size,
        stacks=model.stacks,
        position=position,
        max_positions=40,
        tied_embeddings=tied,
    )
    built = build_on_meta(changed, torch.float32)
    assert sum(parameter.numel() for parameter in built.parameters()) == model_parameters(changed).total


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_values_depend_on_seed_and_name_alone(model: ModelSpec) -> None:
    one, same, other = (dict(build_model(model, torch.float64, seed=seed).named_parameters()) for seed in (1, 1, 2))
    half = dict(build_model(model, torch.float32, seed=1).named_parameters())
    for name, parameter in one.items():
        assert torch.equal(parameter, same[name])
        assert torch.equal(parameter.float(), half[name])
        assert torch.equal(parameter, Initialiser(model, 1).value(name, parameter.shape))
        assert (parameter.dim() >= 2) is not torch.equal(parameter, other[name])
    matrices = [parameter for parameter in one.values() if parameter.dim() >= 2]
    assert len({round(float(matrix.flatten()[0]), 12) for matrix in matrices}) == len(matrices)


def test_residual_writers_start_smaller() -> None:
    model = decoder()
    weights = dict(build_model(model, torch.float64).named_parameters())
    down, up = (weights[f"decoder.layers.0.feed_forward.{name}.weight"] for name in ("down", "up"))
    assert float(up.std()) == pytest.approx(1 / math.sqrt(32), rel=0.1)
    assert float(down.std()) == pytest.approx(1 / math.sqrt(48) / math.sqrt(8), rel=0.1)


def test_names_are_the_checkpoint_format() -> None:
    names = [name for name, _ in build_on_meta(MODELS["encoder-decoder"], torch.float32).named_parameters()]
    layer = [name.removeprefix("decoder.layers.1.") for name in names if name.startswith("decoder.layers.1.")]
    projections = [f"{kind}.weight" for kind in ("query", "key", "value", "output")]
    assert names[0] == "embedding.weight"
    assert "head.weight" not in names
    assert "encoder.norm.weight" in names
    assert layer == [
        "attention_norm.weight",
        *(f"attention.{name}" for name in projections),
        "cross_norm.weight",
        *(f"cross_attention.{name}" for name in projections),
        "feed_forward_norm.weight",
        *(f"feed_forward.{name}.weight" for name in ("gate", "up", "down")),
    ]


@pytest.mark.parametrize("name", ["decoder", "biased decoder"])
def test_a_decoder_sees_no_later_token(name: str) -> None:
    model = build_model(MODELS[name], torch.float64)
    tokens = torch.arange(16)[None] % 50
    changed = tokens.clone()
    changed[0, 9] = 51
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[0, :9], after[0, :9], rtol=0, atol=1e-12)
    assert not torch.allclose(before[0, 9], after[0, 9])


def test_a_window_hides_what_is_far() -> None:
    """Four layers with a window of 6 see 4 * 5 positions back, one layer only 5."""
    spec = MODELS["biased decoder"]
    attention = build_model(spec, torch.float64).decoder.layers["0"].attention
    x = torch.randn(1, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, 3] += 1
    differs = (attention(x) - attention(changed)).abs().amax(-1)[0] > 1e-12
    assert differs.nonzero().flatten().tolist() == [3, 4, 5, 6, 7, 8]


def test_an_encoder_decoder_reads_its_source() -> None:
    model = build_model(MODELS["encoder-decoder"], torch.float64)
    tokens, source = torch.zeros(1, 4, dtype=torch.int64), torch.arange(6)[None]
    changed = source.clone()
    changed[0, 5] = 17
    assert not torch.allclose(model(tokens, source)[0, 0], model(tokens, changed)[0, 0])
    with pytest.raises(ValueError, match="needs a source"):
        model(tokens)


def test_rotary_scores_depend_on_distance_alone() -> None:
    rotary = Rotary(8, 10_000.0)
    factors = rotary(12, dtype=torch.float64, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 1, 1, 8, dtype=torch.float64, generator=generator).expand(1, 12, 1, 8) for _ in range(2))
    turned = torch.einsum("bsad,btad->st", rotate(query, factors), rotate(key, factors))
    for distance in range(-5, 6):
        diagonal = turned.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert float(turned[0, 0]) == pytest.approx(float((query * key)[0, 0].sum()))


def test_learned_positions_end() -> None:
    with pytest.raises(ValueError, match="33 positions, but max_positions is 32"):
        build_model(MODELS["biased decoder"], torch.float32)(torch.zeros(1, 33, dtype=torch.int64))
