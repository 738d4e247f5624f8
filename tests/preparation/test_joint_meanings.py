"""Do joints of the same name mean the same place? Measured on upright people of real annotations.

The shoulders' middle and the knees' middle make an axis; 0 is at the shoulders, 1 at the knees.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import loadmat

from vitpose.skeletons.human import COCO_17, CROWDPOSE_14, LSP_14, MPII_16, Skeleton

FILES = {
    "coco": (COCO_17, "formats/coco/person_keypoints_val2017_538images.json"),
    "crowdpose": (CROWDPOSE_14, "formats/crowdpose/crowdpose_val.json"),
    "lsp": (LSP_14, "lspet/train.json"),
    "mpii": (MPII_16, "eval/mpii_val_gt_and_predictions.mat"),
}


def joints_of(path: Path) -> NDArray[np.float64]:
    """(N, K, 3) x, y and whether it is labelled."""
    if path.suffix == ".mat":
        truth = loadmat(path)
        labelled = 1 - truth["jnt_missing"].astype(float)
        return np.concatenate([truth["pos_gt_src"], labelled[:, None]], axis=1).transpose(2, 0, 1)
    people = json.loads(path.read_text())["annotations"]
    kept = [one["keypoints"] for one in people if one["num_keypoints"] and not one["iscrowd"]]
    return np.array(kept, float).reshape(len(kept), -1, 3)


def places(skeleton: Skeleton, people: NDArray[np.float64]) -> dict[str, float]:
    """Median place of each joint on the axis, of people who stand upright and face the camera."""

    def middle(*names: str) -> NDArray[np.float64]:
        return people[:, [skeleton.keypoints.index(name) for name in names]].mean(1)

    shoulders, hips, knees = (middle(f"left_{n}", f"right_{n}") for n in ("shoulder", "hip", "knee"))
    axis = (knees - shoulders)[:, :2]
    length = np.maximum(np.linalg.norm(axis, axis=1), 1e-6)
    unit = axis / length[:, None]
    across = np.abs(((hips - shoulders)[:, :2] * unit[:, ::-1] * (1, -1)).sum(1)) / length
    sides = people[:, [skeleton.keypoints.index(f"{side}_shoulder") for side in ("left", "right")]]
    width = np.linalg.norm(sides[:, 0, :2] - sides[:, 1, :2], axis=1) / length
    upright = (length > 60) & (unit[:, 1] > 0.9) & (across < 0.08) & (width > 0.3)
    labelled = np.all([one[:, 2] == one[:, 2].max() for one in (shoulders, hips, knees)], axis=0)
    found = {}
    for k, name in enumerate((*skeleton.keypoints, "hip")):
        point = hips if name == "hip" else people[:, k]
        along = ((point - shoulders)[:, :2] * unit).sum(1) / length
        good = upright & labelled & (point[:, 2] > 0)
        if good.sum() > 50:
            found[name] = float(np.median(along[good]))
    return found


@pytest.fixture(scope="module")
def measured(shared_data: Path) -> dict[str, dict[str, float]]:
    return {
        name: places(skeleton, joints_of(shared_data / file)) for name, (skeleton, file) in FILES.items()
    }


def test_hips_lie_at_the_same_height_in_every_data_set(measured) -> None:
    heights = [found["hip"] for found in measured.values()]
    assert len(heights) == 4 and max(heights) - min(heights) < 0.04


def test_mpiis_upper_neck_is_the_neck_and_its_thorax_is_not(measured) -> None:
    neck = measured["crowdpose"]["neck"]
    assert abs(measured["mpii"]["upper_neck"] - neck) < 0.02 < abs(measured["mpii"]["thorax"] - neck)
    assert abs(measured["lsp"]["neck"] - neck) < 0.05


def test_heads_end_at_the_same_height(measured) -> None:
    tops = [measured["crowdpose"]["head"], measured["mpii"]["head_top"], measured["lsp"]["head_top"]]
    assert max(tops) - min(tops) < 0.1
