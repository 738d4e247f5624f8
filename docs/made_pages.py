"""A hook of the site: the pages that are made when it is built.

`reference/commands.md` is the `--help` of every command, as it is today; two others are files that lie
elsewhere in the repository. And a link that names a file, as `[data.md](data.md)`, names the
page instead.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMMANDS = "reference/commands.md"
DOCS = Path(__file__).parent
FILE_LINK = re.compile(r"\[([\w-]+\.md)\]\((?=\1)")
TO_DOCS = re.compile(r"\[(?:docs/)?([^\]]+)\]\((?:\.\./)?docs/")
ELSEWHERE = {"contributing.md": "CONTRIBUTING.md", "cluster.md": "deploy/README.md"}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """MkDocs calls this with each page's text, and takes what it returns."""
    name = page.file.src_uri
    if name in ELSEWHERE:
        text = (DOCS.parent / ELSEWHERE[name]).read_text(encoding="utf-8")
        if markdown.startswith("# "):  # a page of its own, and the file is its end
            text = f"#{text}"
        markdown += "\n" + TO_DOCS.sub(r"[\1](", text)
    if name == COMMANDS:
        return f"{markdown}\n{''.join(sections())}"
    return FILE_LINK.sub(lambda link: f"[{title(link[1])}](", markdown)


def title(name: str) -> str:
    """The first heading of a page of this folder."""
    return (DOCS / name).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def sections() -> Iterator[str]:
    """A heading and the help of each command."""
    os.environ["TERMINAL_WIDTH"] = "96"
    from typer.main import get_command

    from pipelines.cli.main import app

    yield from _of("vitpose", get_command(app), None)


def _of(name: str, command: Any, parent: Any) -> Iterator[str]:
    context = type(command).context_class(command, info_name=name.rpartition(" ")[2], parent=parent)
    yield f"\n## {name}\n\n```text\n{command.get_help(context)}\n```\n"
    for one, inner in getattr(command, "commands", {}).items():
        yield from _of(f"{name} {one}", inner, context)
