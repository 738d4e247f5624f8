from dataclasses import replace

import pytest
import torch

from vitpose.data.loading import PoseBatch
from vitpose.heatmap import encode
from vitpose.models.pose import PoseConfig, build_model
from vitpose.skeletons.human import COCO_17, CROWDPOSE_14, LSP_14
from vitpose.training.losses import (
    distillation_loss,
    heatmap_mse,
    output_distillation,
    pose_loss,
    several_loss,
)

B, K, H, W = 2, 3, 4, 5


def maps(seed: int) -> torch.Tensor:
    return torch.randn(B, K, H, W, generator=torch.Generator().manual_seed(seed))


WEIGHT = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def test_the_joint_loss_is_the_published_mean() -> None:
    predicted, target = maps(0), maps(1)
    total = 0.0
    for b in range(B):
        for k in range(K):
            for y in range(H):
                for x in range(W):
                    error = float(WEIGHT[b, k]) * float(predicted[b, k, y, x] - target[b, k, y, x])
                    total += error**2
    loss = heatmap_mse(predicted, target, WEIGHT)
    torch.testing.assert_close(float(loss), total / (B * K * H * W), rtol=1e-6, atol=0)


def test_a_keypoint_without_weight_teaches_nothing_but_counts_in_the_mean() -> None:
    predicted, target = maps(0).requires_grad_(), maps(1)
    heatmap_mse(predicted, target, WEIGHT).backward()
    assert predicted.grad is not None
    assert (predicted.grad.flatten(2).abs().amax(-1) > 0).equal(WEIGHT > 0)
    one = heatmap_mse(predicted[:1, :1], target[:1, :1], torch.ones(1, 1))
    only = torch.zeros(B, K)
    only[0, 0] = 1
    torch.testing.assert_close(heatmap_mse(predicted, target, only), one / (B * K))


def test_distillation_is_the_plain_mean_over_all_keypoints() -> None:
    student, teacher = maps(0), maps(1)
    total = sum(float(s - t) ** 2 for s, t in zip(student.flatten(), teacher.flatten(), strict=True))
    loss = output_distillation(student, teacher)
    torch.testing.assert_close(float(loss), total / (B * K * H * W), rtol=1e-6, atol=0)


def test_losses_of_half_precision_maps_are_computed_in_float32() -> None:
    predicted, target = maps(0).bfloat16(), maps(1)
    for loss in (heatmap_mse(predicted, target, WEIGHT), output_distillation(predicted, target)):
        assert loss.dtype == torch.float32
    exact = heatmap_mse(predicted.float(), target, WEIGHT)
    assert heatmap_mse(predicted, target, WEIGHT) == exact


SMALL = PoseConfig(size="nano", image_hw=(64, 48), head_channels=8)


def batch_of(images: torch.Tensor, seed: int = 0) -> PoseBatch:
    generator = torch.Generator().manual_seed(seed)
    count = len(images)
    return PoseBatch(
        images=images,
        keypoints_heatmap=torch.rand(count, 17, 2, generator=generator) * torch.tensor([11.0, 15.0]),
        visibility=torch.randint(0, 3, (count, 17), generator=generator, dtype=torch.uint8),
        dataset_index=torch.zeros(count, dtype=torch.int64),
    )


def test_the_loss_is_that_of_the_definition() -> None:
    """A target's value at a pixel from the distance, one by one, in float64."""
    torch.manual_seed(0)
    model = build_model(SMALL)
    batch = batch_of(torch.randn(2, 3, 64, 48))
    loss, figures = pose_loss(1.5)(model, batch)
    predicted = model(batch.images).double()
    total = 0.0
    for b in range(2):
        for k in range(17):
            x, y = batch.keypoints_heatmap[b, k].double().tolist()
            if batch.visibility[b, k] == 0:
                continue
            for row in range(16):
                for column in range(12):
                    near = max(abs(column - int(x + 0.5)), abs(row - int(y + 0.5))) <= int(3 * 1.5)
                    d2 = (column - x) ** 2 + (row - y) ** 2
                    target = torch.exp(torch.tensor(-d2 / (2 * 1.5**2), dtype=torch.float64)) * near
                    total += float(target - predicted[b, k, row, column].detach()) ** 2
    assert float(loss.detach()) == pytest.approx(total / (2 * 17 * 16 * 12), rel=1e-5)
    assert figures == {}


def test_distillation_adds_the_teachers_heatmaps() -> None:
    torch.manual_seed(0)
    model, teacher = build_model(SMALL), build_model(SMALL)
    batch = batch_of(torch.randn(2, 3, 64, 48))
    supervised, _ = pose_loss(2.0)(model, batch)
    imitation = output_distillation(model(batch.images), teacher(batch.images))
    loss, figures = distillation_loss(teacher, 2.0, 0.5)(model, batch)
    torch.testing.assert_close(loss, supervised + 0.5 * imitation)
    assert figures["loss_supervised"] == pytest.approx(float(supervised.detach()))
    assert figures["loss_imitation"] == pytest.approx(float(imitation.detach()))
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def padded_batch() -> PoseBatch:
    """Six samples of heads of 17, 14 and 14 keypoints; those that a head has not are labelled too."""
    generator = torch.Generator().manual_seed(3)
    return PoseBatch(
        images=torch.randn(6, 3, 64, 48, generator=generator),
        keypoints_heatmap=torch.rand(6, 17, 2, generator=generator) * 10,
        visibility=torch.randint(0, 3, (6, 17), generator=generator).to(torch.uint8),
        dataset_index=torch.tensor([0, 1, 2, 1, 0, 1]),
    )


def test_the_loss_of_several_heads_is_each_ones_over_the_whole_batch() -> None:
    """As published: a sample of another data set counts in the mean with a zero target weight."""
    model = build_model(replace(SMALL, skeletons=(COCO_17, LSP_14, CROWDPOSE_14))).eval()
    batch, weights = padded_batch(), {"coco": 1.0, "lsp": 2.0, "crowdpose": 0.5}
    keypoints = {"coco": 17, "lsp": 14, "crowdpose": 14}
    loss, figures = several_loss(1.0, keypoints, weights)(model, batch)
    expected = 0.0
    for head, (name, count) in enumerate(keypoints.items()):
        own = batch.dataset_index == head
        heatmaps = model(batch.images, head=head)
        positions, visibility = batch.keypoints_heatmap[:, :count], batch.visibility[:, :count]
        target, target_weight = encode(positions, visibility, (12, 16), 1.0)
        error = heatmap_mse(heatmaps, target, target_weight * own[:, None])
        torch.testing.assert_close(figures[f"loss_{name}"], error.detach() * 6 / own.sum())
        expected += weights[name] * float(error.detach())
    torch.testing.assert_close(float(loss.detach()), expected, rtol=1e-5, atol=0)
