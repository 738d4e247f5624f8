"""The shipped configurations: every section of every file builds what reads it, and the parts agree."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipelines.cluster.pose import Recipe
from pipelines.params import ModelConfig, from_mapping, names, overlay, section
from pipelines.registry.gate import RegisterConfig
from pipelines.stages.distill import DistillConfig
from pipelines.stages.draw import DrawConfig
from pipelines.stages.evaluate import EvaluateConfig
from pipelines.stages.prepare import PrepareConfig
from pipelines.stages.pretrain import PretrainConfig
from vitpose.labels.plan import LabelConfig
from vitpose.models.pose import PoseConfig

ROOT = Path(__file__).resolve().parents[1]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))]

TOP_LEVEL = {
    "raw", "archive", "sizes", "students", "teacher", "models",
    "model", "draw", "prepare", "pretrain", "finetune", "distill", "evaluate", "register", "label",
}  # fmt: skip

recipes = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path)


@recipes
def test_every_section_builds_what_reads_it(path: Path) -> None:
    model = from_mapping(ModelConfig, section(path, "model"), "model")
    for name, cls in (
        ("draw", DrawConfig),
        ("prepare", PrepareConfig),
        ("evaluate", EvaluateConfig),
        ("register", RegisterConfig),
        ("label", LabelConfig),
        ("distill.common", DistillConfig),
    ):
        from_mapping(cls, section(path, name), name)
    for size in names(path, "sizes"):
        pretrain = overlay(PretrainConfig, path, "pretrain.common", f"pretrain.sizes.{size}")
        assert pretrain.optim(100).lr > 0
        recipe = overlay(Recipe, path, "finetune.common", f"finetune.sizes.{size}")
        assert recipe.for_size(size).optim.lr > 0
        PoseConfig(
            size=size, image_hw=model.image_hw, stride=model.stride, head=model.head,
            head_channels=model.head_channels, drop_path=recipe.drop_path,
        )  # fmt: skip
    for student in names(path, "students"):
        sections = ("finetune.common", f"finetune.sizes.{student}", f"distill.students.{student}")
        overlay(Recipe, path, *sections)


@recipes
def test_nothing_in_the_file_is_read_by_nobody(path: Path) -> None:
    content = load(path)
    assert set(content) == TOP_LEVEL
    for stage in ("pretrain", "finetune"):
        assert set(content[stage]) == {"common", "sizes"}
        assert set(content[stage]["sizes"]) == set(content["sizes"]), stage
    assert set(content["distill"]) == {"common", "students"}
    assert set(content["distill"]["students"]) == set(content["students"])


@recipes
def test_the_parts_agree(path: Path) -> None:
    content = load(path)
    assert set(content["students"]) <= set(content["sizes"])  # a student starts from its size's MAE
    assert content["teacher"] in content["sizes"]
    made = {f"finetune-{size}" for size in content["sizes"]}
    made |= {f"distill-{student}" for student in content["students"]}
    assert set(content["models"]) <= made and len(set(content["models"])) == len(content["models"])


@recipes
def test_a_data_set_lies_where_raw_says(path: Path) -> None:
    """Or where the stage `draw` writes, so that a change to it runs `prepare` again."""
    content = load(path)
    for source in [*content["prepare"]["train"], content["prepare"]["val"]]:
        for key in ("annotations", "images"):
            assert source[key].startswith((f"{content['raw']}/", "data/drawn/")), source[key]
    assert path.name != "params.yaml" or (ROOT / content["raw"]).is_file()
