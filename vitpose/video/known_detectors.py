"""Detectors by a short name, fetched once: torchvision's, trained on COCO.

torchvision's code is under BSD-3-Clause and its files say no other licence; COCO's annotations are under
CC BY 4.0. A file's name ends in the first eight digits of its SHA-256, which are checked. Average
precision of boxes on COCO val2017 is torchvision's own figure.

    VITPOSE_TORCHVISION_ENDPOINT      a mirror of https://download.pytorch.org/models
"""

import os
from dataclasses import dataclass
from pathlib import Path

from vitpose.fetching import Say, cache_folder, fetch, to_stderr

SOURCE = "https://download.pytorch.org/models"
LICENCE = "BSD-3-Clause"


@dataclass(frozen=True, kw_only=True)
class KnownDetector:
    """A detector that can be fetched."""

    name: str
    network: str
    """torchvision's name."""
    file: str
    megabytes: float
    box_ap: float
    """On COCO val2017, of all classes."""

    @property
    def digest(self) -> str:
        """The beginning of the file's SHA-256."""
        return self.file.removesuffix(".pth").rpartition("-")[2]

    @property
    def path(self) -> Path:
        """Where its file is, or goes."""
        return cache_folder() / "detectors" / self.file

    @property
    def spec(self) -> str:
        """What `make_detector` takes, once it is fetched."""
        return f"torchvision:{self.network}:{self.path}"


KNOWN = (
    KnownDetector(
        name="fasterrcnn",
        network="fasterrcnn_mobilenet_v3_large_fpn",
        file="fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
        megabytes=74.2,
        box_ap=32.8,
    ),
    KnownDetector(
        name="ssdlite",
        network="ssdlite320_mobilenet_v3_large",
        file="ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
        megabytes=13.4,
        box_ap=21.3,
    ),
    KnownDetector(
        name="fasterrcnn-resnet50",
        network="fasterrcnn_resnet50_fpn_v2",
        file="fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        megabytes=167.1,
        box_ap=46.7,
    ),
)
"""The first is the default."""


def fetch_detector(known: KnownDetector, say: Say = to_stderr) -> str:
    """What `make_detector` takes for it; its file is fetched where it is not there.

    Raises as `fetch`: the message says where to put the file.
    """
    base = os.environ.get("VITPOSE_TORCHVISION_ENDPOINT", SOURCE).rstrip("/")
    fetch(f"{base}/{known.file}", known.path, digest=known.digest, licence=LICENCE, say=say)
    return known.spec


def detector_at(name: str | None, say: Say = to_stderr) -> str:
    """What `make_detector` takes, for a short name or None (the default); anything else is as it is."""
    if name is None:
        return fetch_detector(KNOWN[0], say)
    known = next((one for one in KNOWN if one.name == name), None)
    return name if known is None else fetch_detector(known, say)
