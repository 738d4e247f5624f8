"""Which of our files each file imports, read from the source; what the architecture tests go by."""

import ast
from functools import cache
from pathlib import Path

PACKAGES = ("vitpose", "pipelines")


def module_file(root: Path, name: str) -> Path | None:
    """The file of a dotted module name of ours, None if there is none."""
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def imported(root: Path, path: Path) -> frozenset[str]:
    """Dotted names that `path` imports anywhere, inside functions too; ours and others'."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                ours = node.module.split(".")[0] in PACKAGES and module_file(root, inner)
                names.add(inner if ours else node.module)
    return frozenset(names)


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
                for end in range(1, len(parts) + 1):
                    file = module_file(root, ".".join(parts[:end]))
                    if file is not None:
                        waiting.append(file)
    return found
