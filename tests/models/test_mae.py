import json

import pytest
import torch

from vitpose.models.mae import MAEConfig, MaskedAutoencoder, patchify, take, unpatchify
from vitpose.models.positions import sincos_positions


def small(**changes):
    base = {"size": "tiny", "image_hw": (96, 64), "decoder_dim": 32, "decoder_depth": 2}
    return MAEConfig(**base | {"decoder_heads": 4} | changes)


def test_unpatchify_inverts_patchify():
    images = torch.randn(2, 3, 96, 64)
    patches = patchify(images)
    assert torch.equal(unpatchify(patches, (96, 64)), images)
    # Patch 5 of a 6 x 4 grid is row 1, column 1; within it (row, column, colour).
    expected = images[1, :, 16:32, 16:32].permute(1, 2, 0).flatten()
    assert torch.equal(patches[1, 5], expected)


@pytest.mark.parametrize("patch_padding", [False, True])
def test_kept_patches_are_encoded_as_the_backbone_embeds_them(patch_padding):
    torch.manual_seed(0)
    mae = MaskedAutoencoder(small(patch_padding=patch_padding)).eval()
    images = torch.randn(2, 3, 96, 64)
    order = mae.random_order(images, None)[:, :6]
    everything = mae.encoder.patch_embed(images) + mae.encoder.pos_embed
    expected = mae.encoder.encode(take(everything, order), mae.cls_token)
    assert torch.allclose(mae.encode(images, order), expected, atol=1e-5)


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_loss_equals_the_published_order_of_steps(norm_pix_loss):
    """MAE's own steps: unshuffle, decode everything, mean over the hidden patches."""
    torch.manual_seed(0)
    mae = MaskedAutoencoder(small(norm_pix_loss=norm_pix_loss)).eval()
    images = torch.randn(3, 3, 96, 64)
    loss, pred, mask = mae(images, torch.Generator().manual_seed(7))
    order = mae.random_order(images, torch.Generator().manual_seed(7))
    kept = 6
    latent = mae.decoder_embed(mae.encode(images, order[:, :kept]))
    tokens = torch.cat([latent[:, :-1], mae.mask_token.expand(3, 24 - kept, -1)], dim=1)
    tokens = take(tokens, order.argsort(1)) + mae.decoder_pos_embed
    tokens = mae.decoder_blocks(torch.cat([latent[:, -1:], tokens], dim=1))
    everything = mae.decoder_pred(mae.decoder_norm(tokens))[:, 1:]
    target = patchify(images)
    if norm_pix_loss:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    hidden = torch.ones(3, 24).scatter_(1, order[:, :kept], 0)
    expected = (((everything - target) ** 2).mean(-1) * hidden).sum() / hidden.sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(mask, hidden)
    assert torch.allclose(pred, everything * hidden[..., None], atol=1e-5)


def test_share_of_hidden_patches():
    mask = MaskedAutoencoder(small())(torch.randn(2, 3, 96, 64))[2]
    assert mask.sum(1).tolist() == [18, 18]


def test_mask_is_a_function_of_the_generator():
    mae = MaskedAutoencoder(small())
    images = torch.randn(2, 3, 96, 64)
    masks = [mae(images, torch.Generator().manual_seed(s))[2] for s in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_gradient_reaches_every_trained_parameter():
    mae = MaskedAutoencoder(small())
    mae(torch.randn(2, 3, 96, 64))[0].backward()
    without = {name for name, p in mae.named_parameters() if p.grad is None}
    assert without == {"encoder.pos_embed", "decoder_pos_embed"}


def test_sincos_encodes_the_column_first():
    positions = sincos_positions(8, (3, 5))[0]
    row, column = 2, 3
    omega = [1.0, 10000**-0.5]
    expected = []
    for place in (column, row):
        angles = torch.tensor([place * w for w in omega])
        expected += [angles.sin(), angles.cos()]
    assert torch.allclose(positions[row * 5 + column], torch.cat(expected), atol=1e-6)


def test_config_survives_json():
    assert MAEConfig.from_dict(json.loads(json.dumps(small().to_dict()))) == small()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_hw": (100, 64)}, "100 x 64.*divisible by 16"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"mask_ratio": 0.99}, "at least one of the 24"),
        ({"decoder_heads": 5}, "decoder_dim 32"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        small(**changes)
