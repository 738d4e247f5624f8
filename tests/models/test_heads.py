import pytest
import torch
import torch.nn.functional as F

from vitpose.models.heads import ClassicHead, SimpleHead


@pytest.mark.parametrize("stride", [16, 8])
@pytest.mark.parametrize("grid_hw", [(16, 12), (5, 3), (1, 1)])
def test_simple_head_equals_relu_bilinear_convolution(stride, grid_hw):
    torch.manual_seed(0)
    head = SimpleHead(32, 17, grid_hw=grid_hw, stride=stride).double()
    torch.nn.init.normal_(head.final.weight)
    torch.nn.init.normal_(head.final.bias)
    features = torch.randn(2, 32, *grid_hw, dtype=torch.double)
    enlarged = F.interpolate(
        F.relu(features), scale_factor=stride // 4, mode="bilinear", align_corners=False
    )
    expected = F.conv2d(enlarged, head.final.weight, head.final.bias, padding=1)
    assert torch.allclose(head(features), expected, rtol=1e-12, atol=1e-12)


def test_simple_head_gradient_equals_the_plain_order():
    torch.manual_seed(0)
    head = SimpleHead(8, 3, grid_hw=(4, 3)).double()
    features = torch.randn(2, 8, 4, 3, dtype=torch.double, requires_grad=True)
    probe = torch.randn(2, 3, 16, 12, dtype=torch.double)
    enlarged = F.interpolate(F.relu(features), scale_factor=4, mode="bilinear")
    plain = F.conv2d(enlarged, head.final.weight, head.final.bias, padding=1)
    wanted = [features, head.final.weight, head.final.bias]
    expected = torch.autograd.grad((plain * probe).sum(), wanted)
    for ours, theirs in zip(
        torch.autograd.grad((head(features) * probe).sum(), wanted), expected, strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_classic_head_equals_its_definition():
    torch.manual_seed(0)
    head = ClassicHead(8, 5, channels=6).double().eval()
    for tensor in head.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1.0)
    w = head.state_dict()
    x = torch.randn(2, 8, 4, 3, dtype=torch.double)
    expected = x
    for i in (1, 2):
        expected = F.conv_transpose2d(expected, w[f"deconv{i}.weight"], stride=2, padding=1)
        mean, variance = w[f"norm{i}.running_mean"], w[f"norm{i}.running_var"]
        normal = (expected - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        expected = w[f"norm{i}.weight"][:, None, None] * normal + w[f"norm{i}.bias"][:, None, None]
        expected = expected.clamp(min=0)
    kernel = w["final.weight"][:, :, 0, 0]
    expected = torch.einsum("kc,bchw->bkhw", kernel, expected) + w["final.bias"][:, None, None]
    assert head(x).shape == (2, 5, 16, 12)
    assert torch.allclose(head(x), expected)


@pytest.mark.parametrize("stride", [16, 8])
def test_heads_give_heatmaps_at_a_quarter_of_the_input(stride):
    grid = (64 // stride, 48 // stride)
    features = torch.randn(1, 8, *grid)
    assert ClassicHead(8, 3, channels=4, stride=stride)(features).shape == (1, 3, 16, 12)
    assert SimpleHead(8, 3, grid_hw=grid, stride=stride)(features).shape == (1, 3, 16, 12)


def test_published_initialisation():
    torch.manual_seed(0)
    head = ClassicHead(64, 17)
    for conv in (head.deconv1, head.deconv2, head.final):
        assert conv.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not head.final.bias.any()
    assert head.deconv1.bias is None
