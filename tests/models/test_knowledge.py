import pytest
import torch

from vitpose.models.knowledge import attach_knowledge_token, learn_only_token
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_model, save_model


def tiny_model(**changes):
    return build_model(PoseConfig(**{"size": "tiny", "image_hw": (64, 48)} | changes))


def features(model, images):
    """The feature map that the head reads."""
    return model.backbone(images, model.projected_token())


def test_heatmaps_keep_their_shape():
    model = tiny_model()
    attach_knowledge_token(model, torch.randn(128))
    assert model(torch.randn(2, 3, 64, 48)).shape == (2, 17, 16, 12)


def test_token_is_seen_by_every_token_and_then_dropped():
    model = tiny_model().eval()
    images = torch.randn(1, 3, 64, 48)
    before = features(model, images)
    attach_knowledge_token(model, torch.randn(128))
    change = (features(model, images) - before).abs().sum(1)
    assert change.shape == (1, 4, 3)
    assert (change > 0).all()


def test_it_is_the_token_that_is_dropped_and_no_patch():
    """With blocks that add nothing the feature map is the normed patch tokens, in their order."""
    model = tiny_model().eval()
    for block in model.backbone.blocks:
        for layer in (block.attn.proj, block.mlp.fc2):
            torch.nn.init.zeros_(layer.weight)
    attach_knowledge_token(model, torch.randn(128))
    images = torch.randn(1, 3, 64, 48)
    patches = model.backbone.patch_embed(images) + model.backbone.pos_embed
    expected = model.backbone.norm(patches).reshape(1, 4, 3, 128).permute(0, 3, 1, 2)
    assert torch.allclose(features(model, images), expected, atol=1e-6)


def test_zero_valued_token_changes_nothing_but_attention_mass():
    """A token whose value is zero only takes a share of each softmax: outputs shrink by that share."""
    torch.manual_seed(0)
    model = tiny_model().eval()
    attention = model.backbone.blocks[0].attn
    attention.qkv.bias.data.zero_()
    attention.proj.bias.data.zero_()
    tokens = torch.randn(1, 12, 128)
    plain = attention(tokens)
    with_token = attention(torch.cat([tokens, torch.zeros(1, 1, 128)], dim=1))[:, :12]
    heads = attention.qkv(tokens).reshape(1, 12, 3, 4, 32).permute(2, 0, 3, 1, 4)
    logits = heads[0] @ heads[1].transpose(-2, -1) / 32**0.5
    mass = logits.exp().sum(-1)  # the zero key adds exp(0) = 1
    share = (mass / (mass + 1)).transpose(1, 2)[..., None]  # (1, 12, heads, 1)
    mixed = (logits.softmax(-1) @ heads[2]).transpose(1, 2) * share
    assert torch.allclose(with_token, attention.proj(mixed.reshape(1, 12, 128)), atol=1e-6)
    assert not torch.allclose(with_token, plain, atol=1e-6)


def test_gradient_reaches_the_token_alone_in_a_frozen_teacher():
    teacher = tiny_model(knowledge_token_dim=192)  # itself a student of a wider one
    learn_only_token(teacher)
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    teacher(torch.randn(2, 3, 64, 48)).square().sum().backward()
    token = teacher.knowledge_token
    assert token.shape == (1, 1, 128) and token.grad.any()
    others = [p for name, p in teacher.named_parameters() if name != "knowledge_token"]
    assert all(p.grad is None and not p.requires_grad for p in others)


def test_student_of_another_width_learns_a_projection_of_a_frozen_token():
    student = tiny_model()
    token = torch.randn(1, 1, 192)
    attach_knowledge_token(student, token)
    student(torch.randn(2, 3, 64, 48)).square().sum().backward()
    assert torch.equal(student.knowledge_token, token)
    assert not student.knowledge_token.requires_grad
    assert student.knowledge_projection.weight.grad.any()


def test_student_of_the_same_width_needs_no_projection():
    student = tiny_model()
    attach_knowledge_token(student, torch.randn(128))
    assert student.knowledge_projection is None


@pytest.mark.parametrize("width", [128, 192])
def test_a_saved_student_keeps_its_token(tmp_path, width):
    student = tiny_model().eval()
    attach_knowledge_token(student, torch.randn(width))
    save_model(student, tmp_path / "student", provenance={})
    again = load_model(tmp_path / "student")
    images = torch.randn(1, 3, 64, 48)
    assert torch.equal(student(images), again(images))
    assert not again.knowledge_token.requires_grad


@pytest.mark.parametrize("attention", ["window", "shift", "pool", "shift_pool"])
def test_token_reaches_every_window(attention):
    model = tiny_model(attention=attention, window_hw=(2, 2)).eval()
    images = torch.randn(1, 3, 64, 48)
    before = features(model, images)
    attach_knowledge_token(model, torch.randn(128))
    assert ((features(model, images) - before).abs().sum(1) > 0).all()


def test_a_misshapen_token_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1, width\), got \(2, 1, 128\)"):
        tiny_model().set_knowledge_token(torch.zeros(2, 1, 128), learnable=True)
