"""The variants, against loops over single tokens written from their definition."""

import pytest
import torch

from vitpose.models.attention import MapAttention, use_fused_attention
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.sizes import Windows, plan_windows

DIM, HEADS = 16, 2


def attention_layer():
    torch.manual_seed(0)
    return MapAttention(DIM, num_heads=HEADS, qkv_bias=True).double()


def window_of(place, size_hw):
    return tuple(p // s for p, s in zip(place, size_hw, strict=True))


def naive(layer, tokens, windows, extra=0):
    """Each token by itself: list whom it sees, then softmax over that list. One picture."""
    height, width = windows.grid_hw
    places = [(y, x) for y in range(height) for x in range(width)]
    qkv = layer.qkv(tokens[0]).reshape(-1, 3, HEADS, DIM // HEADS)
    q, k, v = qkv.unbind(1)
    pooled = []
    if windows.pool:
        groups = {}
        for i, place in enumerate(places):
            groups.setdefault(window_of(place, windows.window_hw), []).append(i)
        pooled = [(k[ids].mean(0), v[ids].mean(0)) for ids in groups.values()]

    def region(place):
        """Tokens see each other if in one window of the shifted grid, cut at the picture's border."""
        shifted = [p - s for p, s in zip(place, windows.shift_hw, strict=True)]
        wrapped = tuple(p < 0 for p in shifted)
        padded = windows.padded_hw
        inside = [p + n if p < 0 else p for p, n in zip(shifted, padded, strict=True)]
        return window_of(inside, windows.window_hw), wrapped

    out = []
    for i in range(len(tokens[0])):
        if i < len(places):
            seen = [j for j, p in enumerate(places) if region(p) == region(places[i])]
            seen += range(len(places), len(places) + extra)
            context = pooled
        else:
            seen, context = range(len(places) + extra), []
        keys = torch.stack([k[j] for j in seen] + [key for key, _ in context])
        values = torch.stack([v[j] for j in seen] + [value for _, value in context])
        mixed = []
        for head in range(HEADS):
            weights = (keys[:, head] @ q[i, head] / (DIM // HEADS) ** 0.5).softmax(0)
            mixed.append(weights @ values[:, head])
        out.append(torch.cat(mixed))
    return layer.proj(torch.stack(out))[None]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("extra", [0, 2])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(
    ("grid_hw", "window_hw", "shift_hw"),
    [
        ((4, 6), (2, 3), (0, 0)),
        ((4, 6), (2, 3), (1, 1)),
        ((4, 6), (4, 3), (0, 1)),
        ((5, 7), (2, 3), (0, 0)),  # windows that do not divide: padded and masked
        ((5, 7), (2, 3), (1, 1)),
        ((5, 7), (3, 4), (1, 2)),
        ((4, 6), (4, 6), (0, 0)),
    ],
)
def test_windows_equal_a_loop_over_tokens(grid_hw, window_hw, shift_hw, pool, extra, fused):
    layer = attention_layer()
    use_fused_attention(layer, fused)
    layer.windows = Windows(grid_hw, window_hw, shift_hw, pool)
    tokens = torch.randn(1, grid_hw[0] * grid_hw[1] + extra, DIM, dtype=torch.double)
    expected = naive(layer, tokens, layer.windows, extra)
    assert torch.allclose(layer(tokens), expected, atol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_pictures_of_a_batch_do_not_mix(fused):
    layer = attention_layer()
    use_fused_attention(layer, fused)
    layer.windows = Windows((5, 7), (2, 3), (1, 1), True)
    tokens = torch.randn(3, 35, DIM, dtype=torch.double)
    alone = torch.cat([layer(picture[None]) for picture in tokens])
    assert torch.allclose(layer(tokens), alone, atol=1e-12)


@pytest.mark.parametrize("variant", ["window", "shift"])
def test_windows_as_large_as_the_map_equal_full_attention(variant):
    torch.manual_seed(0)
    config = PoseConfig(size="tiny", image_hw=(64, 48), stride=8)
    model = build_model(config).eval()
    images = torch.randn(2, 3, 64, 48)
    full = model(images)
    model.set_attention(variant, config.grid_hw)
    assert torch.allclose(model(images), full, atol=1e-6)


def test_pooled_context_of_the_whole_map_is_one_more_token():
    """With one window, pooling adds the map's mean token to every query's keys and values."""
    layer = attention_layer()
    tokens = torch.randn(1, 12, DIM, dtype=torch.double)
    layer.windows = Windows((4, 3), (4, 3), pool=True)
    pooled = layer(tokens)
    layer.windows = None
    mean = tokens.mean(1, keepdim=True)
    assert torch.allclose(pooled, layer(torch.cat([tokens, mean], dim=1))[:, :12], atol=1e-12)


def test_variants_have_no_parameters_of_their_own():
    keys = {
        tuple(build_model(PoseConfig(size="tiny", attention=a, window_hw=(4, 4))).state_dict())
        for a in ("full", "window", "shift", "pool", "shift_pool")
    }
    assert len(keys) == 1


def test_every_second_windowed_block_is_shifted_and_global_blocks_are_not():
    plan = plan_windows("shift_pool", 6, (8, 6), (4, 6), (2, 5))
    assert [w and w.shift_hw for w in plan] == [(0, 0), (2, 0), None, (0, 0), (2, 0), None]
    assert all(w is None or w.pool for w in plan)


def test_gradient_flows_through_every_variant():
    for attention in ("window", "shift", "pool", "shift_pool"):
        config = PoseConfig(size="tiny", image_hw=(80, 48), attention=attention, window_hw=(2, 2))
        model = build_model(config)
        model(torch.randn(2, 3, 80, 48)).square().sum().backward()
        for parameter in model.parameters():
            assert parameter.grad.isfinite().all() and parameter.grad.any()


def test_a_foreign_mask_is_refused():
    with pytest.raises(ValueError, match="takes no mask"):
        attention_layer()(torch.zeros(1, 4, DIM).double(), attn_mask=torch.ones(4, 4))
