"""`vitpose plan`: what a recipe costs is arithmetic, and a fault of it is one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipelines.cli.cost import BLOCK_SECONDS, CARDS, Place, predicted
from pipelines.cli.main import app
from pipelines.cli.trainings import Training, trainings
from pipelines.params import from_mapping, section
from pipelines.stages.draw import DrawConfig, draw
from pipelines.stages.prepare import PrepareConfig, Source, prepare
from tests.toy import edit_params
from vitpose.models.accounting import cost
from vitpose.models.pose import PoseConfig

ROOT = Path(__file__).resolve().parents[3]
COCO_B = ROOT / "recipes" / "coco" / "base_classic.yaml"
H100 = CARDS["h100"]


def plan(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


def planned(*arguments: object) -> dict[str, Any]:
    result = plan(*arguments, "--json")
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def coco_b() -> Training:
    (training,) = trainings(COCO_B, workers=8)
    return training


def on(gpus: int, utilisation: float = 0.3) -> Place:
    return Place(gpus=gpus, rate=H100[0], memory=H100[1], utilisation=utilisation)


def edited(tmp_path: Path, change: Any) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(COCO_B.read_text())
    edit_params(path, change)
    return path


def test_steps_and_operations_of_the_published_run() -> None:
    """149,813 people, 512 a step, 210 epochs; three forward passes a sample less the image's gradient."""
    training = coco_b()
    assert training.steps == 149_813 // 512 * 210
    assert training.evaluations == 21
    macs = cost(PoseConfig(size="base")).gmacs * 1e9
    embedding = 16 * 12 * 768 * 768
    assert training.cost.step_flops == 2 * (3 * macs - embedding)


def test_twice_the_cards_or_the_utilisation_is_half_the_time_of_the_steps() -> None:
    def of_steps(place: Place) -> float:
        return float(
            coco_b().steps * coco_b().config.batch_size / predicted(coco_b(), place)["samples_per_second"]
        )

    assert of_steps(on(8)) == pytest.approx(of_steps(on(16)) * 2)
    assert of_steps(on(8, 0.2)) == pytest.approx(of_steps(on(8, 0.4)) * 2)
    assert of_steps(on(512)) == pytest.approx(61_320 * 12 * BLOCK_SECONDS)  # nothing is faster than this


def test_micro_batches_and_checkpointing_save_memory(tmp_path: Path) -> None:
    def memory(**options: Any) -> float:
        recipe = edited(tmp_path, lambda params: params["finetune"]["common"].update(options))
        return float(planned(recipe, "--gpus", 1)["stages"][0]["memory_gib"])

    plain = memory()
    assert memory(accumulate=8) < plain / 4
    assert memory(activation_checkpointing=True) < plain / 2
    assert memory(ema=0.999) > plain


def test_the_table_says_what_json_says() -> None:
    data, table = planned(COCO_B, "--gpu", "a100"), plan(COCO_B, "--gpu", "a100").stdout
    (stage,) = data["stages"]
    for shown in ("finetune@base", "149,813", f"{stage['steps']:,}", f"{stage['hours']:.2f}", "8 x a100"):
        assert shown in table


def test_what_does_not_fit_is_marked() -> None:
    huge = ROOT / "recipes" / "coco" / "huge_classic.yaml"
    assert not planned(huge, "--gpu", "l4")["stages"][0]["fits"]
    assert "does not fit" in plan(huge, "--gpu", "l4").stdout
    assert planned(huge, "--gpu", "h200")["stages"][0]["fits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((COCO_B, "--gpus", 3), "batch_size 512 does not divide among 3 GPUs"),
        (
            (COCO_B, "--model", "finetune@large"),
            "has no stage finetune@large that trains; there: finetune@base",
        ),
        (("nowhere.yaml",), "nowhere.yaml is not there"),
        ((ROOT / "recipes" / "lspet_cpu.yaml",), "nobody knows how many people are in lspet-train"),
    ],
)
def test_a_fault_is_one_line(arguments: tuple[object, ...], message: str) -> None:
    result = plan(*arguments)
    assert isinstance(result.exception, ValueError | OSError) and message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_misspelt_key_is_named_with_its_path(tmp_path: Path) -> None:
    recipe = edited(tmp_path, lambda params: params["finetune"]["sizes"]["base"].update(epoch=1))
    assert "finetune.sizes.base.epoch: no such key" in str(plan(recipe).exception)


def test_an_unknown_card_is_a_usage_error() -> None:
    result = plan(COCO_B, "--gpu", "tpu")
    assert result.exit_code == 2 and "none of h100, h200, a100, l4" in result.output


def test_people_are_told_or_counted_in_the_prepared_data(tmp_path: Path) -> None:
    assert planned(COCO_B, "--people", 51_200)["stages"][0]["steps"] == 100 * 210
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    skeleton = {
        "name": "two", "keypoints": ["left_eye", "right_eye"], "flip_pairs": [[0, 1]],
        "sigmas": [0.1, 0.1], "limbs": [], "upper_body": [0, 1],
    }  # fmt: skip
    described = {
        "digest": "0", "skeleton": skeleton, "datasets": ["coco-train"], "val_images": "images",
        "counts": {"train_people": 1024, "val_people": 9},
    }  # fmt: skip
    (prepared / "dataset.json").write_text(json.dumps(described))
    found = planned(COCO_B, "--prepared", prepared)["stages"][0]
    assert (found["people"], found["steps"]) == (1024, 2 * 210)
    assert found["parameters"] < planned(COCO_B)["stages"][0]["parameters"]  # two joints, not 17
    described["datasets"] = ["other"]
    (prepared / "dataset.json").write_text(json.dumps(described))
    assert planned(COCO_B, "--prepared", prepared)["stages"][0]["people"] == 149_813


def test_the_program_loads_no_torch_to_say_what_it_can() -> None:
    code = "import pipelines.cli.plan, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_measured_hours_are_those_of_the_steps(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes take real steps of each stage's model on real data."""
    content = YAML(typ="safe").load(root / "params.yaml")
    recipe = tmp_path / "params.yaml"
    recipe.write_text((root / "params.yaml").read_text())

    def shrink(params: Any) -> None:
        params["draw"].update(train_images=60, val_images=6)
        for stage in ("pretrain", "finetune"):
            params[stage]["sizes"] = {"nano": content[stage]["sizes"]["nano"]}
            params[stage]["common"]["batch_size"] = 16
        params["distill"]["students"] = {}
        params["distill"]["tokens"] = {}

    edit_params(recipe, shrink)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines.cli.calibration.STEP_SECONDS", 0.2)
    drawn = from_mapping(DrawConfig, section(recipe, "draw"), "draw")
    draw(drawn, out=tmp_path / "data" / "drawn")
    sources = [
        Source(
            name=f"people-{part}",
            annotations=f"data/drawn/{part}/annotations.json",
            images=f"data/drawn/{part}/images",
        )
        for part in ("train", "val")
    ]
    prepare(
        PrepareConfig(train=(sources[0],), val=sources[1]), (128, 96), out=tmp_path / "data" / "prepared"
    )
    found = planned(recipe, "--measure", "--model", "finetune@nano")
    (stage,) = found["stages"]
    assert stage["step_seconds"] > 0 and stage["evaluation_seconds"] > 0
    trained = stage["steps"] * stage["step_seconds"] + 1 * stage["evaluation_seconds"]
    assert stage["hours"] * 3600 == pytest.approx(trained + 25)
