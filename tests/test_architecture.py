"""The rules that keep the house in order: who may import whom, and how much a stage touches."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipelines.stages.code import STAGES, closure, imported

FORBIDDEN_IN_LIBRARY = {"ray", "mlflow", "dvc", "yaml", "ruamel", "pipelines", "typer"}

GROUND = {"skeletons", "files", "json_pieces", "geometry", "heatmap", "oks", "pixels", "fetching"}

# What each room of the library may import of the others, lowest first.
ROOMS = {
    "files": set(),
    "json_pieces": set(),
    "skeletons": set(),
    "geometry": set(),
    "heatmap": set(),
    "oks": set(),
    "pixels": set(),
    "fetching": {"files"},
    "models": GROUND,
    "exchange": {*GROUND, "models"},
    "people": GROUND,
    "data": GROUND,
    "preparation": {*GROUND, "data"},
    "training": GROUND,
    "inference": {*GROUND, "models"},
    "evaluation": {*GROUND, "models", "data", "inference"},
    "video": GROUND,
    "labels": {*GROUND, "models", "exchange", "inference", "video"},
    "visualization": GROUND,
    "estimation": {*GROUND, "models", "exchange", "inference", "video", "visualization"},
}

# The rooms of the pipelines, lowest first; a room imports those before it.
PIPELINES = (
    "params", "place", "experiments", "mlflow_model", "cluster", "registry", "page", "viewer",
    "stages", "cli",
)  # fmt: skip
ARROWS = 19

# Files and lines that a stage touches, at most: what a change may rerun.
TOUCHED = {
    "prepare": (45, 5100),
    "pretrain": (42, 5500),
    "finetune": (55, 7500),
    "report": (25, 3500),
}


def room_of(root: Path, path: Path) -> str:
    return path.relative_to(root).parts[1].removesuffix(".py")


def arrows(root: Path, package: str) -> dict[tuple[str, str], str]:
    """(room, room it imports): an import that says so."""
    found = {}
    for path in (root / package).rglob("*.py"):
        for name in imported(root, path):
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1 and parts[1] != room_of(root, path):
                found[room_of(root, path), parts[1]] = f"{path.relative_to(root)} imports {name}"
    return {pair: where for pair, where in found.items() if "__init__" not in pair}


def test_the_library_knows_no_ray_mlflow_dvc_or_yaml(root: Path) -> None:
    for path in (root / "vitpose").rglob("*.py"):
        names = {name.split(".")[0] for name in imported(root, path)}
        assert not names & FORBIDDEN_IN_LIBRARY, path


def test_the_rooms_of_the_library_import_one_way(root: Path) -> None:
    for (room, other), where in arrows(root, "vitpose").items():
        assert room in ROOMS, f"say in ROOMS what vitpose.{room} may import"
        assert other in ROOMS[room], where
    for position, (room, below) in enumerate(ROOMS.items()):
        before = set(list(ROOMS)[:position]) | (GROUND if room in GROUND else set())
        assert below <= before, f"{room} imports what stands above it"


def test_the_rooms_of_the_pipelines_are_few_and_import_one_way(root: Path) -> None:
    found = arrows(root, "pipelines")
    assert {room for pair in found for room in pair} <= set(PIPELINES)
    for (room, other), where in found.items():
        assert PIPELINES.index(other) < PIPELINES.index(room), where
    assert len(found) <= ARROWS, sorted(found)


def test_no_stage_imports_another(root: Path) -> None:
    folder = root / "pipelines" / "stages"
    for stage in STAGES:
        others = {folder / f"{name}.py" for name in STAGES if name != stage}
        assert not closure(root, folder / f"{stage}.py") & others, stage


def test_training_touches_no_raw_format_and_the_report_no_network(root: Path) -> None:
    def rooms(stage: str) -> set[str]:
        files = closure(root, root / "pipelines" / "stages" / f"{stage}.py")
        return {room_of(root, path) for path in files if path.is_relative_to(root / "vitpose")}

    for stage in ("pretrain", "finetune", "token", "distill"):
        assert not rooms(stage) & {"people", "preparation", "exchange", "labels", "video"}, stage
    assert "people" not in rooms("prepare") and "preparation" not in rooms("draw")
    assert not rooms("report") & {"models", "exchange", "inference", "data"}


def test_pretraining_knows_no_pose_model(root: Path) -> None:
    """So a changed head, half-body rule or evaluation never pretrains again."""
    files = closure(root, root / "pipelines" / "stages" / "pretrain.py")
    touched = {path.relative_to(root).as_posix() for path in files}
    pose = {f"vitpose/models/{name}.py" for name in ("pose", "heads", "config", "weights", "knowledge")}
    assert not touched & (pose | {"vitpose/data/augmentation.py", "vitpose/heatmap.py"})
    assert not any(name.startswith("vitpose/evaluation/") for name in touched)


@pytest.mark.parametrize("stage", TOUCHED)
def test_a_stage_touches_few_files(root: Path, stage: str) -> None:
    files = closure(root, root / "pipelines" / "stages" / f"{stage}.py")
    lines = sum(path.read_text().count("\n") for path in files)
    most_files, most_lines = TOUCHED[stage]
    assert len(files) <= most_files and lines <= most_lines, (len(files), lines)


def test_every_stage_depends_on_its_code(root: Path) -> None:
    stages = YAML(typ="safe").load(root / "dvc.yaml")["stages"]
    assert set(stages) == {"code", *STAGES}
    assert stages["code"]["outs"] == [f"code/{stage}" for stage in STAGES]
    for stage in STAGES:
        deps = stages[stage].get("do", stages[stage])["deps"]
        assert f"code/{stage}" in deps
        assert not [dep for dep in deps if dep.endswith(".py")]


def test_importing_the_library_loads_nothing_heavy(root: Path) -> None:
    found = {p.relative_to(root).as_posix() for p in closure(root, root / "vitpose/__init__.py")}
    assert found == {"vitpose/__init__.py"}


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


@pytest.mark.parametrize("package", ["vitpose", "pipelines"])
def test_a_package_says_what_lives_there_and_holds_no_code(root: Path, package: str) -> None:
    for path in (root / package).rglob("__init__.py"):
        text = path.read_text()
        assert text.startswith('"""') and text.count('"""') == 2, path


def test_no_relative_import(root: Path) -> None:
    for package in ("vitpose", "pipelines"):
        for path in (root / package).rglob("*.py"):
            assert not re.search(r"^\s*from \.", path.read_text(), re.MULTILINE), path
