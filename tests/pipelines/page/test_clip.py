"""The labelled clip: what the labels say, drawn into the right frames, in a file a browser plays."""

import io

import av
import numpy as np
import pyarrow as pa
import pytest

from pipelines.page.clip import best_clip, render_clip
from vitpose.labels.schema import MANIFEST, NO_PERSON, PERSON, SCHEMA, read_labels, write_json, write_rows
from vitpose.skeletons.human import COCO_17
from vitpose.video.writing import write_video

GREY, FRAMES = 90, 12


def pose(frame: int) -> list[float]:
    """A figure that walks right."""
    spread = np.linspace(0, 1, 17)
    return np.stack([40 + 8 * frame + 30 * np.cos(9 * spread), 20 + 80 * spread], -1).ravel().tolist()


def rows(video: str, people: int) -> pa.Table:
    """Nobody in the first two frames, `people` in each of the others."""
    columns = {field.name: [] for field in SCHEMA}
    for frame in range(FRAMES):
        for instance in range(people) if frame >= 2 else [None]:
            row = {"video": video, "frame_index": frame, "pts": frame, "time_s": frame / 10}
            row |= {"status": NO_PERSON} if instance is None else {
                "status": PERSON, "instance": instance, "track_id": instance,
                "bbox_xywh": [0, 0, 9, 9], "bbox_score": 1.0,
                "keypoints": pose(frame), "scores": [0.9] * 17,
            }  # fmt: skip
            for name, values in columns.items():
                values.append(row.get(name))
    return pa.Table.from_pydict(columns, schema=SCHEMA)


@pytest.fixture
def labelled(tmp_path):
    """An archive of two grey videos and its labels: nobody.mp4 and walker.mp4."""
    entries = []
    for name, people in (("nobody.mp4", 0), ("walker.mp4", 1)):
        grey = np.full((121, 201, 3), GREY, np.uint8)
        write_video(tmp_path / "archive" / name, [grey] * FRAMES, 10)
        file = f"videos/{name}.parquet"
        (tmp_path / "labels" / "videos").mkdir(parents=True, exist_ok=True)
        table = rows(name, people)
        write_rows(tmp_path / "labels" / file, table, {"skeleton": COCO_17.to_dict()})
        persons = people * (FRAMES - 2)
        entries.append({"video": name, "file": file, "frames": FRAMES, "persons": persons, "fps": 10.0})
    write_json(tmp_path / "labels" / MANIFEST, {"videos": entries, "quarantined": []})
    return tmp_path


def decoded(mp4: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(mp4)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p", "browsers play no other"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


def drawn(image: np.ndarray) -> np.ndarray:
    return np.abs(image[:120, :200].astype(int) - GREY).max(axis=-1) > 60


def test_labels_are_drawn_in_their_own_frames(labelled):
    table = read_labels(labelled / "labels", "walker.mp4")
    frames = decoded(render_clip(labelled / "archive" / "walker.mp4", table, COCO_17))
    assert len(frames) == FRAMES
    assert not drawn(frames[0]).any() and not drawn(frames[1]).any()
    middles = [np.nonzero(drawn(image))[1].mean() for image in frames[2:]]
    steps = np.diff(middles)
    assert (steps > 4).all() and abs(steps.mean() - 8) < 2, "8 pixels to the right in each frame"


def test_clip_is_short_and_small(labelled):
    table = read_labels(labelled / "labels", "walker.mp4")
    mp4 = render_clip(labelled / "archive" / "walker.mp4", table, COCO_17, seconds=0.5, longest=100)
    frames = decoded(mp4)
    assert len(frames) == 5
    assert frames[0].shape == (60, 100, 3)


def test_best_clip_is_of_the_video_with_most_persons(labelled):
    clip = best_clip(labelled / "labels", labelled / "archive")
    assert clip is not None
    assert (clip.video, clip.frames, clip.seconds) == ("walker.mp4", FRAMES, 1.2)
    assert len(decoded(clip.mp4)) == FRAMES


def test_no_video_of_the_labels_is_no_clip(labelled):
    assert best_clip(labelled / "labels", labelled / "labels") is None
