"""Commands on who is champion and whether it is what it was: promote, rollback, history, vouch."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.models import print_table

Name = Annotated[str, typer.Argument(help="A registered model, such as vitpose.")]


def add_commands(app: typer.Typer) -> None:
    """Put this module's commands into the program."""
    app.command(no_args_is_help=True)(promote)
    app.command(no_args_is_help=True)(rollback)
    app.command(no_args_is_help=True)(history)
    app.command(no_args_is_help=True)(vouch)


def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="The version that is to become champion.")],
    force: Annotated[
        bool, typer.Option("--force", help="Do not ask the gate; the audit log says so.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is forced; goes into the audit log.")] = None,
    params_file: Annotated[
        Path, typer.Option("--params", help="Whose section register.gate has the gate's limits.")
    ] = Path("params.yaml"),
    data: Annotated[
        Path, typer.Option(help="The prepared data that judged both: figures are counted again with it.")
    ] = Path("data/prepared"),
    allow: Annotated[
        list[str] | None, typer.Option(help="What may differ from the champion: skeleton, preprocessing.")
    ] = None,
) -> None:
    """Put a version before the gate, and make it the champion if the gate lets it pass.

    Exit status 1 where the gate refuses, with its reasons; either decision goes into the audit log.

    Example: vitpose promote vitpose 3

    Example: vitpose promote vitpose 3 --force --reason "better on night videos"
    """
    if force != bool((reason or "").strip()):
        raise typer.BadParameter("--force and --reason go together", param_hint="--reason")
    from pipelines.registry import promotion

    if force:
        event = promotion.promote(name, version, why=str(reason), forced=True)
        typer.echo(f"{name}: champion {event.champion_before or '-'} -> {event.champion_after}, forced")
        return
    from dataclasses import replace

    from pipelines import params
    from pipelines.registry.evidence import gather
    from pipelines.registry.gate import RegisterConfig
    from pipelines.registry.table import gate_lines

    config = params.from_mapping(RegisterConfig, params.section(params_file, "register"), "register")
    gate = replace(config.gate, allow=(*config.gate.allow, *(allow or ())))
    decision = promotion.consider(
        name, version, gate, evidence=lambda ours, theirs: gather(ours, theirs, gate, data=data)
    )
    for line in gate_lines(decision):
        typer.echo(line)
    if not decision.promoted:
        typer.echo(f"refused: {decision.reason}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{name}: champion is version {version}: {decision.reason}")


def rollback(
    name: Name,
    why: Annotated[str, typer.Option(help="Goes into the audit log.")] = "rollback",
) -> None:
    """Make the champion before this one champion again.

    Example: vitpose rollback vitpose --why "jitters on 60 fps"
    """
    from pipelines.registry import promotion

    event = promotion.rollback(name, why=why)
    typer.echo(f"{name}: champion {event.champion_before or '-'} -> {event.champion_after}")


def history(
    name: Name,
    at: Annotated[
        str | None,
        typer.Option(help="Who was champion then: a date (its end) or a time, UTC unless it says."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Hold the newest entry against its line in the artifact store."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show who promoted what, when and why. Exit status 1 where the log was tampered with.

    Example: vitpose history vitpose

    Example: vitpose history vitpose --at 2026-11-01
    """
    from dataclasses import asdict, replace

    from pipelines.registry import audit

    moment = None if at is None else _moment(at)
    log = audit.history(name)
    if verify:
        from pipelines.registry.anchor import anchor_problems

        log = replace(log, problems=(*log.problems, *anchor_problems(name, log)))
    if moment is not None:
        event = audit.champion_at(log, moment)
        if as_json:
            typer.echo(json.dumps(None if event is None else asdict(event), indent=1))
        elif event is None:
            typer.echo(f"{name} had no champion at {moment.isoformat(timespec='seconds')}")
        else:
            typer.echo(
                f"models:/{name}/{event.champion_after}  since {event.when}  {event.action} by "
                f"{event.who}: {event.why}"
            )
    elif as_json:
        typer.echo(json.dumps(asdict(log), indent=1))
    else:
        rows = [
            (
                str(e.position),
                e.when[:16],
                e.action if e.effective else f"({e.action})",
                f"{e.champion_before or '-'} -> {e.champion_after or '-'}",
                e.version,
                e.who,
                e.why,
            )
            for e in log.events
        ]
        print_table(("#", "when", "what", "champion", "version", "who", "why"), rows)
    for problem in log.problems:
        typer.echo(f"wrong: {problem}", err=True)
    if log.problems:
        raise typer.Exit(1)
    if verify and not as_json:
        typer.echo(f"sound: {len(log.events)} entries, the newest is anchored outside the database")


def vouch(
    model: Annotated[str, typer.Argument(help="models:/NAME/VERSION, registered by an older program.")],
) -> None:
    """Say that an old version's config.json is right as it is; from then on no edit is served.

    Example: vitpose vouch models:/vitpose/1
    """
    from pipelines.registry.vouching import vouch as record

    typer.echo(f"{model}: config.json has digest {record(model)}")


def _moment(text: str) -> datetime:
    """The end of a date, or a time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no date or time; expected 2026-11-01 or 2026-11-01T12:30", param_hint="--at"
        ) from None
    if len(text) <= 10:
        moment += timedelta(days=1, microseconds=-1)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
