import torch

from vitpose.training.losses import heatmap_mse, output_distillation, root_mean_square

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


def test_root_mean_square_is_the_size_of_an_element() -> None:
    assert root_mean_square(torch.tensor([3.0, -3.0, 3.0])) == 3.0
