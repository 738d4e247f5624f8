"""Muon: its step against the definition, AdamW's beside it, and what it is given."""

import copy

import pytest
import torch
from torch import Tensor, nn

from vitpose.models.pose import PoseConfig, build_model
from vitpose.training.optim import Muon, OptimConfig, build_optimizer, orthogonalised, parameter_groups

CONFIG = OptimConfig(optimizer="muon", lr=1e-2, weight_decay=0.1, muon_lr_scale=2.0)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 8, 32)])
def test_singular_values_move_near_one_and_singular_vectors_stay(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = orthogonalised(1e-9 * matrices)  # of any scale
    assert torch.linalg.svdvals(result).sub(1).abs().max() < 0.35
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ result @ vh.mT
    torch.testing.assert_close(
        inner, torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1)), atol=1e-9, rtol=0
    )
    assert not orthogonalised(torch.zeros(shape)).any()


def plain_step(weight: Tensor, gradients: list[Tensor]) -> Tensor:
    """Steps on one parameter as the papers write them, one matrix at a time."""
    lr, decay = 2e-2, 0.1
    momentum = torch.zeros_like(weight)
    for gradient in gradients:
        momentum = 0.95 * momentum + 0.05 * gradient
        direction = 0.05 * gradient + 0.95 * momentum
        x = direction / direction.norm()
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x - 4.7750 * a @ x + 2.0315 * a @ a @ x
        weight = weight * (1 - lr * decay) - lr * 0.2 * max(weight.shape) ** 0.5 * x
    return weight


def test_a_step_is_the_definitions_and_the_rest_is_adamws() -> None:
    torch.manual_seed(0)
    blocks = nn.ModuleList(
        nn.ModuleDict({"qkv": nn.Linear(4, 12), "fc1": nn.Linear(4, 16), "fc2": nn.Linear(16, 4)})
        for _ in range(2)
    )
    model = nn.ModuleDict({"blocks": blocks, "head": nn.Linear(4, 3)})
    twin = copy.deepcopy(model)
    optimizer = build_optimizer(model, CONFIG)
    adamw = build_optimizer(twin, OptimConfig(lr=1e-2, weight_decay=0.1))
    assert isinstance(optimizer, Muon)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    gradients = [{name: torch.randn_like(value) for name, value in before.items()} for _ in range(3)]
    for step in gradients:
        for module, stepped in ((model, optimizer), (twin, adamw)):
            for name, parameter in module.named_parameters():
                parameter.grad = step[name].clone()
            stepped.step()
    for (name, value), expected in zip(model.named_parameters(), twin.parameters(), strict=True):
        if value.ndim == 2 and "blocks" in name:
            own = [step[name] for step in gradients]
            expected = plain_step(before[name], own)
            torch.testing.assert_close(value.detach(), expected, atol=1e-5, rtol=1e-4)
        else:
            assert torch.equal(value, expected), name


def test_muon_takes_the_matrices_of_the_blocks_and_nothing_else() -> None:
    model = build_model(PoseConfig(size="nano"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, CONFIG)
    taken = {names[id(p)] for group in groups if group["muon"] for p in group["params"]}
    kinds = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert taken == {f"backbone.blocks.{i}.{kind}.weight" for i in range(4) for kind in kinds}
    assert {g["lr_scale"] for g in groups if g["muon"]} == {2.0}


def test_saved_and_loaded_it_goes_on_alike() -> None:
    def stepped(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()

    torch.manual_seed(0)
    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 4)]), "head": nn.Linear(4, 2)})
    optimizer = build_optimizer(model, CONFIG)
    stepped(model, optimizer, 1)
    other = copy.deepcopy(model)
    continued = build_optimizer(other, CONFIG)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    stepped(model, optimizer, 2)
    stepped(other, continued, 2)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
