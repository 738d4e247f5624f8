"""What a masked autoencoder makes of the patches it does not see, as pictures."""

import torch
from torch import Tensor

from vitpose.models.mae import MaskedAutoencoder, patchify, take, unpatchify


@torch.no_grad()
def reconstruct(mae: MaskedAutoencoder, images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Normalised images (B, 3, H, W) to what the model was shown and what it made of it.

    Args:
        mae: put in eval mode.
        images: as the model is trained on.
        seed: of the masks.

    Returns:
        shown (B, 3, H, W), hidden patches 0, which is the mean colour.
        restored (B, 3, H, W), hidden patches as predicted. A model that predicts patches less their mean
        over their deviation (`norm_pix_loss`) is given both from the original, as in MAE's own demo.
    """
    mae.eval()
    generator = torch.Generator(images.device).manual_seed(seed)
    ids_shuffle, ids_keep = mae.random_masking(images, generator)
    pred = mae.decode(mae.encode(images, ids_keep), ids_shuffle).float()
    patches = patchify(images)
    ids_restore = ids_shuffle.argsort(dim=1)
    pred = take(torch.cat([torch.zeros_like(patches[:, : ids_keep.shape[1]]), pred], dim=1), ids_restore)
    if mae.config.norm_pix_loss:
        mean, deviation = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        pred = pred * (deviation + 1e-6).sqrt() + mean
    hidden = (ids_restore >= ids_keep.shape[1]).float()[..., None]
    size = images.shape[2], images.shape[3]
    shown = unpatchify(patches * (1 - hidden), size)
    restored = unpatchify(patches * (1 - hidden) + pred * hidden, size)
    return shown, restored
