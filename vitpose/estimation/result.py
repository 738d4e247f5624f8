"""The poses of one picture, and the forms in which other programs take them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitpose.estimation.names import write_names
from vitpose.oks import rescore
from vitpose.skeletons.human import Skeleton
from vitpose.visualization import draw_poses

if TYPE_CHECKING:
    import pandas
    import supervision


@dataclass(frozen=True, kw_only=True, eq=False)
class PoseResult:
    """N people of a picture, K keypoints each.

    In pixels, x to the right, y down, (0, 0) the middle of the upper left pixel.
    """

    image: NDArray[np.uint8]
    """(H, W, 3) RGB, upright."""
    file_name: str | None
    """None for a picture that came as an array."""
    bboxes_xywh: NDArray[np.float64]
    """(N, 4)"""
    box_scores: NDArray[np.float32]
    """(N,) in 0..1; 1 for boxes that were given."""
    keypoints: NDArray[np.float64]
    """(N, K, 2)"""
    scores: NDArray[np.float32]
    """(N, K), the maxima of the heatmaps: about 0..1."""
    skeleton: Skeleton
    """Names, limbs and sigmas of the K keypoints."""

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def person_scores(self) -> NDArray[np.float64]:
        """(N,) box score times the mean of the keypoint scores above 0.2, by which people are ranked."""
        return np.asarray(rescore(self.scores, self.box_scores) if len(self) else np.zeros(0))

    def plot(
        self,
        *,
        threshold: float = 0.3,
        boxes: bool = True,
        line_width: float | None = None,
        names: bool = False,
    ) -> NDArray[np.uint8]:
        """The picture with its poses, an RGB array (H, W, 3).

        Args:
            threshold: keypoints that score less are rings, then nothing.
            boxes: draw them too.
            line_width: pixels; None for one that grows with the person.
            names: write the keypoints' names.
        """
        drawn = draw_poses(
            self.image,
            self.keypoints,
            self.scores,
            self.skeleton,
            threshold,
            bboxes_xywh=self.bboxes_xywh if boxes else None,
            line_width=line_width,
        )
        if names:
            write_names(drawn, self.keypoints, self.scores, self.skeleton, threshold)
        return drawn

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: file_name, width, height, skeleton, people.

        A person has bbox_xywh, bbox_score, score and keypoints, a mapping from name to [x, y, score].
        """
        names = self.skeleton.keypoints
        triples = self._triples()
        return {
            "file_name": self.file_name,
            "width": int(self.image.shape[1]),
            "height": int(self.image.shape[0]),
            "skeleton": self.skeleton.name,
            "people": [
                {
                    "bbox_xywh": self.bboxes_xywh[n].tolist(),
                    "bbox_score": float(self.box_scores[n]),
                    "score": float(self.person_scores[n]),
                    "keypoints": dict(zip(names, triples[n].tolist(), strict=True)),
                }
                for n in range(len(self))
            ],
        }

    def to_coco(self, image_id: int = 1, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO results, as `vitpose predict` writes them and evaluators read them."""
        triples = self._triples().reshape(len(self), 3 * self.skeleton.num_keypoints)
        return [
            {
                "image_id": image_id,
                "category_id": category_id,
                "bbox": np.round(self.bboxes_xywh[n], 2).tolist(),
                "bbox_score": round(float(self.box_scores[n]), 5),
                "keypoints": np.round(triples[n], 4).tolist(),
                "score": round(float(self.person_scores[n]), 5),
            }
            for n in range(len(self))
        ]

    def to_pandas(self) -> "pandas.DataFrame":
        """A row a person and keypoint: person (0..N-1), person_score, keypoint, x, y, score.

        Raises `ModuleNotFoundError` without pandas.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_pandas needs pandas: pip install pandas") from error
        joints = self.skeleton.num_keypoints
        points = self._triples().reshape(-1, 3)
        return pandas.DataFrame(
            {
                "person": np.repeat(np.arange(len(self)), joints),
                "person_score": np.repeat(self.person_scores, joints),
                "keypoint": list(self.skeleton.keypoints) * len(self),
                "x": points[:, 0],
                "y": points[:, 1],
                "score": points[:, 2],
            }
        )

    def to_supervision(self) -> "supervision.KeyPoints":
        """For supervision's annotators.

        Raises `ModuleNotFoundError` without supervision.
        """
        try:
            import supervision
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "to_supervision needs supervision: pip install supervision"
            ) from error
        if len(self) == 0:
            return supervision.KeyPoints.empty()
        fields = supervision.KeyPoints.__dataclass_fields__
        score = "keypoint_confidence" if "keypoint_confidence" in fields else "confidence"
        return supervision.KeyPoints(
            xy=self.keypoints.astype(np.float32),
            class_id=np.zeros(len(self), int),
            **{score: self.scores.astype(np.float32)},
        )

    def _triples(self) -> NDArray[np.float64]:
        """(N, K, 3) x, y, score."""
        return np.concatenate([self.keypoints, self.scores[..., None]], axis=-1)
