import re
from dataclasses import replace

import pytest
import torch

from vitpose.models.folders import save_folder
from vitpose.models.knowledge import (
    KnowledgeToken,
    TokenGain,
    attach_knowledge_token,
    check_teacher,
    compare_token,
    learn_only_token,
    load_token,
    random_like,
    save_token,
    start_token,
)
from vitpose.models.pose import FixedProjection, PoseConfig, build_model
from vitpose.models.weights import load_model, save_model
from vitpose.skeletons.human import COCO_17, MPII_16
from vitpose.training.optim import OptimConfig, build_optimizer

GAIN = TokenGain(loss_without=2e-3, loss_with=1e-3, standard_error=1e-5, batches=8)


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
    learn_only_token(teacher, torch.randn(128))
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    teacher(torch.randn(2, 3, 64, 48)).square().sum().backward()
    token = teacher.knowledge_token
    assert token.shape == (1, 1, 128) and token.grad.any()
    others = [p for name, p in teacher.named_parameters() if name != "knowledge_token"]
    assert all(p.grad is None and not p.requires_grad for p in others)


@pytest.mark.parametrize("width", [64, 128, 192])
def test_no_training_changes_what_a_student_sees_of_the_token(width):
    """So it cannot learn the token anew, whatever it was: neither it nor the way to it moves."""
    student = tiny_model()
    attach_knowledge_token(student, torch.randn(width))
    before = student.projected_token().clone()
    optimizer = build_optimizer(student, OptimConfig(lr=0.1))
    for _ in range(3):
        optimizer.zero_grad()
        student(torch.randn(2, 3, 64, 48)).square().sum().backward()
        optimizer.step()
    assert torch.equal(student.projected_token(), before)
    assert not student.knowledge_token.requires_grad
    assert not [name for name, _ in student.named_parameters() if "projection" in name]


@pytest.mark.parametrize(("teacher", "student"), [(192, 128), (128, 192), (1024, 768)])
def test_the_projection_keeps_angles_and_the_mean_square(teacher, student):
    weight = FixedProjection(teacher, student).weight
    assert weight.shape == (student, teacher)
    short = min(teacher, student)
    gram = weight @ weight.T if student == short else weight.T @ weight * teacher / student
    assert torch.allclose(gram, torch.eye(short), atol=1e-5)
    tokens = torch.randn(teacher, 400)
    found = (weight @ tokens).square().mean().sqrt() / tokens.square().mean().sqrt()
    assert found == pytest.approx(1, abs=0.02)
    assert torch.equal(weight, FixedProjection(teacher, student).weight)


def test_the_projection_is_saved_and_read_with_the_weights(tmp_path):
    """Another machine's rounding, or another version's matrix, does not change a model that is there."""
    student = tiny_model().eval()
    attach_knowledge_token(student, torch.randn(192))
    student.knowledge_projection.weight += 0.01
    save_model(student, tmp_path / "student", provenance={})
    again = load_model(tmp_path / "student")
    assert torch.equal(again.projected_token(), student.projected_token())


@pytest.mark.parametrize("width", [128, 192])
def test_a_folder_of_the_time_when_the_projection_was_learned_loads_exactly(tmp_path, width):
    config = PoseConfig(size="tiny", image_hw=(64, 48), knowledge_token_dim=width).to_dict()
    del config["learned_projection"]
    plain = tiny_model().eval()
    token, layer = torch.randn(1, 1, width), torch.nn.Linear(width, 128)
    weights = {**plain.state_dict(), "knowledge_token": token}
    if width != 128:
        weights |= {f"knowledge_projection.{name}": value for name, value in layer.state_dict().items()}
    save_folder(tmp_path / "old", "pose", config, weights, {})
    images = torch.randn(2, 3, 64, 48)
    seen = token if width == 128 else layer(token)
    expected = plain.heads[0](plain.backbone(images, seen))
    model = load_model(tmp_path / "old")
    assert torch.equal(model(images), expected)
    save_model(model, tmp_path / "new", provenance={})
    assert torch.equal(load_model(tmp_path / "new")(images), expected)


def test_a_student_is_built_on_the_meta_device():
    with torch.device("meta"):
        student = tiny_model(knowledge_token_dim=192)
    assert student.knowledge_projection.weight.is_meta


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


def test_a_token_starts_at_a_fifth_of_the_patch_tokens():
    teacher, images = tiny_model(), 2 * torch.randn(8, 3, 64, 48)
    patches = teacher.backbone.patch_embed(images) + teacher.backbone.pos_embed
    start, size = start_token(teacher, images)
    assert start.shape == (128,)
    assert size**2 == pytest.approx(float(patches.square().mean()), rel=1e-4)
    assert start.square().mean() == pytest.approx((0.2 * size) ** 2, rel=1e-4)


def test_the_random_control_has_the_tokens_norm_and_no_more_of_it():
    token = torch.randn(128) * 3
    control = random_like(token, seed=1)
    assert control.norm() == pytest.approx(float(token.norm()), rel=1e-5)
    assert abs(torch.cosine_similarity(control, token, dim=0)) < 0.5
    assert torch.equal(control, random_like(token, seed=1))
    assert not torch.equal(control, random_like(token, seed=2))


def wanting(heatmaps):
    """A loss: the mean square distance from the batch's wanted heatmaps."""
    return lambda model, images: ((model(images) - heatmaps).square().mean(), {})


def test_a_teacher_is_compared_with_itself_without_its_token():
    teacher, images = tiny_model().eval(), torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        plain = teacher(images)
        learn_only_token(teacher, torch.randn(128))
        with_token = teacher(images)
        gain = compare_token(teacher, wanting(with_token), [images, images])
        assert gain.loss_with == 0 and gain.batches == 2 and gain.standard_error == 0
        assert gain.loss_without == pytest.approx(float((plain - with_token).square().mean()), rel=1e-5)
        assert gain.lowers and "lower by" in str(gain)
        gain = compare_token(teacher, wanting(plain), [images, images])
        assert gain.loss_without == 0 and not gain.lowers and "higher by" in str(gain)
        assert torch.equal(teacher(images), with_token)  # it has its token again
    with pytest.raises(ValueError, match="no batch"):
        compare_token(teacher, wanting(plain), [])


@pytest.mark.parametrize(("loss_with", "error", "lowers"), [(1.9e-3, 4e-5, True), (1.9e-3, 6e-5, False)])
def test_lower_by_chance_is_not_lower(loss_with, error, lowers):
    assert replace(GAIN, loss_with=loss_with, standard_error=error).lowers == lowers


def test_a_saved_token_comes_back_to_its_own_teacher_alone(tmp_path):
    values = torch.randn(128)
    token = KnowledgeToken(values=values, teacher="0123456789abcdef", gain=GAIN)
    save_token(tmp_path / "token", token, provenance={"run_id": "r1"})
    again = load_token(tmp_path / "token", width=128, teacher="0123456789abcdef")
    assert torch.equal(again.values, values) and again.gain == GAIN
    with pytest.raises(ValueError, match=r"a token of width 128, the teacher's is 192; learn one"):
        load_token(tmp_path / "token", width=192, teacher="0123456789abcdef")
    with pytest.raises(ValueError, match=r"digest 0123456789ab, this one's is fedcba987654; learn one"):
        load_token(tmp_path / "token", width=128, teacher="fedcba9876543210")
    save_model(tiny_model(), tmp_path / "model", provenance={})
    with pytest.raises(ValueError, match="holds a pose model, expected a token"):
        load_token(tmp_path / "model", width=128, teacher="0123456789abcdef")
    nothing = {"width": None, "teacher": "0123456789abcdef", "gain": None}
    save_folder(tmp_path / "none", "token", nothing, {}, {})
    with pytest.raises(
        ValueError, match=r"holds no token, as its epochs in distill.tokens were 0; raise"
    ):
        load_token(tmp_path / "none", width=128, teacher="0123456789abcdef")


def test_a_teacher_that_does_not_fit_is_refused():
    teacher = PoseConfig(size="tiny", image_hw=(64, 48), stride=8)
    check_teacher(teacher, COCO_17, "t", (64, 48))  # heatmaps are of one size at either stride
    check_teacher(teacher, COCO_17, "t")
    with pytest.raises(ValueError, match=r"t takes images of 64 x 48, the student of 96 x 64 .* same"):
        check_teacher(teacher, COCO_17, "t", (96, 64))
    expected = f"the 17 keypoints of {COCO_17.name}, the data has the 16 of {MPII_16.name}; take one"
    with pytest.raises(ValueError, match=re.escape(expected)):
        check_teacher(teacher, MPII_16, "t")
