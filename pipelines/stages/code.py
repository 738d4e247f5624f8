"""Stage code: one digest for each stage, of all code that decides what the stage makes.

A stage's code is its entry file and every file of ours that this imports, directly or not. Comments and
docstrings do not count, so that a better word reruns nothing. DVC skips a stage whose digest stayed; a
training run carries the same digest in its name, so that it never goes on with other code.

Imports are read from the source: nothing is loaded.
"""

import argparse
import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

from vitpose.files import write_text

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("vitpose", "pipelines")
STAGES = (
    "draw", "prepare", "start", "pretrain", "finetune", "token", "distill", "evaluate", "register",
    "label", "report",
)  # fmt: skip

_LAYOUT = {tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENCODING}


def digest(stage: str, root: Path = ROOT) -> str:
    """SHA-256, in hex, of a stage's code in the checkout at `root`."""
    total = hashlib.sha256()
    for path in sorted(closure(root, root / "pipelines" / "stages" / f"{stage}.py")):
        name = path.relative_to(root).as_posix()
        total.update(f"{name}\n{bare(path.read_text(encoding='utf-8'))}\0".encode())
    return total.hexdigest()


def bare(source: str) -> str:
    """Python source without comments, docstrings (any string that is a statement) and empty lines.

    Text is cut out of the lines, and not put together from tokens: Python 3.12 splits f-strings into
    tokens that 3.11 does not have.
    """
    lines: list[str | None] = list(source.splitlines())
    starts_statement = True
    cuts: list[tuple[tuple[int, int], tuple[int, int]]] = []
    inside_text: set[int] = set()  # lines that are part of a string, where spaces and empty lines count
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for token, following in zip(tokens, [*tokens[1:], tokens[-1]], strict=True):
        is_docstring = (
            token.type == tokenize.STRING
            and starts_statement
            and following.type in (tokenize.NEWLINE, tokenize.COMMENT, tokenize.ENDMARKER)
        )
        if token.type == tokenize.COMMENT or is_docstring:
            cuts.append((token.start, token.end))
        elif token.end[0] > token.start[0] and token.type not in _LAYOUT:
            inside_text.update(range(token.start[0], token.end[0]))
        if token.type == tokenize.NEWLINE:
            starts_statement = True
        elif token.type not in _LAYOUT:
            starts_statement = False
    for (first, start), (last, end) in reversed(cuts):
        rest = (lines[last - 1] or "")[end:]
        lines[first - 1 : last] = [(lines[first - 1] or "")[:start] + rest, *[None] * (last - first)]
    kept = []
    for number, line in enumerate(lines, start=1):
        if number in inside_text and line is not None:
            kept.append(line)
        elif line and line.strip():
            kept.append(line.rstrip())
    return "\n".join(kept)


def closure(root: Path, path: Path) -> set[Path]:
    """`path` and every file of ours that it imports, directly or not, package files included."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current in found:
            continue
        found.add(current)
        for name in imported(root, current):
            parts = name.split(".")
            if parts[0] in PACKAGES:
                files = (module_file(root, ".".join(parts[:end])) for end in range(1, len(parts) + 1))
                waiting += [file for file in files if file is not None]
    return found


@cache
def imported(root: Path, path: Path) -> frozenset[str]:
    """Dotted names that `path` imports anywhere, inside functions too; ours and others'."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                ours = node.module.split(".")[0] in PACKAGES and module_file(root, inner)
                names.add(inner if ours else node.module)
    return frozenset(names)


def module_file(root: Path, name: str) -> Path | None:
    """The file of a dotted module name of ours, None if there is none."""
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def main() -> None:
    """`python -m pipelines.stages.code --out DIR`: DIR/<stage> holds the digest of each stage."""
    parser = argparse.ArgumentParser(description="Stage code: one digest for each stage.")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--out", type=Path, help="folder for the digests")
    chosen.add_argument("--touched", action="store_true", help="print how much code each stage has")
    given = parser.parse_args()
    for stage in STAGES:
        if given.touched:
            files = closure(ROOT, ROOT / "pipelines" / "stages" / f"{stage}.py")
            lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
            print(f"{stage:9} {len(files):3} files {lines:6} lines")
        else:
            write_text(given.out / stage, digest(stage) + "\n")


if __name__ == "__main__":
    main()
