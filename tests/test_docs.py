"""The documentation is whole: its commands exist, public names are on one page, the notebook runs."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import vitpose
from pipelines.cli.main import app
from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tutorials" / "first_photo.ipynb"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder


def command_lines(page: Path) -> Iterator[list[str]]:
    """Words of each line of a page's shell blocks, without comments."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        try:
            yield from (
                shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()
            )
        except ValueError:
            continue  # text over several lines, as JSON for curl


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words after `vitpose` mean, and the words after its name."""
    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in command_lines(page):
        if "make" in words[:1]:
            assert set(word for word in words[1:] if "=" not in word) <= set(targets), words
        called = next((n for n, word in enumerate(words) if Path(word).name == "vitpose"), None)
        if called is None or "=" in words[called]:
            continue
        command, rest = find(words[called + 1 :])
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        known |= {"--help", "--install-completion", "--show-completion"}
        asked = {word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)}
        assert not hasattr(command, "commands") or set(rest) <= known, f"no such command: {words}"
        assert asked <= known, f"{sorted(asked - known)} in {words}"


def test_the_readme_is_short_and_its_recipes_and_pages_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 140
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_the_site_fetches_nothing(site: Path) -> None:
    fetched = re.compile(r"<(?:script|img|iframe|link)[^>]*\b(?:src|href)=\"?((?:https?:)?//[^\" >]+)")
    for page in site.rglob("*.html"):
        found = [url for url in fetched.findall(page.read_text(encoding="utf-8"))]
        assert not found, f"{page}: {found}"


def test_every_public_name_is_on_the_reference_page(site: Path) -> None:
    from vitpose.estimation.result import PoseResult
    from vitpose.inference import PosePredictor, Poses
    from vitpose.skeletons.human import Skeleton
    from vitpose.video.detections import Boxes

    shown = set(re.findall(r'id="([\w.]+)"', (site / "reference" / "python.html").read_text()))
    assert vitpose.__all__ == ["load"] and "vitpose.estimation.loading.load" in shown
    assert "vitpose.estimation.loading.PoseEstimator.__call__" in shown
    for kind in (PoseResult, Poses, PosePredictor, Skeleton, Boxes):
        names = {name for name in vars(kind) if not name.startswith("_")}
        names |= {one.name for one in fields(kind)} if hasattr(kind, "__dataclass_fields__") else set()
        missing = {f"{kind.__module__}.{kind.__name__}.{name}" for name in names} - shown
        assert not missing, missing


def test_every_command_is_on_the_reference_page(site: Path) -> None:
    text = (site / "reference" / "commands.html").read_text()
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"vitpose {name}" in text


@pytest.mark.slow
def test_the_notebook_runs_and_gives_what_is_shown() -> None:
    import nbformat
    from nbclient import NotebookClient

    kept = nbformat.read(NOTEBOOK, as_version=4)
    again = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(again, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    assert kinds(again) == kinds(kept) != []
    assert int(again.cells[-1].outputs[0].data["text/plain"]) < 20  # pixels, of a person 200 high


def kinds(notebook: Any) -> list[tuple[int, list[str]]]:
    """What each cell showed, but for warnings."""
    return [
        (number, sorted(output.data))
        for number, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if output.output_type != "stream"
    ]


def test_the_notebook_names_no_place_of_the_machine_that_made_it() -> None:
    text = json.dumps(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work|usr|Users)/", text)
