"""The losses of the paper, as functions of tensors and as what `engine.fit` takes."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from vitpose import heatmap
from vitpose.pixels import batch_to_model_input
from vitpose.training.engine import LossFunction


class KeypointBatch(Protocol):
    """B samples with K keypoints, such as `data.loading.PoseBatch`."""

    images: Tensor
    """(B, H, W, 3) uint8, or (B, 3, H, W) normalised."""
    keypoints_heatmap: Tensor
    """(B, K, 2) in heatmap pixels."""
    visibility: Tensor
    """(B, K) in {0, 1, 2}."""


def heatmap_mse(heatmaps: Tensor, target: Tensor, target_weight: Tensor) -> Tensor:
    """The published joint loss: the plain mean of the weighted squared error.

    Args:
        heatmaps: (B, K, H, W) predicted.
        target: (B, K, H, W).
        target_weight: (B, K) in {0, 1}.

    Returns:
        Scalar mean over all B * K * H * W elements: no factor 1/2 and no division by the number of
        visible keypoints (`JointsMSELoss` of the official code, from SimpleBaseline).
    """
    error = (heatmaps.float() - target.float()) * target_weight[:, :, None, None]
    return error.square().mean()


def output_distillation(heatmaps: Tensor, teacher_heatmaps: Tensor) -> Tensor:
    """L_od = MSE(K_s, K_t) of the paper's section 3.4: student against teacher heatmaps.

    Unweighted: the teacher has an opinion on keypoints that nobody labelled, and that is what it
    teaches. (The paper does not say whether the target weight applies.)
    """
    return (heatmaps.float() - teacher_heatmaps.float()).square().mean()


def pose_loss(sigma: float) -> LossFunction:
    """Heatmaps of a batch against Gaussians of `sigma` heatmap pixels, drawn on the model's device."""

    def loss(model: nn.Module, batch: KeypointBatch) -> tuple[Tensor, dict[str, float]]:
        device = next(model.parameters()).device
        heatmaps = model(batch_to_model_input(batch.images, device))
        return heatmap_mse(heatmaps, *_target(batch, heatmaps, sigma)), {}

    return loss


def distillation_loss(teacher: nn.Module, sigma: float, output_weight: float) -> LossFunction:
    """`pose_loss` and `output_weight` times `output_distillation` from a frozen teacher (section 3.4)."""

    def loss(model: nn.Module, batch: KeypointBatch) -> tuple[Tensor, dict[str, Tensor]]:
        device = next(model.parameters()).device
        images = batch_to_model_input(batch.images, device)
        heatmaps = model(images)
        supervised = heatmap_mse(heatmaps, *_target(batch, heatmaps, sigma))
        with torch.no_grad():
            wanted = teacher.to(device)(images)
        imitation = output_distillation(heatmaps, wanted)
        figures = {
            "loss_supervised": supervised.detach(),
            "loss_imitation": imitation.detach(),
        }
        return supervised + output_weight * imitation, figures

    return loss


class HeadsBatch(KeypointBatch, Protocol):
    """Samples of several skeletons, with as many keypoints as the largest has (`data.several`)."""

    dataset_index: Tensor
    """(B,) which head each is for; every head has at least one."""


def several_loss(
    sigma: float, keypoints: Mapping[str, int], weights: Mapping[str, float]
) -> LossFunction:
    """The sum of the heads' `heatmap_mse`, each over the whole batch: its own mean times its share of it.

    So each data set weighs as much as its share of the batch, as published (a sample of another data set
    has a zero target weight there); `weights` come on top. Figures: `loss_<name>`, the mean over the
    head's own samples, comparable with a training of its own.

    Args:
        sigma: as for `pose_loss`.
        keypoints: how many each head has, by name, in the order of the model's heads.
        weights: factor of each head's loss, by name.
    """

    def loss(model: nn.Module, batch: HeadsBatch) -> tuple[Tensor, dict[str, Tensor]]:
        device = next(model.parameters()).device
        heads = batch.dataset_index.cpu()  # the loader's; a device would be waited for
        rows = [(heads == head).nonzero()[:, 0] for head in range(len(keypoints))]
        own = [index.to(device, non_blocking=True) for index in rows]
        predicted = model(batch_to_model_input(batch.images, device), rows=own)
        total, figures = torch.zeros((), device=device), dict[str, Tensor]()
        for (name, count), heatmaps, index in zip(keypoints.items(), predicted, rows, strict=True):
            target, target_weight = heatmap.encode(
                batch.keypoints_heatmap[index, :count].to(device, non_blocking=True),
                batch.visibility[index, :count].to(device, non_blocking=True),
                (heatmaps.shape[3], heatmaps.shape[2]),
                sigma,
            )
            error = heatmap_mse(heatmaps, target, target_weight)
            total = total + weights[name] * len(index) / len(heads) * error
            figures[f"loss_{name}"] = error.detach()
        return total, figures

    return loss


def _target(batch: KeypointBatch, heatmaps: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Wanted heatmaps (B, K, H, W), and the target weight (B, K)."""
    return heatmap.encode(
        batch.keypoints_heatmap.to(heatmaps.device, non_blocking=True),
        batch.visibility.to(heatmaps.device, non_blocking=True),
        (heatmaps.shape[3], heatmaps.shape[2]),
        sigma,
    )
