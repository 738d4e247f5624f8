"""Which keypoints of the built-in people are seen, from the map of part ids and the depth of surfaces."""

import numpy as np
from numpy.typing import NDArray

from vitpose.people.camera import NEAREST
from vitpose.people.figure import Part
from vitpose.people.render import Drawn, depth_at

Array = NDArray[np.float64]

OWN_PARTS: tuple[frozenset[int], ...] = tuple(
    frozenset(Part[name.replace("?", side)] for name in names)
    for names, side in (
        (("NOSE", "HEAD"), "L"),
        *((("?_EYE", "HEAD"), side) for side in "LR"),
        *((("?_EAR", "HEAD"), side) for side in "LR"),
        *((("?_UPPER_ARM", "?_YOKE", "CHEST"), side) for side in "LR"),
        *((("?_UPPER_ARM", "?_FOREARM"), side) for side in "LR"),
        *((("?_FOREARM", "?_HAND"), side) for side in "LR"),
        *((("?_THIGH", "BELLY", "SKIRT"), side) for side in "LR"),
        *((("?_THIGH", "?_SHIN"), side) for side in "LR"),
        *((("?_SHIN", "?_FOOT"), side) for side in "LR"),
    )
)
"""Per COCO keypoint the parts that it is seen on."""

COVER = np.array([0.02] + [0.022] * 2 + [0.03] * 2 + [0.08] * 2 + [0.05] * 2 + [0.04] * 2
                 + [0.09] * 2 + [0.065] * 2 + [0.05] * 2)  # fmt: skip
"""Per COCO keypoint, in heights, how deep under the surface of its own part it is still seen."""


def keypoint_visibility(
    drawn: Drawn, person: int, height: float, pixels: Array, depths: Array
) -> NDArray[np.uint8]:
    """(17,) 2 seen, 1 in the frame but hidden, 0 outside the frame.

    A keypoint is seen where the map shows, at its pixel, one of its own person's `OWN_PARTS` and the
    surface there lies no farther before it than `COVER`: the elbow under its own sleeve is seen, the
    one behind its own hand or on the far side of the trunk is hidden.
    """
    high, wide = drawn.ids.shape
    place = np.rint(pixels).astype(np.intp)
    inside = ((place >= 0) & (place < (wide, high))).all(axis=1) & (depths > NEAREST)
    visibility = inside.astype(np.uint8)
    which = np.flatnonzero(inside)
    parts = drawn.ids[place[which, 1], place[which, 0]].astype(np.intp)
    own = np.array(
        [
            part >= 0 and drawn.owner[part] == person and int(drawn.kind[part]) in OWN_PARTS[k]
            for k, part in zip(which, parts, strict=True)
        ],
        dtype=bool,
    )
    which, parts = which[own], parts[own]
    if len(which):
        gap = depths[which] - depth_at(drawn, parts, place[which].astype(np.float64))
        visibility[which[gap < COVER[which] * height]] = 2
    return visibility
