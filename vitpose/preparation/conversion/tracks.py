"""DeepLabCut and SLEAP, through sleap-io (the extra `formats`): frames of videos, or pictures in folders.

What people labelled is taken; of a frame where nobody did, what a model predicted is not. The frames of
videos are written as pictures, since training reads those.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vitpose.files import whole_file
from vitpose.preparation.conversion.mapping import Point, mapping, person, picture_name
from vitpose.preparation.readers.coco_parts import displayed_size


def tracks_as_coco(source: Path, images: Path) -> dict[str, Any]:
    """A .slp file, or DeepLabCut's CollectedData .csv, as a COCO mapping of pictures below `images`.

    Frames of videos become `images`/<video>/<frame>.png unless they are there. Images have `video` and
    `frame`, people `track_id` where the file has identities. Keypoints of DeepLabCut lie with their
    corner at the picture's corner, those of a COCO file with the centre of the first pixel: half a
    pixel, which is less than what people label by, is left.

    Raises:
        FileNotFoundError: no such file, or a video that is not where the file says.
        ValueError: nobody is labelled, sleap-io is missing or cannot read the file.
    """
    if not source.is_file():
        raise FileNotFoundError(f"annotation file {source} is not there; name the right path")
    if source.suffix == ".h5" and source.name.startswith("CollectedData"):
        raise ValueError(
            f"{source}: an .h5 of DeepLabCut is not read, since it may hold code; give "
            f"{source.stem}.csv, which DeepLabCut keeps beside it with the same table"
        )
    try:
        import sleap_io
    except ImportError:
        raise ValueError(
            f"{source}: files of SLEAP and DeepLabCut are read by sleap-io, which is not installed; "
            "pip install 'vitpose[formats]'"
        ) from None
    try:
        labels = sleap_io.load_file(str(source))
    except Exception as error:  # whatever its parsers meet
        raise ValueError(f"{source} is not read by sleap-io: {str(error)[:200]}") from None
    entries: dict[str, dict[str, Any]] = {}
    people = []
    for frame in labels.labeled_frames:
        for instance in frame.user_instances:
            points = _points(instance)
            if any(v for _, _, v in points):
                entry = _entry(entries, frame, images)
                tracked = {"track_id": labels.tracks.index(instance.track)} if instance.track else {}
                people.append(person(entry["id"], points, None, **tracked))
    if not people:
        raise ValueError(f"{source}: nobody is labelled by hand; correct some of the predictions first")
    skeleton = labels.skeletons[0]
    return mapping(
        skeleton.node_names,
        entries.values(),
        people,
        category=skeleton.name or "animal",
        limbs=skeleton.edge_inds,
        flip_pairs=[sorted(pair) for pair in skeleton.symmetry_inds] or None,
    )


def _points(instance: Any) -> list[Point]:
    places = np.asarray(instance.numpy(), np.float64)[:, :2]
    return [(float(x), float(y), 2) if np.isfinite(x + y) else (0.0, 0.0, 0) for x, y in places]


def _entry(entries: dict[str, dict[str, Any]], frame: Any, images: Path) -> dict[str, Any]:
    """The image entry of a labelled frame; its picture is written where it is a video's."""
    video, number = frame.video, int(frame.frame_idx)
    if isinstance(video.filename, list):
        stated = str(video.filename[number])
        name, origin = picture_name(stated, images), Path(stated.replace("\\", "/")).parent.name
    else:
        origin = Path(str(video.filename).replace("\\", "/")).stem
        name = f"{origin}/{number:06d}.png"
        if not (images / name).is_file():
            _write_frame(frame, images / name)
    if name not in entries:
        entry: dict[str, Any] = {"id": len(entries) + 1, "file_name": name}
        size = displayed_size(images / name)
        if size is not None:
            entry.update(width=size[0], height=size[1])
        entries[name] = {**entry, "video": origin, "frame": number}
    return entries[name]


def _write_frame(frame: Any, path: Path) -> None:
    try:
        pixels = np.asarray(frame.image)
    except Exception as error:  # whatever a missing or broken video gives
        raise FileNotFoundError(
            f"frame {frame.frame_idx} of {frame.video.filename} is not to be had ({str(error)[:120]}); "
            f"put the "
            "video where the file says, or export a package with its pictures (.pkg.slp)"
        ) from None
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    with whole_file(path) as beside:
        beside.write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
