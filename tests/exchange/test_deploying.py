"""An exported file computes what its model does, says which model it is, and is refused when broken."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from vitpose.exchange import deploying
from vitpose.exchange.deployed import digest_of, load_exported, load_runnable, read_description
from vitpose.exchange.deploying import DeployReport, deploy
from vitpose.exchange.one_head import one_head
from vitpose.inference import PosePredictor
from vitpose.models.pose import PoseConfig, build_model
from vitpose.models.weights import load_model, save_model, weights_digest
from vitpose.skeletons.human import COCO_17, LSP_14

SMALL = PoseConfig(size="nano", image_hw=(64, 48), head_channels=8)
SUFFIX = {"onnx": ".onnx", "onnx-int8": ".onnx", "torch-export": ".pt2", "openvino": ".xml"}
# Windows of 3 x 2 tokens on a map of 4 x 3 are padded in both directions.
MIXED = {"attention": "shift_pool", "window_hw": (3, 2), "knowledge_token_dim": 24}
VARIANTS = {
    "mixed": MIXED,
    "token": {"knowledge_token_dim": 24},
    "stride 8": {"stride": 8},
    "stride 8, simple": {"stride": 8, "head": "simple"},
    "unpadded": {"patch_padding": False},
    "window": {"attention": "window", "window_hw": (3, 2), "global_blocks": (1,)},
    "shift": {"attention": "shift", "window_hw": (3, 2)},
    "pool": {"attention": "pool", "window_hw": (3, 2)},
}


def write_folder(folder: Path, config: PoseConfig = SMALL, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = build_model(config)
    for head in model.heads:  # published heads start so small that their bias drowns the rest
        torch.nn.init.normal_(head.final.weight, std=0.5)
    save_model(model, folder, provenance={"run_id": "r1", "data_digest": "sha256:d"})
    return folder


def exported(folder: Path, form: str, head: int | None = None) -> tuple[Path, DeployReport]:
    out = folder.with_name(f"{folder.name}-{form}{SUFFIX[form]}")
    return out, deploy(folder, out, form, head=head)  # type: ignore[arg-type]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape and found.dtype == torch.float32
    return ((found - expected).abs().max() / expected.abs().max()).item()


def largest_difference(folder: Path, out: Path, head: int = 0) -> float:
    model, file = load_model(folder), load_exported(out, threads=1)
    with torch.inference_mode():
        return max(
            relative(file(images), model(images, head=head))
            for images in (torch.randn(batch, 3, *model.config.image_hw) for batch in (1, 5))
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("deploying") / "model")


@pytest.fixture(scope="module", params=["onnx", "torch-export"])
def made(request: pytest.FixtureRequest, folder: Path) -> Path:
    return exported(folder, request.param)[0]


def test_a_file_computes_what_its_model_does_for_any_batch(folder: Path, made: Path) -> None:
    assert largest_difference(folder, made) < 1e-5


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_the_simple_head_too(tmp_path: Path, form: str) -> None:
    folder = write_folder(tmp_path / "simple", replace(SMALL, head="simple"))
    assert largest_difference(folder, exported(folder, form)[0]) < 1e-5


@pytest.mark.slow
def test_shifted_windows_with_pooled_context_and_a_token_export(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mixed", replace(SMALL, **MIXED))
    assert largest_difference(folder, exported(folder, "torch-export")[0]) < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_architecture_exports(tmp_path: Path, form: str, variant: str) -> None:
    folder = write_folder(tmp_path / "variant", replace(SMALL, **VARIANTS[variant]))
    assert largest_difference(folder, exported(folder, form)[0]) < 1e-5


def test_a_file_says_which_model_it_is(folder: Path, made: Path) -> None:
    described = read_description(made)
    original = read_description(folder)
    export = described.pop("export")
    assert described["provenance"] == original["provenance"]
    assert described["preprocessing"] == original["preprocessing"]
    assert (export["weights_digest"], export["head"]) == (weights_digest(folder), 0)
    assert export["opset"] == (deploying.OPSET if made.suffix == ".onnx" else None)
    assert load_exported(made).config == load_model(folder).config
    assert digest_of(made) not in (digest_of(folder), "") and digest_of(folder) == weights_digest(folder)


def test_predictions_are_those_of_the_plain_model(folder: Path, made: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    boxes = [[5, 5, 40, 70], [50, 10, 60, 60], [-10, 40, 50, 60]]
    plain = PosePredictor(load_model(folder), flip_test=True, batch_size=2)
    file = PosePredictor(load_runnable(made), flip_test=True, batch_size=2)  # type: ignore[arg-type]
    expected, found = plain(image, boxes), file(image, boxes)
    assert np.abs(found.keypoints - expected.keypoints).max() < 0.05
    assert np.allclose(found.scores, expected.scores, rtol=1e-4)
    assert file.protocol == plain.protocol and file.protocol.precision == "float32"


@pytest.mark.parametrize("experts", [0, 3])
def test_a_file_has_one_head_and_its_expert(tmp_path: Path, experts: int) -> None:
    config = replace(SMALL, skeletons=(COCO_17, LSP_14), experts=experts)
    folder = write_folder(tmp_path / "two", config)
    out = tmp_path / "two.pt2"
    with pytest.raises(ValueError, match="2 heads, what is written has one; choose of 0: coco, 1: lsp"):
        deploy(folder, out, "torch-export")
    with pytest.raises(ValueError, match="got 2"):
        deploy(folder, out, "torch-export", head=2)
    images = torch.randn(2, 3, 64, 48)
    for head, skeleton in enumerate(config.skeletons):
        plain = one_head(load_model(folder), head)
        assert plain.config == replace(SMALL, skeletons=(skeleton,))
        with torch.inference_mode():
            assert relative(plain(images), load_model(folder)(images, head=head)) < 1e-5


@pytest.mark.slow
def test_the_chosen_head_is_exported(tmp_path: Path) -> None:
    config = replace(SMALL, skeletons=(COCO_17, LSP_14), experts=3)
    folder, out = write_folder(tmp_path / "two", config), tmp_path / "two.pt2"
    deploy(folder, out, "torch-export", head=1)
    assert read_description(out)["export"]["head"] == 1
    assert load_exported(out).config.skeletons == (LSP_14,)
    assert largest_difference(folder, out, head=1) < 1e-5


def test_images_of_another_size_and_other_heads_are_refused(made: Path) -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 64, 64\), .* takes \(B, 3, 64, 48\)"):
        load_exported(made)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="one head, number 0; got 1"):
        load_exported(made)(torch.zeros(1, 3, 64, 48), head=1)


@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_a_truncated_file_is_refused(made: Path, tmp_path: Path, kept: float) -> None:
    whole = made.read_bytes()
    cut = tmp_path / f"cut{made.suffix}"
    cut.write_bytes(whole[: int(len(whole) * kept)])
    for read in (load_exported, read_description):
        # A .pt2 has another zip file inside, which is what is found when the end is missing.
        with pytest.raises(ValueError, match="not a whole|does not say which"):
            read(cut)


@pytest.mark.parametrize("made", ["torch-export"], indirect=True)
def test_a_changed_byte_of_an_archive_is_refused(folder: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"
    content = bytearray(made.read_bytes())
    weight = load_model(folder).heads[0].final.weight.detach().numpy().tobytes()
    content[content.index(weight)] ^= 1
    out.write_bytes(content)
    with pytest.raises(ValueError, match="does not have its checksum"):
        load_exported(out)


def test_a_file_of_another_kind_is_refused(folder: Path, made: Path, tmp_path: Path) -> None:
    other = tmp_path / f"other{'.pt2' if made.suffix == '.onnx' else '.onnx'}"
    other.write_bytes(made.read_bytes())
    with pytest.raises(ValueError, match="not a whole"):
        load_exported(other)
    with pytest.raises(ValueError, match="no exported model; expected a name ending in .onnx"):
        load_exported(folder / "config.json")
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx is not there"):
        load_exported(tmp_path / "missing.onnx")


def test_a_network_of_somebody_else_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(1),))
    torch.export.save(program, tmp_path / "relu.pt2")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", ends[:1], ends[1:]
    )
    opset = [onnx.helper.make_opsetid("", deploying.OPSET)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset), tmp_path / "relu.onnx")
    for name in ("relu.pt2", "relu.onnx"):
        with pytest.raises(ValueError, match="does not say which pose model it is"):
            load_exported(tmp_path / name)


def test_a_file_that_differs_too_much_is_not_written(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_folder(tmp_path / "other", seed=1)
    out = tmp_path / f"model{made.suffix}"
    out.write_bytes(b"what was there")
    # What is written is whole, and of another model's weights.
    monkeypatch.setattr(deploying, "_write", lambda model, file, *_: shutil.copy(made, file))
    with pytest.raises(ValueError, match="nothing was written"):
        deploy(other, out, "onnx" if made.suffix == ".onnx" else "torch-export")
    assert out.read_bytes() == b"what was there" and set(tmp_path.iterdir()) == {out, other}


def test_what_cannot_be_written_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="a name that ends in .onnx"):
        deploy(folder, tmp_path / "model.pt2", "onnx")
    with pytest.raises(ValueError, match="unknown; expected onnx, "):
        deploy(folder, tmp_path / "model.onnx", "tensorrt")  # type: ignore[arg-type]
    monkeypatch.setattr(deploying, "_LARGEST_ONNX", 1000)
    with pytest.raises(ValueError, match="an ONNX file at most 2; choose torch-export"):
        deploy(folder, tmp_path / "model.onnx", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def onnx_is_there(folder: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a format is made from ONNX, that is not computed again."""
    monkeypatch.setattr(deploying, "_write_onnx", lambda _, file, *__, **___: shutil.copy(made, file))


@pytest.mark.parametrize("made", ["onnx"], indirect=True)
def test_int8_is_smaller_and_close(folder: Path, onnx_is_there: None) -> None:
    out, report = exported(folder, "onnx-int8")
    assert out.stat().st_size < 0.6 * (folder / "model.safetensors").stat().st_size
    assert 1e-5 < report.difference < 0.2 and report.limit is None
    assert load_exported(out).precision == "int8" and "no limit" in str(report)
    assert load_exported(out).config == load_model(folder).config


@pytest.mark.parametrize("made", ["onnx"], indirect=True)
def test_openvino_computes_the_same(folder: Path, onnx_is_there: None) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'vitpose[openvino]'")
    out, _ = exported(folder, "openvino")
    assert largest_difference(folder, out) < 1e-5
    assert load_exported(out).config == load_model(folder).config
    before = digest_of(out)
    weights = out.with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert digest_of(out) != before
    with pytest.raises(ValueError, match="not a whole OpenVINO model"):
        load_exported(out)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"\.bin is not there"):
        load_exported(out)
