"""A stage's digest moves with its code, and with nothing else."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.stages.code import STAGES, bare, digest


@pytest.fixture
def tree(root: Path, tmp_path: Path) -> Path:
    for package in ("vitpose", "pipelines"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def changed_by(tree: Path, name: str, change: Callable[[str], str]) -> set[str]:
    """The stages whose digest moves when a file is changed, as a program of its own sees it."""

    def digests() -> dict[str, str]:
        out = tree / "code"
        command = [sys.executable, "-m", "pipelines.stages.code", "--out", str(out)]
        subprocess.run(command, cwd=tree, env={"PYTHONPATH": str(tree)}, check=True)
        return {stage: (out / stage).read_text() for stage in STAGES}

    before = digests()
    text = (tree / name).read_text()
    (tree / name).write_text(change(text))
    assert (tree / name).read_text() != text
    after = digests()
    (tree / name).write_text(text)
    return {stage for stage in STAGES if before[stage] != after[stage]}


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


TRAINED = {"finetune", "token", "distill"}


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("vitpose/training/losses.py", lambda text: "# So.\n" + text.replace('"""', '"""So: ', 1), set()),
        ("vitpose/training/losses.py", replaced("square()", "abs()"), TRAINED),
        (
            "vitpose/models/heads.py",
            lambda text: text + "\nA = 1\n",
            {"start", "label", "evaluate", *TRAINED},
        ),
        ("vitpose/models/mae.py", lambda text: text + "\nA = 1\n", {"start", "pretrain"}),
        ("vitpose/people/head.py", lambda text: text + "\nBEARD = 1\n", {"draw"}),
        ("vitpose/preparation/readers/mpii.py", lambda text: text + "\nA = 1\n", {"prepare"}),
        ("vitpose/data/augmentation.py", lambda text: text + "\nA = 1\n", TRAINED),
        ("pipelines/page/charts.py", lambda text: text + "\nA = 1\n", {"report"}),
        ("pipelines/cli/main.py", lambda text: text + "\nA = 1\n", set()),
    ],
    ids=["words", "loss", "head", "mae", "beard", "reader", "half-body", "chart", "program"],
)
def test_a_change_reaches_the_stages_that_import_it(
    tree: Path, name: str, change: Callable[[str], str], expected: set[str]
) -> None:
    found = changed_by(tree, name, change)
    assert found >= expected and found - expected <= {"register"}, found


SOURCE = '''"""What it is."""

import os  # why


class A:
    """Said."""

    x: int = 1
    """Of x."""

    def f(self, y="# no comment"):
        """Doc
        over lines."""
        text = """kept

  kept """
        return f"{y!r:>{self.x}} # {'inner'}" "more"
'''


def test_what_is_left_is_what_python_runs() -> None:
    assert bare(SOURCE) == (
        "import os\nclass A:\n    x: int = 1\n"
        '    def f(self, y="# no comment"):\n'
        '        text = """kept\n\n  kept """\n'
        '        return f"{y!r:>{self.x}} # {\'inner\'}" "more"'
    )


@pytest.mark.parametrize(
    "change",
    [
        replaced('"""Said."""\n', '"""Said in\n    two lines."""  # and more\n'),
        replaced("import os  # why\n\n\n", "import os\n"),
        replaced('    """Of x."""\n', ""),
    ],
)
def test_words_and_empty_lines_do_not_count(change: Callable[[str], str]) -> None:
    assert change(SOURCE) != SOURCE and bare(change(SOURCE)) == bare(SOURCE)


@pytest.mark.parametrize(
    "change",
    [
        replaced("x: int = 1", "x: int = 2"),
        replaced("# no comment", "# No comment"),
        replaced("kept\n\n", "kept\n"),
        replaced("kept ", "kept"),
        replaced("# {'inner'}", "#{'inner'}"),
    ],
)
def test_code_and_text_count(change: Callable[[str], str]) -> None:
    assert change(SOURCE) != SOURCE and bare(change(SOURCE)) != bare(SOURCE)


def test_a_digest_does_not_depend_on_where_the_checkout_is(root: Path, tree: Path) -> None:
    assert digest("draw", tree) == digest("draw", root)
