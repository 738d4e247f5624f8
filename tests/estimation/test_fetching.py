"""What is fetched is whole, is what was published, and is fetched once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from tests.estimation.conftest import Files
from tests.exchange.foreign import official
from vitpose.exchange.fetching import model_at
from vitpose.fetching import fetch
from vitpose.files import file_digest
from vitpose.models.sizes import SIZES
from vitpose.models.weights import load_model
from vitpose.pixels import decode_rgb
from vitpose.video import known_detectors
from vitpose.video.detectors import make_detector
from vitpose.video.known_detectors import KNOWN, detector_at, fetch_detector


def repository(folder: Path) -> Path:
    """Transformers' ViTPose, tiny, as its hub lays it out."""
    place = folder / "someone" / "vitpose-tiny" / "resolve" / "main"
    tiny = SIZES["tiny"]
    backbone = transformers.VitPoseBackboneConfig(
        image_size=(64, 48),
        hidden_size=tiny.embed_dim,
        num_hidden_layers=tiny.depth,
        num_attention_heads=tiny.num_heads,
        out_indices=[tiny.depth],
    )
    config = transformers.VitPoseConfig(backbone_config=backbone, use_simple_decoder=True, num_labels=17)
    torch.manual_seed(0)
    transformers.VitPoseForPoseEstimation(config).save_pretrained(place)
    (place / "README.md").write_text("---\nlicense: apache-2.0\nlibrary_name: x\n---\nlicense: no\n")
    return place


def test_a_model_of_a_repository_is_fetched_and_imported_once(served: Files, tmp_path: Path) -> None:
    place = repository(served.folder)
    said: list[str] = []
    folder = model_at("hf:someone/vitpose-tiny", said.append)
    assert load_model(folder).config.image_hw == (64, 48)
    told = "\n".join(said)
    assert file_digest(place / "model.safetensors") in told and "licence apache-2.0" in told
    served.stop()  # from now on there is no network
    assert model_at("hf:someone/vitpose-tiny", said.append) == folder


def test_a_checkpoint_of_an_address_is_imported(served: Files) -> None:
    torch.save({"state_dict": official()}, served.folder / "vitpose.pth")
    said: list[str] = []
    folder = model_at(f"{served.address}/vitpose.pth", said.append)
    assert load_model(folder).config.skeletons[0].num_keypoints == 17
    assert file_digest(served.folder / "vitpose.pth") in "\n".join(said)


def test_without_a_network_the_message_says_where_to_put_what(served: Files, tmp_path: Path) -> None:
    place = repository(served.folder)
    served.stop()
    with pytest.raises(FileNotFoundError, match="put the file at .*config.json") as error:
        model_at("hf:someone/vitpose-tiny", lambda line: None)
    files = Path(str(error.value).rpartition("put the file at ")[2]).parent
    assert files.is_relative_to(tmp_path / "cache") and not files.exists()
    files.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):  # what the message asks for is enough
        (files / name).write_bytes((place / name).read_bytes())
    assert load_model(model_at("hf:someone/vitpose-tiny", lambda line: None))


def test_another_file_than_the_published_one_is_not_kept(served: Files) -> None:
    (served.folder / KNOWN[0].file).write_bytes(b"something else")
    with pytest.raises(ValueError, match="begins with fb6a3cc7"):
        detector_at(None, lambda line: None)
    assert not KNOWN[0].path.exists() and not list(KNOWN[0].path.parent.iterdir())


def test_a_fetched_detector_detects(served: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model(KNOWN[1].network, weights=None, weights_backbone=None)
    torch.save(network.state_dict(), served.folder / "weights.pth")
    name = f"ssdlite-{file_digest(served.folder / 'weights.pth')[:8]}.pth"
    (served.folder / "weights.pth").rename(served.folder / name)
    known = replace(KNOWN[1], file=name, digest=name.removesuffix(".pth")[-8:])
    monkeypatch.setattr(known_detectors, "KNOWN", (known,))
    spec = detector_at("ssdlite", lambda line: None)
    assert spec == detector_at(None) == fetch_detector(known)
    assert served.asked.count(f"/{name}") == 1
    boxes = make_detector(spec)(torch.zeros(64, 64, 3, dtype=torch.uint8).numpy())
    assert boxes.bboxes_xywh.shape[1] == 4
    assert detector_at("hog") == "hog"


def test_known_detectors_are_torchvisions_own() -> None:
    from torchvision.models import get_model_weights

    for known in KNOWN[:3]:
        weights = get_model_weights(known.network).DEFAULT
        assert weights.url == f"{known_detectors.TORCHVISION.address}/{known.file}"
        assert weights.meta["_metrics"]["COCO-val2017"]["box_map"] == known.box_ap
        assert f"-{known.digest}.pth" in known.file and len(known.digest) == 8


def test_yolox_is_pinned_by_its_whole_digest_and_finds_people(
    served: Files, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yolox = [known for known in KNOWN if known.publisher is known_detectors.YOLOX]
    assert [one.name for one in yolox] == ["yolox-nano", "yolox-tiny", "yolox-s"]
    assert all(len(bytes.fromhex(one.digest)) == 32 for one in yolox)
    network = (shared_data / "models/yolox_nano_416x416.onnx").read_bytes()
    (served.folder / "yolox_nano.onnx").write_bytes(network)
    with pytest.raises(ValueError, match="begins with c789161e"):  # exported anew: another file
        detector_at("yolox-nano", lambda line: None)
    known = replace(yolox[0], digest=file_digest(served.folder / "yolox_nano.onnx"))
    monkeypatch.setattr(known_detectors, "KNOWN", (known,))
    photo = decode_rgb(next(iter(sorted((shared_data / "coco_mini").rglob("*.jpg")))).read_bytes())
    assert make_detector(detector_at("yolox-nano", lambda line: None))(photo).above(0.5).scores.size


def test_a_connection_that_breaks_leaves_nothing(served: Files, tmp_path: Path) -> None:
    import socket
    import threading

    listening = socket.create_server(("127.0.0.1", 0))

    def half() -> None:
        connection, _ = listening.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        connection.close()

    threading.Thread(target=half, daemon=True).start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/x.pth"
    with pytest.raises(FileNotFoundError, match="broke off|cannot be fetched"):
        fetch(url, tmp_path / "cache" / "x.pth", say=lambda line: None)
    assert not (tmp_path / "cache" / "x.pth").exists()
    assert list((tmp_path / "cache").iterdir()) == []
    listening.close()


def test_a_cache_that_cannot_be_written_is_said_with_the_remedy(served: Files, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (served.folder / "x.pth").touch()
    with pytest.raises(OSError, match="cannot be written .*; VITPOSE_CACHE names another"):
        fetch(f"{served.address}/x.pth", tmp_path / "file" / "x.pth", say=lambda line: None)


@pytest.mark.parametrize("address", ["hf:only-a-name", "hf:../../etc", "https://host.example"])
def test_an_address_of_no_form_is_refused(served: Files, address: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        model_at(address, lambda line: None)
    assert served.asked == []
