import json

import pytest
import torch

from vitpose.models.mae import (
    MAEConfig,
    MaskedAutoencoder,
    patchify,
    sincos_positions,
    take,
    unpatchify,
)
from vitpose.models.reconstruction import reconstruct


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
    _, ids_keep = mae.random_masking(images, None)
    everything = mae.encoder.patch_embed(images) + mae.encoder.pos_embed
    expected = mae.encoder.encode(take(everything, ids_keep), mae.cls_token)
    assert torch.allclose(mae.encode(images, ids_keep), expected, atol=1e-5)


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_loss_equals_the_published_order_of_steps(norm_pix_loss):
    """MAE's own steps: unshuffle, decode everything, mean over the hidden patches."""
    torch.manual_seed(0)
    mae = MaskedAutoencoder(small(norm_pix_loss=norm_pix_loss)).eval()
    images = torch.randn(3, 3, 96, 64)
    loss = mae(images, torch.Generator().manual_seed(7))
    ids_shuffle, ids_keep = mae.random_masking(images, torch.Generator().manual_seed(7))
    latent = mae.decoder_embed(mae.encode(images, ids_keep))
    tokens = torch.cat([latent[:, :-1], mae.mask_token.expand(3, 24 - 6, -1)], dim=1)
    tokens = take(tokens, ids_shuffle.argsort(1)) + mae.decoder_pos_embed
    tokens = mae.decoder_blocks(torch.cat([latent[:, -1:], tokens], dim=1))
    everything = mae.decoder_pred(mae.decoder_norm(tokens))[:, 1:]
    patches = patchify(images)
    mean, deviation = patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6) ** 0.5
    target = (patches - mean) / deviation if norm_pix_loss else patches
    mask = torch.ones(3, 24).scatter_(1, ids_keep, 0)
    expected = (((everything - target) ** 2).mean(-1) * mask).sum() / mask.sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    shown, restored = reconstruct(mae, images, seed=7)
    mask = mask[..., None]
    assert torch.equal(patchify(shown), patches * (1 - mask))
    painted = everything * deviation + mean if norm_pix_loss else everything
    assert torch.allclose(patchify(restored), patches * (1 - mask) + painted * mask, atol=1e-5)


def test_masks_hide_their_share_and_follow_the_generator():
    mae = MaskedAutoencoder(small())
    images = torch.randn(2, 3, 96, 64)
    drawn = [mae.random_masking(images, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    for ids_shuffle, ids_keep in drawn:
        assert ids_keep.shape == (2, 6) and torch.equal(ids_keep, ids_shuffle[:, :6])
        assert torch.equal(ids_shuffle.sort(1).values, torch.arange(24).expand(2, -1))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_gradient_reaches_every_trained_parameter():
    mae = MaskedAutoencoder(small())
    mae(torch.randn(2, 3, 96, 64)).backward()
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
