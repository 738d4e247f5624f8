"""A sample's random numbers are those of its place in the global batch, whoever holds it."""

import pytest
import torch

from vitpose.models.drop_path import DropPath
from vitpose.models.mae import MAEConfig, MaskedAutoencoder
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.sizes import SIZES, find_size
from vitpose.training.draws import SampleDraws, sample_numbers

CPU = torch.device("cpu")


@pytest.mark.parametrize("width", [1, 4, 7, 192])
@pytest.mark.parametrize("parts", [[12], [3, 3, 3, 3], [1, 11], [6, 4, 2]])
def test_a_place_has_the_same_numbers_however_the_batch_is_divided(width: int, parts: list[int]) -> None:
    whole = sample_numbers(3, 5, 0, 12, width)
    begins = [sum(parts[:i]) for i in range(len(parts))]
    pieces = [sample_numbers(3, 5, at, count, width) for at, count in zip(begins, parts, strict=True)]
    assert torch.equal(torch.cat(pieces), whole)


def test_seed_step_and_place_all_matter_and_the_numbers_are_uniform() -> None:
    first = sample_numbers(0, 0, 0, 500, 24)
    for other in (
        sample_numbers(1, 0, 0, 500, 24),
        sample_numbers(0, 1, 0, 500, 24),
        sample_numbers(0, 0, 500, 500, 24),
    ):
        assert abs(torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1]) < 0.04
    assert 0 <= first.min() and first.max() <= 1
    assert len(first.unique()) > 0.99 * first.numel()
    histogram = torch.histc(first, 10, 0, 1) / first.numel()
    assert (histogram - 0.1).abs().max() < 0.015


@pytest.mark.parametrize("size", SIZES)
def test_every_size_drops_alike_on_one_worker_and_on_four(size: str) -> None:
    """The published rates: which branches of which samples are left out."""
    with torch.device("meta"):
        model = build_model(PoseConfig(size=size, image_hw=(64, 48), head="simple"))
    names = set(model.state_dict())
    layers = [module for module in model.modules() if isinstance(module, DropPath)]
    depth, rate = find_size(size).depth, find_size(size).drop_path
    expected = [x for x in torch.linspace(0, rate, depth).tolist() for _ in range(2) if x > 0]
    assert [layer.rate for layer in layers] == pytest.approx(expected)
    assert not any("drop" in name for name in names)

    def kept(rank: int, world_size: int) -> list[torch.Tensor]:
        SampleDraws(model, 7, CPU).give(11, rank * (512 // world_size), 512 // world_size)
        ones = torch.ones(512 // world_size, 1, 1)
        return [layer(ones) for layer in layers]

    alone = kept(0, 1)
    for layer, whole, *parts in zip(layers, alone, *(kept(rank, 4) for rank in range(4)), strict=True):
        assert torch.equal(torch.cat(parts), whole)
        assert torch.allclose(whole[whole != 0], torch.tensor(1 / (1 - layer.rate)))
        assert float((whole == 0).float().mean()) == pytest.approx(layer.rate, abs=0.1)
    if layers:
        assert not torch.equal(alone[-1], alone[-2])  # each branch draws for itself


def test_masks_are_drawn_by_place_and_cover_what_they_should() -> None:
    mae = MaskedAutoencoder(
        MAEConfig(size="nano", image_hw=(64, 48), decoder_dim=32, decoder_depth=1, decoder_heads=4)
    )
    draws = SampleDraws(mae, 0, CPU)
    images = torch.zeros(8, 3, 64, 48)
    draws.give(2, 0, 8)
    whole, kept = mae.random_masking(images, None)
    assert kept.shape == (8, 3) and torch.equal(whole.sort(1).values, torch.arange(12).expand(8, -1))
    for rank in range(4):
        draws.give(2, rank * 2, 2)
        assert torch.equal(mae.random_masking(images[:2], None)[0], whole[rank * 2 : rank * 2 + 2])
    with pytest.raises(ValueError, match="masks were drawn for 2 pictures and 8 came"):
        mae.random_masking(images, None)
    draws.withdraw()
    torch.manual_seed(0)
    own, _ = mae.random_masking(images, None)
    assert not torch.equal(own, mae.random_masking(images, None)[0])


def test_drop_path_refuses_numbers_for_other_samples_and_rests_in_eval_mode() -> None:
    layer = DropPath(0.5)
    layer.drawn = torch.rand(3, 1)
    with pytest.raises(ValueError, match="numbers for 3 samples and got 2"):
        layer(torch.ones(2, 4, 8))
    layer.eval()
    assert torch.equal(layer(torch.ones(2, 4, 8)), torch.ones(2, 4, 8))
