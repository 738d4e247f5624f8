"""kill -9 before every write of register, promote and rollback: all or nothing, the next one repairs."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.registry.gate import GateConfig
from tests.pipelines.conftest import made_up_figures, on_record

WRITES = (
    "create_registered_model", "create_model_version", "create_logged_model", "create_run",
    "delete_logged_model", "delete_model_version", "finalize_logged_model", "log_model_artifact",
    "log_model_artifacts", "log_text", "set_model_version_tag", "set_registered_model_alias",
    "set_terminated", "update_model_version",
)  # fmt: skip
MOST = 40


def _elsewhere(action: Callable[[], Any], home: Path, die_at: int | None, answer: Any) -> None:
    """In a process of its own: `action`, killed before its `die_at`-th write to MLflow."""
    import mlflow

    os.chdir(home)
    # Spelt in another way than the tests' own: the connections of theirs must not be used here.
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/./mlflow.db"
    made = 0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            if made == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            made += 1
            return method(*args, **kwargs)

        return call

    if die_at is not None:
        for name in WRITES:
            setattr(mlflow.MlflowClient, name, counted(getattr(mlflow.MlflowClient, name)))
    answer.send((action(), made))


def perform(action: Callable[[], Any], home: Path, die_at: int | None = None) -> tuple[Any, int] | None:
    """What `action` gave and how many writes it made; None where it was killed."""
    mine, its = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_elsewhere, args=(action, home, die_at, its)
    )
    process.start()
    its.close()
    try:
        result = mine.recv()
    except EOFError:
        result = None
    process.join()
    assert (result is None) == (process.exitcode == -signal.SIGKILL), process.exitcode
    return result


def register() -> str:
    from pipelines.registry.versions import register_version

    predictions = Path("predictions.parquet")
    predictions.write_bytes(b"any")
    folder = Path("models/model-9").absolute()
    return register_version("vitpose", folder, made_up_figures(0.9), predictions=predictions).version


def promote() -> bool:
    from pipelines.registry import promotion

    gate = GateConfig(margin_AP=0.01, min_repeated=0)
    return promotion.consider("vitpose", "2", gate, evidence=on_record).promoted


def rollback() -> str | None:
    """Unless it is done: a person who was not told looks at who is champion before going back further."""
    from pipelines.registry import audit, promotion

    if audit.history("vitpose").champion == "2":
        return promotion.rollback("vitpose", why="jitters").champion_after
    promotion.consider("vitpose", "1", GateConfig(min_repeated=0), evidence=on_record)
    return "1"


def first_champion() -> None:
    from pipelines.registry import promotion

    promotion.promote("vitpose", "1", why="first")


def second_champion() -> None:
    from pipelines.registry import promotion

    promotion.promote("vitpose", "1", why="first")
    promotion.promote("vitpose", "2", why="second")


def state(name: str = "vitpose") -> dict[str, Any]:
    """What a reader finds, checked whole: versions, champion, entries, what is wrong, uploads left."""
    from pipelines.experiments import experiment_id
    from pipelines.registry import audit, promotion
    from pipelines.registry import versions as registry
    from pipelines.registry.anchor import anchor_problems
    from pipelines.registry.client import connect
    from pipelines.registry.sweeping import used_uploads

    versions = registry.list_versions(name)
    for version in versions:
        registry.resolve_model(version.uri)
    log, champion = audit.history(name), promotion.champion(name)
    client = connect()
    uploads = {model.model_id for model in client.search_logged_models([experiment_id()])}
    return {
        "versions": [(v.version, v.AP, bool(v.predictions_digest)) for v in versions],
        "candidate": [v.version for v in versions if "candidate" in v.aliases],
        "champion": champion and champion.version,
        "moves": [(e.action, e.version) for e in log.moves],
        "problems": [*log.problems, *anchor_problems(name, log)],
        "left": len(uploads - used_uploads(client)),
    }


@pytest.mark.long
@pytest.mark.parametrize(
    ("action", "before"),
    [(register, None), (promote, first_champion), (rollback, second_champion)],
    ids=["register", "promote", "rollback"],
)
def test_killed_at_every_write(
    action: Callable[[], Any], before: Callable[[], None] | None, three: Path, model_folder: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    model_folder(9)
    if before:
        assert perform(before, three)
    old = perform(state, three)[0]  # type: ignore[index]
    kept = tmp_path_factory.mktemp("kept") / "home"
    shutil.copytree(three, kept)
    home, expected = three, None
    for die_at in (MOST, *range(MOST)):
        shutil.rmtree(home)
        shutil.copytree(kept, home)
        done = perform(action, home, die_at)
        if done is not None and expected is not None:
            assert die_at >= 3
            return  # it came to its end: every write has been killed
        if done is not None:
            expected = perform(state, home)[0]  # type: ignore[index]
            assert expected["problems"] == [] and expected["left"] == 0 and done[1] < MOST
            continue
        between = perform(state, home)[0]  # type: ignore[index]
        assert between["champion"] in (old["champion"], expected["champion"]), die_at
        assert between["moves"] in (old["moves"], expected["moves"]), die_at
        assert {v[0] for v in between["versions"]} <= {v[0] for v in expected["versions"]}, die_at
        assert perform(action, home) is not None
        after = perform(state, home)[0]  # type: ignore[index]
        assert after == expected, (die_at, json.dumps(between))
    raise AssertionError(f"more than {MOST} writes")
