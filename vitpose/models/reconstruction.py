"""What a masked autoencoder makes of the patches it does not see, as pictures."""

import torch
from torch import Tensor

from vitpose.models.mae import MaskedAutoencoder, patchify, unpatchify


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
    _, pred, mask = mae(images, generator)
    patches = patchify(images)
    if mae.config.norm_pix_loss:
        mean, deviation = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        pred = pred * (deviation + 1e-6).sqrt() + mean
    hidden = mask[..., None]
    size = images.shape[2], images.shape[3]
    shown = unpatchify(patches * (1 - hidden), size)
    restored = unpatchify(patches * (1 - hidden) + pred * hidden, size)
    return shown, restored
