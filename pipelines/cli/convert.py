"""Commands that make data sets readable: data convert, data split."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["coco", "yolo", "label-studio", "cvat", "sleap", "deeplabcut"]


def convert(
    source: Annotated[Path, typer.Argument(help="An export: a file, or YOLO's folder or data.yaml.")],
    out: Annotated[Path, typer.Option(metavar="JSON", help="The COCO file to write.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The images; default: the folder of SOURCE.")
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option("--from", help="The tool; default: told by the file.")
    ] = None,
    keypoints: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C", help="Names in order, where the export has none (YOLO, Label Studio)."
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="NAME", help="YOLO: only train, val or test of data.yaml.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(metavar="NAME", help="COCO: only this one of several categories.")
    ] = None,
) -> None:
    """Convert what an annotation tool exported to one COCO file, and say how many people it has.

    COCO files are mended too: boxes from keypoints, paths of another machine, visibility. Exit status 1
    where nobody can be used.

    Example: vitpose data convert export.xml --images frames --out coco.json
    """
    from vitpose.files import write_json
    from vitpose.preparation.readers.coco import people_from_coco
    from vitpose.preparation.validation import rejected_counts

    found = kind or _kind_of(source)
    root = images or (source if source.is_dir() else source.parent)
    if not root.is_dir() and found not in ("sleap", "deeplabcut"):
        raise FileNotFoundError(f"image folder {root} is not there; name it with --images")
    root.mkdir(parents=True, exist_ok=True)
    names = [name.strip() for name in keypoints.split(",")] if keypoints else []
    content = _read(found, source, root, names, part, category)
    write_json(out, content, indent=None)
    people = people_from_coco(content, out, root, out.stem)
    typer.echo(
        f"{out}: {len(people.rows)} people in {len(content['images'])} images of {root}, from {found}"
    )
    typer.echo(f"keypoints: {', '.join(people.skeleton.keypoints)}")
    for reason, count in rejected_counts(people.rejected).items():
        typer.echo(f"not usable: {count:6d}  {reason}")
    if not people.rows:
        typer.echo("nobody can be used; name the right --images, or look at the export", err=True)
        raise typer.Exit(1)


def split(
    annotations: Annotated[Path, typer.Argument(help="A COCO file.")],
    by: Annotated[
        Literal["image", "video", "folder"], typer.Option(help="What stays together, with its people.")
    ],
    val: Annotated[float, typer.Option(metavar="SHARE", help="Of the people, to hold out.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Another number holds out others.")] = 0,
) -> None:
    """Divide a COCO file in two beside it: NAME-train.json and NAME-val.json.

    No person who has an identity (person_id, or track_id in a video) is on both sides.

    Example: vitpose data split coco.json --val 0.1 --by video
    """
    from vitpose.files import write_json
    from vitpose.preparation.readers.coco_file import load_coco
    from vitpose.preparation.splitting import split as split_content

    for name, part in zip(
        ("train", "val"), split_content(load_coco(annotations), val, by, seed), strict=True
    ):
        path = annotations.with_name(f"{annotations.stem}-{name}.json")
        write_json(path, part, indent=None)
        typer.echo(f"{path}: {len(part['annotations'])} people in {len(part['images'])} images")


def _kind_of(source: Path) -> Kind:
    """By the file's name, and by the first sign of a JSON file."""
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there; name the right path")
    if source.is_dir() or source.suffix in (".yaml", ".yml"):
        return "yolo"
    if source.suffix == ".json":
        with source.open(encoding="utf-8-sig", errors="replace") as file:
            return "label-studio" if file.read(100).lstrip().startswith("[") else "coco"
    kinds: dict[str, Kind] = {".xml": "cvat", ".slp": "sleap", ".csv": "deeplabcut", ".h5": "deeplabcut"}
    if source.suffix not in kinds:
        raise ValueError(
            f"{source}: what wrote it cannot be told from its name; say it with --from, expected a "
            f"folder, "
            f"data.yaml, .json, {', '.join(kinds)}"
        )
    return kinds[source.suffix]


def _read(
    kind: Kind, source: Path, root: Path, names: list[str], part: str | None, category: str | None
) -> dict[str, Any]:
    if kind == "yolo":
        return _yolo(source, names, part)
    if kind == "label-studio":
        from vitpose.preparation.conversion.label_studio import label_studio_as_coco

        return label_studio_as_coco(source, root, names)
    if kind == "cvat":
        from vitpose.preparation.conversion.cvat import cvat_as_coco

        return cvat_as_coco(source, root)
    if kind in ("sleap", "deeplabcut"):
        from vitpose.preparation.conversion.tracks import tracks_as_coco

        return tracks_as_coco(source, root)
    return _coco(source, root, category)


def _coco(source: Path, root: Path, category: str | None) -> dict[str, Any]:
    """All that can be mended, mended."""
    from vitpose.preparation.readers.coco_file import complete, load_coco
    from vitpose.preparation.readers.mending import mended

    content = load_coco(source)
    if category is not None:
        chosen = [one for one in content["categories"] if one.get("name") == category]
        if not chosen:
            there = ", ".join(str(one.get("name")) for one in content["categories"])
            raise ValueError(f"{source}: no category {category!r}; expected one of {there}")
        content["categories"] = chosen
        ids = {one.get("id") for one in chosen}
        content["annotations"] = [one for one in content["annotations"] if one.get("category_id") in ids]
    return mended(complete(content, source), root, ("boxes", "names", "visibility"))


def _yolo(source: Path, names: list[str], part: str | None) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from vitpose.preparation.conversion.yolo import YoloSpec, yolo_as_coco

    path = source / "data.yaml" if source.is_dir() else source
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; expected YOLO's data.yaml")
    try:
        said = YAML(typ="safe").load(path)
        count, dims = (int(value) for value in said["kpt_shape"])
    except (YAMLError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: no kpt_shape such as [17, 3] ({error}); expected the data.yaml of YOLO-pose"
        ) from None
    listed = said.get("kpt_names") or []
    listed = next(iter(listed.values())) if isinstance(listed, dict) else listed
    if names and len(names) != count:
        raise ValueError(f"--keypoints names {len(names)}, kpt_shape of {path} says {count}")
    spec = YoloSpec(
        kpt_shape=(count, dims),
        keypoints=names or [str(name) for name in listed],
        flip_idx=[int(k) for k in said.get("flip_idx") or []],
    )
    parts = [part] if part else ["train", "val", "test"]
    pictures = [one for name in parts for one in _pictures(path, said, name, required=bool(part))]
    if not pictures:
        raise ValueError(f"{path}: no pictures at train, val or test; mend these paths")
    return yolo_as_coco(sorted(set(pictures)), path.parent.resolve(), spec)


def _pictures(path: Path, said: dict[str, Any], part: str, *, required: bool) -> "Sequence[Path]":
    """The pictures of a part of data.yaml: a folder, a list of folders, or a text file of paths."""
    from vitpose.preparation.conversion.yolo import SUFFIXES

    stated = said.get(part)
    if stated is None:
        if required:
            raise ValueError(f"{path} has no {part!r}; expected one of its parts")
        return []
    base = path.parent.resolve()
    found: list[Path] = []
    for one in stated if isinstance(stated, list) else [stated]:
        # Roboflow writes ../train/images for train/images; `path` is often of another machine.
        near = str(one).replace("\\", "/").removeprefix("../").removeprefix("./")
        places = [base / near, base / str(said.get("path") or "") / near, base / str(one)]
        place = next(
            (p.resolve() for p in places if p.exists() and p.resolve().is_relative_to(base)), None
        )
        if place is None:
            if required or part != "test":
                raise FileNotFoundError(f"{path}: {part} is {one!r}, which is not there below {base}")
            continue
        if place.is_file():
            lines = [line.strip().removeprefix("./") for line in place.read_text().splitlines()]
            found += [base / line for line in lines if line]
        else:
            found += sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES)
    return found
