"""An archive of short videos of the built-in people, with the truth of every frame.

People walk or run through, stop and wave, cross one another, leave the frame and come back. Motion,
clothes and camera are as in the pictures (see `people.dataset`), but smooth in time. Video i depends
only on (seed, i): the same versions of the libraries write the same bytes, in any process.
"""

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vitpose.files import whole_folder, write_json
from vitpose.people import scene
from vitpose.people.background import grain
from vitpose.people.camera import Camera, look_at
from vitpose.people.motion import Walker, sample_walker
from vitpose.people.render import Light

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


_AVX2 = 11  # OpenCV's CV_CPU_AVX2, for which Python has no name


@dataclass(frozen=True, kw_only=True)
class ArchiveConfig:
    """What the videos are like."""

    image_wh: tuple[int, int] = (320, 240)
    """Even, as yuv420p needs."""
    frames: int = 60
    fps: int = 15
    max_people: int = 3
    empty_start_probability: float = 0.3
    """Share of videos that start with nobody in the frame, evenly spread over the archive."""
    difficulty: float = 0.3
    """Clutter and grain, 0..1."""
    suit_probability: float = 0.0
    """As in `PeopleConfig`."""
    crf: int = 20
    """Constant rate factor of x264: lower is better and larger."""

    def __post_init__(self) -> None:
        wide, high = self.image_wh
        if wide % 2 or high % 2 or not (64 <= wide <= 1024 and 64 <= high <= 1024):
            raise ValueError(f"image_wh must be even and 64 to 1024 a side, got {self.image_wh}")
        for name in ("frames", "fps", "max_people"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("empty_start_probability", "difficulty", "suit_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0..1, got {getattr(self, name)}")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf must be in 0..51, got {self.crf}")


def _sample_view(rng: np.random.Generator, config: ArchiveConfig) -> tuple[Camera, float]:
    """A camera on a stand, and how far from the middle the frame ends to the sides, in metres."""
    wide, high = config.image_wh
    focal = wide / (2 * np.tan(np.deg2rad(rng.uniform(38, 55)) / 2))
    target = np.array((0.0, rng.uniform(0.75, 0.95), 0.0))
    distance = focal * 1.75 / (rng.uniform(0.5, 0.8) * high)
    elevation = rng.uniform(0.0, 0.35)
    offset = distance * np.array((0.0, np.sin(elevation), np.cos(elevation)))
    camera = look_at(target + offset, target, focal, rng.normal(0, 0.02), config.image_wh)
    return camera, 0.5 * wide * distance / focal


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video before it is drawn."""

    camera: Camera
    light: Light
    walkers: tuple[Walker, ...]
    background: Image


def sample_clip(seed: int, index: int, config: ArchiveConfig) -> Clip:
    """Who walks where in video `index` of the archive of `seed`."""
    rng = np.random.default_rng((seed, index))
    duration = config.frames / config.fps
    camera, reach = _sample_view(rng, config)
    light = scene.sample_light(rng)
    share = config.empty_start_probability
    empty = int((index + 1) * share + 0.5) > int(index * share + 0.5)
    walkers = []
    count = int(rng.integers(1, config.max_people + 1))
    lanes = rng.permutation(count) - (count - 1) / 2  # nobody walks through another
    for k in range(count):
        steady = not empty and (k == 0 or rng.random() < 0.3)
        late = rng.uniform(0.15, 0.35) * duration if empty else rng.uniform(-1.5, 0.3 * duration)
        lane = 0.7 * lanes[k]
        walkers.append(
            sample_walker(rng, duration, reach, lane, float(late), steady, config.suit_probability)
        )
    return Clip(
        camera=camera,
        light=light,
        walkers=tuple(walkers),
        background=scene.sample_background(rng, camera, config.difficulty),
    )


def render_clip(
    rng: np.random.Generator, clip: Clip, config: ArchiveConfig
) -> list[tuple[Image, list[scene.SeenPerson]]]:
    """All frames of a video: (H, W, 3) RGB and who is seen; person k of the clip is actor k."""
    frames = []
    for number in range(config.frames):
        actors = [walker.at(number / config.fps) for walker in clip.walkers]
        image = clip.background.copy()
        people = scene.render(clip.camera, clip.light, actors, [], image)
        image = cv2.GaussianBlur(image, (3, 3), 0.5)  # type: ignore[assignment]
        frames.append((grain(rng, image, 1 + 4 * config.difficulty), people))
    return frames


def _encode(path: Path, images: list[Image], config: ArchiveConfig) -> None:
    """Writes an h264 mp4 of one frame per image."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=config.fps)
        stream.width, stream.height = config.image_wh
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(config.crf), "preset": "veryfast", "threads": "1"}
        if cv2.checkHardwareSupport(_AVX2):
            # x264's AVX-512 code turns equal frames into other bytes from one process to the next.
            stream.options |= {"x264-params": "asm=avx2"}
        stream.codec_context.thread_count = 1
        stream.time_base = Fraction(1, config.fps)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, config.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _truth(people: list[scene.SeenPerson]) -> list[dict[str, Any]]:
    return [
        {
            "track_id": person.actor + 1,
            "bbox_xywh": person.bbox_xywh.tolist(),
            "area": int(person.mask.sum()),
            "keypoints": np.column_stack(
                [
                    np.round(person.keypoints_image, 2) * (person.visibility > 0)[:, None],
                    person.visibility,
                ]
            ).tolist(),
        }
        for person in people
    ]


def write_people_archive(out: Path, *, count: int, seed: int, config: ArchiveConfig) -> None:
    """Write `count` videos, out/people_000.mp4 ..., and out/ground_truth.json.

    The truth has, per video, its size, rate and frames; per frame everyone with at least 80 visible
    pixels: `track_id` (from 1, the same person for the whole video, also after leaving the frame),
    `bbox_xywh` and `area` of the visible pixels, and `keypoints` (17, 3) with visibility as in
    `people.dataset`. An `out` that exists is replaced, once the new one is whole.

    Raises `ValueError` where `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    videos = {}
    with whole_folder(out) as folder:
        for index in range(count):
            clip = sample_clip(seed, index, config)
            frames = render_clip(np.random.default_rng((seed, index, 1)), clip, config)
            name = f"people_{index:03d}.mp4"
            _encode(folder / name, [image for image, _ in frames], config)
            videos[name] = {
                "width": config.image_wh[0],
                "height": config.image_wh[1],
                "fps": config.fps,
                "frames": [_truth(people) for _, people in frames],
            }
        document = {"skeleton": "coco", "seed": seed, "config": asdict(config), "videos": videos}
        write_json(folder / "ground_truth.json", document, indent=None)
