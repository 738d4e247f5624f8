"""Images and boxes in, keypoints out.

`PosePredictor` cuts each box out of the original image (UDP, one bilinear resampling), runs the model
on batches that are filled across images, decodes the heatmaps and maps the keypoints back. Knows
neither training nor metrics; `annotation_inference` asks it about every box of a COCO file.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vitpose.geometry import (
    PADDING,
    checked_boxes,
    crop_matrix,
    heatmap_to_image,
    padded_region,
    warp_image,
)
from vitpose.heatmap import BLUR_KERNEL, blur_sigma_of, decode, flip_back
from vitpose.models.pose import HeatmapModel
from vitpose.pixels import batch_to_model_input
from vitpose.skeletons.human import Skeleton

_LONGEST_SIDE = 32766  # cv2.warpAffine addresses pixels with 16 bits

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Poses:
    """Keypoints of N boxes of one image."""

    keypoints: NDArray[np.float64]
    """(N, K, 2) image pixels; a keypoint without any response has score <= 0."""
    scores: NDArray[np.float32]
    """(N, K), the maxima of the heatmaps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionProtocol:
    """The rules by which a `PosePredictor` works, and its record: `dataclasses.asdict` gives plain JSON.

    The input's size is the model's: figures of models of two sizes are by one protocol.
    """

    padding: float = PADDING
    """The region cut out is this much larger than the box."""
    warp: str = field(default="udp", init=False)
    flip_test: bool = False
    """Average the heatmaps of each crop and of its mirror image, as published."""
    flip_shift: int = field(default=0, init=False)
    keypoint_score: str = field(default="maximum before the blur", init=False)
    decode: str = field(default="dark", init=False)
    blur_kernel: int = BLUR_KERNEL
    """Odd side of the blur before the Newton step; 11 is published for 64 x 48 heatmaps."""
    blur_sigma: float = blur_sigma_of(BLUR_KERNEL)
    blur_border: str = field(default="reflect-101", init=False)
    precision: str = "float32"
    """Of the model's arithmetic."""

    def __post_init__(self) -> None:
        if not 0 < self.padding < float("inf"):
            raise ValueError(f"padding must be a factor > 0, such as {PADDING}, got {self.padding}")


@dataclass(kw_only=True, slots=True)
class _Pending:
    """One image whose boxes are not all predicted yet."""

    centers: NDArray[np.float64]
    extents: NDArray[np.float64]
    poses: Poses
    missing: int


class PosePredictor:
    """A model ready to predict.

    Args:
        model: moved to `device` and set to eval mode; an exported one stays on the CPU.
        flip_test: see `PredictionProtocol`; all of its rules that are set here are in `protocol`.
        batch_size: crops a forward pass at most. Default: 32 on a GPU, 8 on a CPU, which is slower
            with larger ones.
        dtype: torch.bfloat16 or torch.float16 to compute under autocast, None for the weights' own.
        device: None for where the model is.
        head: of a model with several, by its skeleton's name or its number.
        padding, blur_kernel: see `PredictionProtocol`.
        blur_sigma: None for what OpenCV takes for the kernel, 2.0 for 11.
        fixed_shape: fill the last batch up with copies, so that every forward pass has the same
            shape: a compiled model is compiled once, and a crop's result does not depend on what
            it shares a batch with (without, to rounding). Default: on a GPU, where it costs little.
    """

    def __init__(
        self,
        model: HeatmapModel,
        *,
        flip_test: bool = False,
        batch_size: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        head: int | str = 0,
        padding: float = PADDING,
        blur_kernel: int = BLUR_KERNEL,
        blur_sigma: float | None = None,
        fixed_shape: bool | None = None,
    ) -> None:
        self.head = model.config.head_index(head)
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if dtype not in (None, torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"dtype must be float32, bfloat16, float16 or None, got {dtype}")
        self.model = model.eval() if device is None else model.to(device).eval()
        parameter = next(model.parameters(), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device
        self._weights = torch.float32 if parameter is None else parameter.dtype
        on_cpu = self.device.type == "cpu"
        self.batch_size = batch_size or (8 if on_cpu else 32)
        self.dtype = None if dtype == torch.float32 else dtype
        usual = blur_sigma_of(blur_kernel)
        self.protocol = PredictionProtocol(
            padding=float(padding),
            flip_test=flip_test,
            blur_kernel=blur_kernel,
            blur_sigma=usual if blur_sigma is None else float(blur_sigma),
            precision=model.precision if self.dtype is None else str(dtype).removeprefix("torch."),
        )
        self.fixed_shape = not on_cpu if fixed_shape is None else fixed_shape
        self.skeleton: Skeleton = model.config.skeletons[self.head]
        height, width = model.config.image_hw
        self.crop_wh = (int(width), int(height))
        self.seconds = {"crop": 0.0, "forward": 0.0, "heatmaps": 0.0}
        """Spent so far on crops from images, on the model, on keypoints from its maps."""

    def __call__(self, image: Image, bboxes_xywh: ArrayLike) -> Poses:
        """Keypoints of the boxes of one image.

        Args:
            image: RGB uint8 (H, W, 3).
            bboxes_xywh: (N, 4) pixels; may reach over the image's edge, where the crop is black.

        Raises:
            ValueError: what is not such an image, or a box that is not finite or has no size.
        """
        return self.predict_crops([(image, bboxes_xywh)])[0]

    def predict_crops(self, items: Iterable[tuple[Image, ArrayLike]]) -> list[Poses]:
        """Keypoints of the boxes of many images, in the order of the images."""
        return list(self.stream(items))

    def stream(self, items: Iterable[tuple[Image, ArrayLike]]) -> Iterator[Poses]:
        """`predict_crops` for any number of images: one batch of crops is held, and no image."""
        width, height = self.crop_wh
        crops = np.empty((self.batch_size, height, width, 3), np.uint8)
        filled: list[tuple[_Pending, int]] = []
        waiting: deque[_Pending] = deque()
        for image, bboxes_xywh in items:
            image = _checked_image(image)
            bboxes = checked_boxes(bboxes_xywh)
            pending = self._pending(bboxes)
            waiting.append(pending)
            for n in range(len(bboxes)):
                started = perf_counter()
                matrix = crop_matrix(pending.centers[n], pending.extents[n], self.crop_wh)
                warp_image(image, matrix, self.crop_wh, out=crops[len(filled)])
                self.seconds["crop"] += perf_counter() - started
                filled.append((pending, n))
                if len(filled) == self.batch_size:
                    self._predict(crops, filled)
                    filled = []
            while waiting and waiting[0].missing == 0:
                yield waiting.popleft().poses
        if filled:
            self._predict(crops, filled)
        for pending in waiting:
            yield pending.poses

    @torch.inference_mode()
    def heatmaps(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised crops to (B, K, H/4, W/4) float32, averaged over the flip test."""
        images = images.to(self.device, self._weights, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            heatmaps = self.model(images, head=self.head)
            if not self.protocol.flip_test:
                return heatmaps.float()
            mirrored = self.model(images.flip(-1), head=self.head)
        return (heatmaps.float() + flip_back(mirrored.float(), self.skeleton.flip_indices)) * 0.5

    def _pending(self, bboxes: NDArray[np.float64]) -> _Pending:
        centers, extents = padded_region(bboxes, self.crop_wh, self.protocol.padding)
        shape = (len(bboxes), self.skeleton.num_keypoints)
        poses = Poses(keypoints=np.empty((*shape, 2)), scores=np.empty(shape, np.float32))
        return _Pending(centers=centers, extents=extents, poses=poses, missing=len(bboxes))

    def _predict(self, crops: NDArray[np.uint8], filled: Sequence[tuple[_Pending, int]]) -> None:
        """Run the first `len(filled)` crops and store each one's keypoints where it came from."""
        count = len(filled)
        if self.fixed_shape:
            crops[count:] = crops[0]
        started = perf_counter()
        pixels = torch.from_numpy(crops if self.fixed_shape else crops[:count])
        maps = self.heatmaps(batch_to_model_input(pixels, self.device))[:count].cpu().numpy()
        done = perf_counter()
        self.seconds["forward"] += done - started
        rules = self.protocol
        keypoints_heatmap, scores = decode(maps, rules.blur_kernel, rules.blur_sigma)
        keypoints = heatmap_to_image(
            keypoints_heatmap,
            np.stack([pending.centers[n] for pending, n in filled]),
            np.stack([pending.extents[n] for pending, n in filled]),
            (maps.shape[3], maps.shape[2]),
        )
        for i, (pending, n) in enumerate(filled):
            pending.poses.keypoints[n] = keypoints[i]
            pending.poses.scores[n] = scores[i]
            pending.missing -= 1
        self.seconds["heatmaps"] += perf_counter() - done


def _checked_image(image: Image) -> Image:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"image must be a uint8 array (H, W, 3), RGB, got {kind}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must have shape (H, W, 3), RGB, got {image.shape}")
    if max(image.shape[:2]) > _LONGEST_SIDE:
        raise ValueError(
            f"image of {image.shape[1]} x {image.shape[0]} pixels; the longest side may be "
            f"{_LONGEST_SIDE}: scale it or cut it into tiles"
        )
    return np.ascontiguousarray(image)  # OpenCV takes no negative strides, as in bgr[..., ::-1]
