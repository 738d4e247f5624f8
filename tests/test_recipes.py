"""The shipped configurations: every section of every file builds what reads it, and the parts agree.

Models of published recipes are built whole, on the meta device, which holds shapes and no numbers.
"""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from benchmarks.ablation_configs import Cell
from benchmarks.ablations import (
    Question,
    cell_of,
    markdown,
    read_common,
    read_question,
    sign,
    table,
)
from pipelines.cli.trainings import Training, trainings
from pipelines.cluster.pose import Recipe
from pipelines.params import ModelConfig, from_mapping, overlay, section
from pipelines.registry.gate import RegisterConfig
from pipelines.stages.distill import DistillConfig
from pipelines.stages.draw import DrawConfig
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.prepare import PrepareConfig
from pipelines.stages.pretrain import PretrainConfig
from pipelines.stages.start import StartConfig
from pipelines.stages.token import TokenConfig
from vitpose.data.several import batch_counts
from vitpose.labels.plan import LabelConfig
from vitpose.models.mae import MAEConfig, MaskedAutoencoder
from vitpose.models.pose import PoseConfig, PoseModel, build_model, freeze_part
from vitpose.models.sizes import SIZES
from vitpose.training.optim import parameter_groups

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
PUBLISHED = sorted(p for p in RECIPES.glob("*/*.yaml") if p.parent.name != "ablations_cpu")
FILES = [ROOT / "params.yaml", *sorted(RECIPES.glob("*.yaml")), *PUBLISHED]
PEOPLE = 149_813
"""Of COCO, where a recipe's own data is not known by its name."""

TOP_LEVEL = {
    "raw", "archive", "teacher", "models", "model", "draw", "prepare", "starts", "pretrain", "finetune",
    "distill", "evaluate", "register", "label",
}  # fmt: skip

DRAWN_FROM = {"small": 0.8, "base": 0.75, "large": 0.8, "huge": 0.85}
"""Layer decay of the official configurations, 256x192, one data set."""

DEPTH = {"small": 12, "base": 12, "large": 24, "huge": 32}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT)).removesuffix(".yaml").removeprefix("recipes/")


recipes = pytest.mark.parametrize("path", FILES, ids=name_of)
published = pytest.mark.parametrize("path", PUBLISHED, ids=name_of)


def load(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path)


@cache
def trained(path: Path) -> list[Training]:
    """Every stage that trains; reading them checks every recipe section and model."""
    known = path in PUBLISHED or path.name == "params.yaml"
    return trainings(path, workers=8, people=None if known else PEOPLE)


@recipes
def test_every_section_builds_what_reads_it(path: Path) -> None:
    from_mapping(ModelConfig, section(path, "model"), "model")
    for name, cls in (
        ("draw", DrawConfig),
        ("prepare", PrepareConfig),
        ("evaluate", EvaluateConfig),
        ("register", RegisterConfig),
        ("label", LabelConfig),
        ("distill.common", DistillConfig),
    ):
        from_mapping(cls, section(path, name), name)
    for name in section(path, "starts"):
        overlay(StartConfig, path, f"starts.{name}")
    for name in load(path)["distill"].get("tokens") or ():
        overlay(TokenConfig, path, f"distill.tokens.{name}")
    for training in trained(path):
        assert training.steps > 0
        if isinstance(training.config, PretrainConfig):
            assert training.config.optim(100).lr > 0


@recipes
def test_nothing_in_the_file_is_read_by_nobody(path: Path) -> None:
    content = load(path)
    assert set(content) <= TOP_LEVEL and TOP_LEVEL - set(content) <= {"starts", "teacher"}
    for stage in ("pretrain", "finetune"):
        assert set(content[stage]) == {"common", "sizes"}
    assert {"common", "students"} <= set(content["distill"]) <= {"common", "tokens", "students"}
    for name in (content["prepare"].get("heads") or {}).keys():
        used = [training.config for training in trained(path) if isinstance(training.config, Recipe)]
        assert any(name in config.heads for config in used), f"nobody trains head {name}"


@recipes
def test_the_parts_agree(path: Path) -> None:
    content = load(path)
    made = {f"models/mae-{name}" for name in content["pretrain"]["sizes"]}
    made |= {f"models/start-{name}" for name in content.get("starts") or ()}
    made |= {f"models/finetune-{name}" for name in content["finetune"]["sizes"]}
    for entry in (*content["finetune"]["sizes"].values(), *content["distill"]["students"].values()):
        assert entry["init"] in made, entry["init"]
    tokens = content["distill"].get("tokens") or {}
    assert set(tokens) <= set(content["finetune"]["sizes"])
    if content["distill"]["students"]:
        assert content["teacher"] in content["finetune"]["sizes"]
        assert content["teacher"] in tokens  # its stage writes what the stage distill depends on
    evaluated = {f"finetune-{name}" for name in content["finetune"]["sizes"]}
    evaluated |= {f"distill-{name}" for name in content["distill"]["students"]}
    assert set(content["models"]) <= evaluated
    assert len(set(content["models"])) == len(content["models"])


@recipes
def test_a_data_set_lies_where_raw_says(path: Path) -> None:
    """Or where the stage `draw` writes, so that a change to it runs `prepare` again."""
    content = load(path)
    prepare = content["prepare"]
    for part in (prepare, *(prepare.get("heads") or {}).values()):
        for source in [*part["train"], part["val"]]:
            for key in ("annotations", "images"):
                assert source[key].startswith((f"{content['raw']}/", "data/drawn/")), source[key]
    assert path.name != "params.yaml" or (ROOT / content["raw"]).is_file()


@published
def test_a_published_recipe_opens_with_its_figure_its_cost_and_its_command(path: Path) -> None:
    text = path.read_text()
    header = text[: text.index("\nraw:")]
    assert re.search(r"^# Published: .*\d\d\.\d", header, re.MULTILINE)
    assert f"make repro RECIPE={path.relative_to(ROOT)}" in header
    for training in trained(path):
        assert f"{training.stage}: {training.steps:,} steps" in header, "see `vitpose plan`"


@published
def test_the_optimizer_and_the_batch_are_as_published(path: Path) -> None:
    """The official configurations: AdamW, 5e-4 for 512 people or 1e-3 for 1024, layer by layer."""
    for training in trained(path):
        if isinstance(training.config, PretrainConfig):
            check_masked_autoencoder(training)
        elif training.stage.startswith(("finetune@", "distill@")):
            check_pose_model(training)


def check_masked_autoencoder(training: Training) -> None:
    config = training.config
    assert isinstance(config, PretrainConfig)
    assert (config.batch_size, config.epochs, config.warmup_epochs) == (4096, 1600, 40)
    assert config.mask_ratio == 0.75 and config.norm_pix_loss
    optim = config.optim(100)
    assert optim.lr == pytest.approx(1.5e-4 * 16) and optim.betas == (0.9, 0.95)
    with torch.device("meta"):
        mae = MaskedAutoencoder(MAEConfig(**training.architecture))
    groups = parameter_groups(mae, optim)
    assert {group["lr"] for group in groups} == {optim.lr}  # MAE decays no layer
    assert sum(p.numel() for p in mae.parameters()) == training.cost.parameters


def check_pose_model(training: Training) -> None:
    config, architecture = training.config, training.architecture
    assert isinstance(config, Recipe) and isinstance(architecture, PoseConfig)
    size = architecture.size
    recipe = config.for_size(size)
    several = bool(config.heads)
    assert (config.batch_size, recipe.optim.lr) == ((1024, 1e-3) if several else (512, 5e-4))
    decay = 0.8 if several and training.cost and config.experts and size == "huge" else DRAWN_FROM[size]
    assert recipe.optim.layer_decay == decay
    assert recipe.drop_path == SIZES[size].drop_path
    assert recipe.optim.optimizer == "adamw" and recipe.optim.weight_decay == 0.1
    assert (recipe.optim.warmup_steps, recipe.optim.warmup_ratio) == (500, 0.001)
    assert recipe.optim.milestones == pytest.approx((170 / 210, 200 / 210))
    assert recipe.optim.clip_norm == 1.0 and recipe.optim.schedule == "step"
    whole_run = config.epochs * training.people
    if config.dataset_weights is None:
        assert config.epochs == 210
    else:  # the epochs of a larger folder, of which COCO's people alone are shown
        assert whole_run == pytest.approx(210 * PEOPLE, rel=0.02)
    model = built(replace(architecture, knowledge_token_dim=None))
    freeze_part(model, config.freeze)
    groups = parameter_groups(model, recipe.optim)
    rates = sorted({group["lr"] for group in groups})
    first, last = rates[0], rates[-1]
    depth = DEPTH[size]
    assert last == pytest.approx(recipe.optim.lr)  # of the head and the last norm
    layers = depth + (1 if config.freeze == "ffn" else 2)  # the embeddings are frozen with the FFN
    assert len(rates) == layers
    assert first == pytest.approx(recipe.optim.lr * decay ** (layers - 1))
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
    taken = sum(p.numel() for group in groups for p in group["params"])  # type: ignore[attr-defined]
    assert taken == sum(p.numel() for p in model.parameters() if p.requires_grad)
    token = (architecture.knowledge_token_dim or 0) * (training.teacher is not None or several)
    assert training.cost.trained == pytest.approx(taken, abs=max(1100, token))
    if several:  # each card has as many of a data set as another
        names = [skeleton.name for skeleton in architecture.skeletons]
        counts = batch_counts(config.head_shares, dict.fromkeys(names, 1), config.batch_size, 8)
        assert sum(counts.values()) == config.batch_size


def built(architecture: PoseConfig) -> PoseModel:
    with torch.device("meta"):
        return build_model(architecture)


EXPECTED = {
    "coco": 8, "mae": 3, "resolution": 5, "attention": 6, "frozen": 2, "datasets": 4, "plus": 4,
    "distill": 3,
}  # fmt: skip


def test_every_published_result_has_its_recipe() -> None:
    found = {name: len(list((RECIPES / name).glob("*.yaml"))) for name in EXPECTED}
    assert found == EXPECTED


def test_the_ablations_compare_cells_that_differ() -> None:
    """Each file builds its cells, and no two of a question are the same."""
    folder = RECIPES / "ablations_cpu"
    common = read_common(folder / "common.yaml")
    for path in sorted(folder.glob("*.yaml")):
        if path.name == "common.yaml":
            continue
        question = read_question(path)
        keys = [cell_of(common, question, own).key for own in question.cells.values()]
        assert len(set(keys)) == len(keys) > 1, path.name


def test_a_difference_within_its_spread_has_no_sign() -> None:
    assert [sign(d, 0.01) for d in (0.03, -0.03, 0.015, None)] == ["+", "-", "0", None]
    question = Question(
        title="t", paper="p", unit="AP", common={}, cells={"a": {"paper": 75.8}, "b": {"paper": 76.3}}
    )
    cells = {"a": Cell(data="d"), "b": Cell(data="d", head="simple")}
    keys = {name: cell.key for name, cell in cells.items()}
    rows = {
        (keys[name], seed): {"PCK": base + seed / 10 + apart, "AP": 0.0, "cpu_seconds": 1.0}
        for name, base in (("a", 0.2), ("b", 0.25))
        for seed, apart in enumerate((0.0, 0.001, 0.002))
    }
    _, b = table(question, cells, rows)
    # The seeds are far apart, the pairs are not: the difference is taken seed by seed.
    assert b["PCK"]["difference"] == pytest.approx(0.05) and b["sign"] == "+"
    assert b["paper_difference"] == pytest.approx(0.5) and b["seeds"] == 3
    assert "| + |" in markdown(question, table(question, cells, rows))
