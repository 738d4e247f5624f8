"""The rules that keep the house in order: who may import whom, and what a stage depends on."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipelines.stages.code import closure, imported

STAGES = ("prepare", "pretrain", "finetune", "distill", "evaluate", "register", "label", "report")

FORBIDDEN_IN_LIBRARY = {"ray", "mlflow", "dvc", "yaml", "ruamel", "pipelines", "typer"}

SKELETONS = {"skeletons", "skeletons_animal", "skeletons_wholebody", "skeleton_files"}

# What each part of the library may import of the others, lowest first.
LAYERS = {
    "skeletons": set(),
    "skeletons_animal": {"skeletons"},
    "skeletons_wholebody": {"skeletons"},
    "skeleton_files": SKELETONS - {"skeleton_files"},
    "geometry": set(),
    "json_pieces": set(),
    "heatmap": {"skeletons", "geometry"},
    "models": {*SKELETONS, "geometry"},
    "data": {*SKELETONS, "geometry", "heatmap", "json_pieces"},
    "training": {"skeletons", "geometry", "heatmap"},
    "evaluation": {*SKELETONS, "geometry", "heatmap", "json_pieces"},
    "visualization": {"skeletons", "geometry"},
    "inference": {"skeletons", "geometry", "heatmap", "models", "data"},
    "annotation_inference": {"geometry", "data", "evaluation", "inference"},
    "labels": set(),
    "video": {"skeletons", "evaluation", "labels"},
    "label_plan": {"labels", "video"},
    "label_unit": {"models", "inference", "labels", "video", "label_plan"},
    "label_merge": {"labels", "video", "label_plan", "label_unit"},
    "label_verify": {"labels", "video"},
    "label_export": {"skeletons", "labels"},
}


def part_of(root: Path, path: Path) -> str:
    return path.relative_to(root / "vitpose").parts[0].removesuffix(".py")


def test_the_library_knows_no_ray_mlflow_dvc_or_yaml(root: Path) -> None:
    for path in (root / "vitpose").rglob("*.py"):
        names = {name.split(".")[0] for name in imported(root, path)}
        assert not names & FORBIDDEN_IN_LIBRARY, path


def test_imports_run_one_way(root: Path) -> None:
    for path in (root / "vitpose").rglob("*.py"):
        part = part_of(root, path)
        if part == "__init__":
            continue
        assert part in LAYERS, f"say in LAYERS what vitpose.{part} may import"
        for name in imported(root, path):
            parts = name.split(".")
            if parts[0] == "vitpose" and len(parts) > 1 and parts[1] != part:
                assert parts[1] in LAYERS[part], f"{path.relative_to(root)} imports {name}"


def test_the_layers_have_an_order() -> None:
    for position, (part, below) in enumerate(LAYERS.items()):
        assert below <= set(list(LAYERS)[:position]), f"{part} imports what stands above it"


def test_no_stage_imports_another(root: Path) -> None:
    for stage in STAGES:
        others = {root / "pipelines" / f"{name}.py" for name in STAGES if name != stage}
        found = closure(root, root / "pipelines" / f"{stage}.py") & others
        assert not found, f"{stage} imports {found}"


def test_importing_the_library_loads_nothing_heavy(root: Path) -> None:
    found = {p.relative_to(root).as_posix() for p in closure(root, root / "vitpose/__init__.py")}
    assert found == {"vitpose/__init__.py"}


def expected_code(root: Path, stage: str) -> list[str]:
    """The import closure of a stage, as dvc.yaml must list it."""
    files = closure(root, root / "pipelines" / f"{stage}.py")
    return sorted(path.relative_to(root).as_posix() for path in files)


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_depends_on_exactly_what_a_stage_imports(root: Path, stage: str) -> None:
    """So a change to a plot never retrains a model, and a change to the model always does."""
    listed = YAML(typ="safe").load(root / "dvc.yaml")["stages"][stage]["deps"]
    code = sorted(dep for dep in listed if dep.endswith(".py"))
    expected = expected_code(root, stage)
    missing, superfluous = sorted(set(expected) - set(code)), sorted(set(code) - set(expected))
    assert (missing, superfluous) == ([], []), "python -m tests.write_deps mends dvc.yaml"


def test_labelling_waits_for_a_new_champion_only(root: Path) -> None:
    """registry.json has figures and refusals too, and an audit head that moves with each."""
    stages = YAML(typ="safe").load(root / "dvc.yaml")["stages"]
    made = {name for out in stages["register"]["outs"] for name in out}
    read = {dep for dep in stages["label"]["deps"] if dep.startswith("metrics/")}
    assert read == made == {"metrics/champion.json"}


@pytest.mark.parametrize("package", ["vitpose", "pipelines"])
def test_no_file_outgrows_one_idea(root: Path, package: str) -> None:
    for path in (root / package).rglob("*.py"):
        lines = path.read_text().count("\n")
        assert lines <= 300, f"{path.relative_to(root)} has {lines} lines; split it"


def test_no_relative_import(root: Path) -> None:
    for package in ("vitpose", "pipelines"):
        for path in (root / package).rglob("*.py"):
            assert not re.search(r"^\s*from \.", path.read_text(), re.MULTILINE), path
