"""The losses of the paper, as functions of tensors."""

import torch
from torch import Tensor


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

    Unweighted: the teacher has an opinion on keypoints nobody labelled, and that is what it teaches.
    (The paper does not say whether the target weight applies.)
    """
    return (heatmaps.float() - teacher_heatmaps.float()).square().mean()


def root_mean_square(value: Tensor) -> float:
    """Size of a tensor's elements, for logs."""
    return float(torch.sqrt(value.float().square().mean()))
