"""Commands on label datasets: label, verify."""

from typing import Annotated

import typer

from pipelines.cli.evaluate import Precision

PARTIAL = 3

Labels = Annotated[
    str, typer.Argument(metavar="LABELS", help="A label dataset: what `label` wrote, a folder or s3://.")
]


def add_commands(app: typer.Typer) -> None:
    """Put this module's commands into the program."""
    app.command(no_args_is_help=True)(label)
    app.command(no_args_is_help=True)(verify)


def label(
    archive: Annotated[
        str,
        typer.Argument(
            metavar="ARCHIVE", help="A folder of videos, or one video; or s3://bucket/path of such."
        ),
    ],
    model: Annotated[str, typer.Option(metavar="M", help="A model folder or an MLflow URI.")],
    out: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            help="The label dataset to write, or to complete: a folder, or s3://bucket/path.",
        ),
    ],
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="D",
            help="onnx:FILE.onnx[:CLASS] (YOLOX, RT-DETR, D-FINE or RF-DETR; person by default), "
            "torchvision:NAME[:WEIGHTS], hog, frame or a name of `vitpose detector list`; default its "
            "first.",
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Instead of a detector: a boxes file or a folder with one a video (COCO json, MOT "
            "txt, Parquet), also s3://, or ground_truth for a built-in archive.",
        ),
    ] = None,
    detect_every: Annotated[
        int, typer.Option(help="Detect in every n-th frame; those between keep the boxes.")
    ] = 1,
    box_threshold: Annotated[float, typer.Option(help="Lowest box score, 0..1.")] = 0.3,
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average with the mirrored picture: twice the work.")
    ] = False,
    precision: Annotated[
        Precision, typer.Option(help="Of the arithmetic; bfloat16 where GPU or CPU have units for it.")
    ] = "float32",
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of a model with several: its skeleton's name; default the first."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Crops in a forward pass.")] = 32,
    segment_frames: Annotated[int, typer.Option(help="Frames of a unit of work.")] = 256,
    sequence_fps: Annotated[
        float,
        typer.Option(help="Frames a second of image sequences: folders of numbered images, zip files."),
    ] = 25.0,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A Ray cluster; default RAY_ADDRESS, else this machine."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove what another model or setting left in OUT.")
    ] = False,
    affected_by: Annotated[
        str | None,
        typer.Option(
            help="Label anew what this version made (3, or vitpose/3), and nothing else: OUT is left as "
            "it is where another made it."
        ),
    ] = None,
    retry_quarantined: Annotated[
        bool,
        typer.Option(
            "--retry-quarantined", help="Try units again that were given up: they ended their process."
        ),
    ] = False,
    time_limit: Annotated[
        float,
        typer.Option(
            help="Seconds in which a process must finish a frame; else it is ended, and with it the "
            "attempt at its unit, which has three."
        ),
    ] = 600,
) -> None:
    """Label every frame of an archive of videos, on this machine or on a Ray cluster.

    May be interrupted at any moment: the same command again does what is missing. VITPOSE_WORKERS
    sets the number of processes. Exit status 3 where a video could not be labelled; manifest.json
    says which and why.

    Example: vitpose label videos --model models:/vitpose@champion --detector onnx:yolox_s.onnx
    --out labels
    """
    if detector is not None and boxes is not None:
        raise typer.BadParameter("give one of --detector and --boxes", param_hint="--detector")
    if time_limit < 1:
        raise typer.BadParameter(f"expected at least 1 s, got {time_limit}", param_hint="--time-limit")
    from pipelines.cluster.label import label_archive, model_ref  # before a detector is fetched in vain
    from pipelines.registry.versions import resolve_model
    from vitpose.estimation.loading import caution_of
    from vitpose.labels.account import bound, told
    from vitpose.labels.filesystems import source_of
    from vitpose.labels.plan import GROUND_TRUTH, LabelConfig, check_request, list_videos
    from vitpose.labels.storage import place_of
    from vitpose.video.known_detectors import detector_at

    source, target = source_of(archive), place_of(out)
    if boxes not in (None, GROUND_TRUTH):
        source_of(str(boxes))
    list_videos(source)  # before a detector is fetched
    config = LabelConfig(
        detector=detector_at(detector) if boxes is None else None,
        boxes=boxes,
        detect_every=detect_every,
        box_threshold=box_threshold,
        flip_test=flip_test,
        precision=precision,
        head=head,
        batch_size=batch_size,
        segment_frames=segment_frames,
        sequence_fps=sequence_fps,
    )
    check_request(config, source)
    if detector == "hog":
        typer.echo(
            "hog finds few people (.015 of those in coco_mini, where a small YOLOX finds .69): use it to "
            "try things out, and a network (onnx:FILE.onnx) for labels",
            err=True,
        )
    found = resolve_model(model)  # an alias is looked up here, once; the labels name the version
    if caution := caution_of(found.folder):
        typer.echo(caution, err=True)
    reference = model_ref(found.folder, found.name, found.version, found.weights_digest)
    try:
        run = label_archive(
            source,
            target,
            found.folder,
            reference,
            config,
            address=address,
            replace=replace,
            affected_by=affected_by,
            retry_quarantined=retry_quarantined,
            stall_s=time_limit,
        )
    except KeyboardInterrupt:
        typer.echo("label: interrupted; the same command does what is missing", err=True)
        raise typer.Exit(130) from None
    videos = run.manifest["videos"]
    typer.echo(
        f"{target}: {len(videos)} videos, {sum(v['frames'] for v in videos)} frames, "
        f"{sum(v['persons'] for v in videos)} persons; {run.units_done} units done, "
        f"{run.units_before} were there"
    )
    if run.frames_done:
        rate = run.frames_done / run.seconds
        spent = told(run.worker_seconds)
        typer.echo(f"{run.seconds:.1f} s, {rate:.1f} frames/s; time of the workers: {spent}")
    for entry in run.manifest["quarantined"]:
        typer.echo(f"not labelled: {entry['video']}: {entry['reason']}", err=True)
    for video in videos:
        if video["undecodable"]:
            typer.echo(f"{video['video']}: {video['undecodable']} frames do not decode", err=True)
    if run.frames_done:
        typer.echo(bound(run.worker_seconds))
    if run.partial:
        raise typer.Exit(PARTIAL)


def verify(labels: Labels) -> None:
    """Prove a label dataset: no gap, no duplicate, counts and digests match.

    Exit status 1 where something is wrong, 3 where the labels are sound but videos are missing.

    Example: vitpose verify labels
    """
    from vitpose.labels.verify import verify as verify_labels

    report = verify_labels(labels)
    for problem in report.problems:
        typer.echo(f"wrong: {problem}", err=True)
    for entry in report.quarantined:
        typer.echo(f"not labelled: {entry['video']}: {entry['reason']}", err=True)
    typer.echo(
        f"{'sound' if report.ok else 'NOT SOUND'}: {report.videos} videos, {report.units} units, "
        f"{report.frames} frames ({report.undecodable} do not decode), {report.persons} persons, "
        f"{len(report.quarantined)} quarantined"
    )
    if not report.ok:
        raise typer.Exit(1)
    if report.quarantined or report.undecodable:
        raise typer.Exit(PARTIAL)
