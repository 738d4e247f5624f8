"""The page of `vitpose compare`: tables of where two models disagree, and the worst side by side."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitpose.geometry import warp_points
from vitpose.pixels import encode_jpeg
from vitpose.skeletons.human import Skeleton
from vitpose.visualization import beside, contact_sheet, draw_poses, with_lines, zoomed

Image = NDArray[np.uint8]

PANEL_WH = (200, 260)
_TEXT = (225, 225, 225)
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;background:#14161a;color:#e1e1e1;max-width:1100px;
margin:2em auto;padding:0 1em}table{border-collapse:collapse}td,th{padding:.15em .9em;text-align:right}
td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#1d2026}img{max-width:100%}"""


def side_by_side(
    image: Image,
    bbox_xywh: ArrayLike,
    keypoints: tuple[NDArray[np.float64], NDArray[np.float64]],
    scores: tuple[NDArray[np.float32], NDArray[np.float32]],
    skeleton: Skeleton,
    words: str,
) -> Image:
    """One person as both models see it: keypoints (K, 2) in image pixels, scores (K,)."""
    panel, matrix = zoomed(image, bbox_xywh, PANEL_WH)
    drawn = [
        draw_poses(panel, warp_points(points, matrix)[None], score[None], skeleton, 0.3)
        for points, score in zip(keypoints, scores, strict=True)
    ]
    return with_lines(beside(drawn[0], drawn[1], ("A", "B")), [[(words, _TEXT)]])


def page(found: Mapping[str, Any], pictures: Sequence[Image]) -> str:
    """One HTML file with everything in it; `found` is the content of comparison.json."""
    title = f"{html.escape(found['A'])} and {html.escape(found['B'])}"
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{row['keypoints']}</td>"
        + "".join(f"<td>{_percent(row[key])}</td>" for key in ("median", "p95", "far"))
        + "</tr>"
        for name, row in found["table"].items()
    )
    sheet = ""
    if pictures:
        height, width = pictures[0].shape[:2]
        jpeg = encode_jpeg(contact_sheet(pictures, columns=2, cell_wh=(width, height)), 88)
        sheet = f'<img alt="the worst" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
    heads = "".join(f"<th>{name}</th>" for name in ("", "keypoints", "median %", "p95 %", "apart %"))
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>
<h1>{title}</h1>
<p>{found["people"]} people in {found["frames"]} frames of {found["inputs"]} files. Distances are percent
of the longer side of the person's box; a keypoint is apart from 10 % on. Counted are keypoints of which
either model is sure.</p>
<table><tr>{heads}</tr>{rows}</table>
<h2>Where they differ most</h2>{sheet}</html>
"""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
