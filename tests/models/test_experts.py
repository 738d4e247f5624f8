import pytest
import torch
import torch.nn.functional as F

from vitpose.models.experts import ExpertMlp
from vitpose.models.pose import PoseConfig, build_model, merge_expert
from vitpose.skeletons.human import COCO_17, LSP_14


def test_experts_equal_their_definition():
    torch.manual_seed(0)
    mlp = ExpertMlp(8, 32, 3, 2).double()
    x = torch.randn(4, 5, 8, dtype=torch.double)
    index = torch.tensor([2, 0, 1, 2])
    hidden = F.gelu(x @ mlp.fc1.weight.T + mlp.fc1.bias)
    for i, e in enumerate(index.tolist()):
        shared = hidden[i] @ mlp.fc2.weight.T + mlp.fc2.bias
        special = hidden[i] @ mlp.experts[e].weight.T + mlp.experts[e].bias
        expected = torch.cat([shared, special], dim=-1)
        assert torch.allclose(mlp(x, index)[i], expected)
        assert torch.allclose(mlp(x, e)[i], expected)


def test_every_expert_gets_a_gradient_whatever_the_batch():
    mlp = ExpertMlp(8, 32, 3, 2)
    mlp(torch.randn(2, 5, 8), torch.tensor([1, 1])).sum().backward()
    assert all(expert.weight.grad is not None for expert in mlp.experts)
    assert mlp.experts[1].weight.grad.any() and not mlp.experts[0].weight.grad.any()


@pytest.mark.parametrize("head", [0, 1])
def test_a_merged_model_equals_the_one_with_experts(head):
    torch.manual_seed(0)
    config = PoseConfig(
        size="tiny", image_hw=(64, 48), skeletons=(COCO_17, LSP_14), experts=2, head="simple"
    )
    model = build_model(config).eval()
    images = torch.randn(2, 3, 64, 48)
    expected = model(images, head=head)
    plain = merge_expert(model, head)
    assert plain.config.experts == 0
    assert [s.name for s in plain.config.skeletons] == [config.skeletons[head].name]
    assert torch.allclose(plain(images), expected, atol=1e-6)
    assert torch.equal(model(images, head=head), expected)  # the source is left as it was


def test_the_head_picks_its_expert():
    config = PoseConfig(size="tiny", image_hw=(64, 48), skeletons=(COCO_17, LSP_14), experts=2)
    model = build_model(config).eval()
    images = torch.randn(2, 3, 64, 48)
    assert torch.equal(model(images, head=1), model(images, head=1, dataset_index=1))
    mixed = model.features(images, torch.tensor([0, 1]))
    assert torch.allclose(mixed[1:], model.features(images[1:], 1), atol=1e-5)


def test_merging_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="expert 2 does not exist"):
        ExpertMlp(8, 32, 2, 2).merged(2)
    with pytest.raises(ValueError, match="no experts"):
        merge_expert(build_model(PoseConfig(size="tiny", image_hw=(64, 48))), 0)
