"""How much a model's keypoints tremble: measured on short videos that are drawn for it, each time anew.

The same clips for every model and registry, so that there is nothing to keep and nothing to edit. Boxes
are the drawn people's own. Decides nothing: `gate` does.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from vitpose.inference import PosePredictor
from vitpose.people.scene import SeenPerson
from vitpose.people.video import ArchiveConfig, render_clip, sample_clip
from vitpose.skeletons.human import COCO_17

CLIPS = 8
"""One person each; in every second one in the suit whose colours tell left from right."""
FRAMES = 12
SEED = 2022


@torch.inference_mode()
def trembling(predictor: PosePredictor) -> float | None:
    """Acceleration error, as `vitpose.labels.motion` has it: percent of body size per squared frame.

    The mean length of the second difference, over three successive frames, of how far a keypoint is from
    the drawn one; body size is the square root of the person's area. None for a model of other keypoints
    than COCO's.
    """
    if predictor.skeleton.keypoints != COCO_17.keypoints:
        return None
    found: list[NDArray[np.float64]] = []
    for clip in _clips():
        boxes = [np.array([person.bbox_xywh for person in people]) for _, people in clip]
        poses = predictor.predict_crops((image, one) for (image, _), one in zip(clip, boxes, strict=True))
        off = np.array(
            [
                np.where(
                    person.visibility[:, None] > 0, pose.keypoints[0] - person.keypoints_image, np.nan
                )
                for pose, (_, (person,)) in zip(poses, clip, strict=True)
            ]
        )
        sizes = np.sqrt([person.mask.sum() for _, (person,) in clip])
        lengths = np.linalg.norm(np.diff(off, n=2, axis=0), axis=2) / sizes[1:-1, None]
        found.append(lengths[np.isfinite(lengths)])
    return 100 * float(np.concatenate(found).mean())


@cache
def _clips() -> list[list[tuple[NDArray[np.uint8], list[SeenPerson]]]]:
    """Frames with the one person in each."""
    clips = []
    for index in range(CLIPS):
        config = ArchiveConfig(
            image_wh=(160, 120), frames=FRAMES, max_people=1, empty_start_probability=0.0,
            difficulty=0.0, suit_probability=float(index % 2),
        )  # fmt: skip
        clip = sample_clip(SEED, index, config)
        clips.append(render_clip(np.random.default_rng((SEED, index, 1)), clip, config))
    return clips
