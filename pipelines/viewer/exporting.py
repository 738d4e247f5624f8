"""The viewer as a folder of files, which a browser opens without a server.

A page of a file may not read other files, only run them: so what a server would answer lies in scripts
that call `got(path, content)`, and pictures are images.
"""

import base64
from collections.abc import Callable
from pathlib import Path

from pipelines.viewer.serving import static
from pipelines.viewer.site import STATIC, NoSuchPath, Site
from vitpose.files import whole_folder

_MARK = "data/index.json.js"


def export_page(site: Site, folder: Path, advance: Callable[[int], None] = lambda count: None) -> Path:
    """Write the page; returns the file to open. `advance` hears of each path done.

    Raises `ValueError` where `folder` is there and is not such a page, which would be replaced.
    """
    check_target(folder)
    with whole_folder(folder) as beside:
        for name in STATIC:
            (beside / name).write_bytes(static(name))
        page = (beside / STATIC[0]).rename(beside / "index.html")
        page.write_text(page.read_text().replace("<html ", "<html data-exported ", 1))
        for path in site.paths():
            try:
                kind, content = site.get(path)
            except NoSuchPath:  # a frame that does not decode has no picture here either
                continue
            target = beside / "data" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if kind == "image/jpeg":
                target.write_bytes(content)
            else:
                plain = kind == "application/json"
                said = content.decode() if plain else f'"{base64.b64encode(content).decode()}"'
                target.with_name(target.name + ".js").write_text(f'got("{path}",{said});\n')
            advance(1)
    return folder / "index.html"


def check_target(folder: Path) -> None:
    """Refuse a folder whose content is not an exported page."""
    if folder.exists() and not (folder / _MARK).is_file():
        raise ValueError(f"{folder} is there and is no exported page; give another --export")
