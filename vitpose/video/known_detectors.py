"""Detectors by a short name, trained on COCO and fetched once: torchvision's, and YOLOX of its release.

torchvision's code is under BSD-3-Clause, YOLOX's under Apache-2.0, and neither says another licence for
its files; COCO's annotations are under CC BY 4.0. Average precision of boxes on COCO val2017 is the
publishers' own figure. torchvision puts the first eight digits of a file's SHA-256 into its name. YOLOX
publishes none: those here are what several projects that pin the release's files agree on.

    VITPOSE_TORCHVISION_ENDPOINT      a mirror of https://download.pytorch.org/models
    VITPOSE_YOLOX_ENDPOINT            one of YOLOX's release 0.1.1rc0
"""

import os
from dataclasses import dataclass
from pathlib import Path

from vitpose.fetching import Say, cache_folder, fetch, to_stderr


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """Who has files for everybody."""

    address: str
    variable: str
    """Of the environment, for a mirror."""
    licence: str


TORCHVISION = Publisher(
    address="https://download.pytorch.org/models",
    variable="VITPOSE_TORCHVISION_ENDPOINT",
    licence="BSD-3-Clause",
)
YOLOX = Publisher(
    address="https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0",
    variable="VITPOSE_YOLOX_ENDPOINT",
    licence="Apache-2.0",
)


@dataclass(frozen=True, kw_only=True)
class KnownDetector:
    """A detector that can be fetched."""

    name: str
    publisher: Publisher
    file: str
    digest: str
    """Of the file: its SHA-256, or how it begins."""
    megabytes: float
    box_ap: float
    """On COCO val2017, of all classes."""
    network: str = ""
    """torchvision's name; "" for a file that is a network by itself (ONNX)."""

    @property
    def path(self) -> Path:
        """Where its file is, or goes."""
        return cache_folder() / "detectors" / self.file

    @property
    def spec(self) -> str:
        """What `make_detector` takes, once it is fetched."""
        return f"torchvision:{self.network}:{self.path}" if self.network else f"onnx:{self.path}"


KNOWN = (
    KnownDetector(
        name="fasterrcnn",
        publisher=TORCHVISION,
        network="fasterrcnn_mobilenet_v3_large_fpn",
        file="fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
        digest="fb6a3cc7",
        megabytes=74.2,
        box_ap=32.8,
    ),
    KnownDetector(
        name="ssdlite",
        publisher=TORCHVISION,
        network="ssdlite320_mobilenet_v3_large",
        file="ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
        digest="a79551df",
        megabytes=13.4,
        box_ap=21.3,
    ),
    KnownDetector(
        name="fasterrcnn-resnet50",
        publisher=TORCHVISION,
        network="fasterrcnn_resnet50_fpn_v2",
        file="fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        digest="dd69338a",
        megabytes=167.1,
        box_ap=46.7,
    ),
    KnownDetector(
        name="yolox-nano",
        publisher=YOLOX,
        file="yolox_nano.onnx",
        digest="c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d",
        megabytes=3.7,
        box_ap=25.8,
    ),
    KnownDetector(
        name="yolox-tiny",
        publisher=YOLOX,
        file="yolox_tiny.onnx",
        digest="427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7",
        megabytes=20.2,
        box_ap=32.8,
    ),
    KnownDetector(
        name="yolox-s",
        publisher=YOLOX,
        file="yolox_s.onnx",
        digest="c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063",
        megabytes=35.9,
        box_ap=40.5,
    ),
)
"""The first is the default."""


def fetch_detector(known: KnownDetector, say: Say = to_stderr) -> str:
    """What `make_detector` takes for it; its file is fetched where it is not there.

    Raises as `fetch`: the message says where to put the file.
    """
    publisher = known.publisher
    base = os.environ.get(publisher.variable, publisher.address).rstrip("/")
    url = f"{base}/{known.file}"
    fetch(url, known.path, digest=known.digest, licence=publisher.licence, say=say)
    return known.spec


def detector_at(name: str | None, say: Say = to_stderr) -> str:
    """What `make_detector` takes, for a short name or None (the default); anything else is as it is."""
    if name is None:
        return fetch_detector(KNOWN[0], say)
    known = next((one for one in KNOWN if one.name == name), None)
    return name if known is None else fetch_detector(known, say)
