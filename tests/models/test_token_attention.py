"""Where the token looks is what PyTorch's own attention says of the token's row."""

import pytest
import torch
import torch.nn.functional as F

from vitpose.models.knowledge import attach_knowledge_token
from vitpose.models.pose import PoseConfig, PoseModel, build_model
from vitpose.models.token_attention import token_attention


def with_token(**changes: object) -> PoseModel:
    torch.manual_seed(0)
    model = build_model(PoseConfig(size="tiny", image_hw=(64, 48), head_channels=8, **changes)).eval()  # type: ignore[arg-type]
    attach_knowledge_token(model, torch.randn(128))
    return model


@pytest.mark.parametrize("windows", [{}, {"attention": "shift_pool", "window_hw": (2, 2)}])
def test_shares_are_the_row_of_the_token_in_every_block_but_the_last(windows: dict[str, object]) -> None:
    model, rows = with_token(**windows), []
    images = torch.randn(2, 3, 64, 48)
    for block in model.backbone.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.3)
        block.attn.register_forward_pre_hook(lambda layer, given: rows.append((layer, given[0])))
    shares = token_attention(model, images)
    assert shares.shape == (2, 4, 3)
    with torch.no_grad():
        expected = []
        for layer, tokens in rows[:-1]:
            x = tokens.transpose(0, 1)
            _, weights = F.multi_head_attention_forward(
                x, x, x, 128, layer.num_heads, layer.qkv.weight, layer.qkv.bias, None, None, False, 0.0,
                layer.proj.weight, layer.proj.bias, training=False, need_weights=True,
            )  # fmt: skip
            assert weights is not None
            expected.append(weights[:, -1, :-1].unflatten(1, (4, 3)))
    assert torch.allclose(shares, torch.stack(expected).mean(0), atol=1e-6)
    assert (shares.sum((1, 2)) < 1).all()


def test_looking_changes_nothing_and_needs_a_token() -> None:
    model, images = with_token(), torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        before = model(images)
        token_attention(model, images)
        assert torch.equal(model(images), before)
    plain = build_model(PoseConfig(size="nano", image_hw=(64, 48), head_channels=8))
    with pytest.raises(ValueError, match="no knowledge token"):
        token_attention(plain, images)
