"""Left and right in the names of keypoints, in the spellings that tools and people use.

Knows names only: left_hip, LHip, leftHip, hipL, hip.L, Hip-Left, earleft, "Right Ear", lhip.
"""

import re
from collections.abc import Iterator, Sequence

_MIRRORED = {"left": "right", "right": "left", "l": "r", "r": "l"}

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
"""Of a name: hipL and LHip are two each; what is between words is neither letter nor digit."""

_GLUED = re.compile(r"^(?:left|right)(?=.)|(?<=.)(?:left|right)$", re.IGNORECASE)
"""A side without a border before the rest: earleft."""

_LETTER = re.compile(r"^[lr](?=[a-z]{2})|(?<=[a-z]{2})[lr]$")
"""A side that may be a letter like any other, a name's only sign being that its counterpart is there."""


def flip_pairs_from_names(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs such as (left_knee, right_knee), (LHip, RHip) or (ear.L, ear.R), found by name."""
    places = {name.lower(): k for k, name in reversed(list(enumerate(names)))}
    pairs: dict[int, int] = {}
    for sure in (True, False):
        for k, name in enumerate(names):
            if k in pairs:
                continue
            for mirrored in _mirrored_names(name, sure):
                other = places.get(mirrored)
                if other is not None and other != k and other not in pairs:
                    pairs[k], pairs[other] = other, k
                    break
    return tuple((k, other) for k, other in sorted(pairs.items()) if k < other)


def sided_without_pair(names: Sequence[str], flip_pairs: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """Names that speak of a left or a right and are in none of `flip_pairs`."""
    paired = {k for pair in flip_pairs for k in pair}
    return tuple(
        name
        for k, name in enumerate(names)
        # Vertebrae are L1 to L5.
        if k not in paired and not re.fullmatch("[LlRr][0-9]+", name) and any(_sides(name))
    )


def without_side(name: str) -> tuple[str, str]:
    """("left" or "right" or "", the rest in small letters with words joined by _)."""
    for start, end in _sides(name):
        side = _as_word(name[start:end])
        rest = _WORD.findall(name[:start]) + _WORD.findall(name[end:])
        return side, "_".join(rest).lower()
    return "", "_".join(_WORD.findall(name)).lower()


def _mirrored_names(name: str, sure: bool) -> Iterator[str]:
    """In small letters: the name with one side changed, best guess first."""
    spans = list(_sides(name)) if sure else [m.span() for m in _LETTER.finditer(name.lower())]
    for start, end in spans:
        yield (name[:start] + _MIRRORED[name[start:end].lower()] + name[end:]).lower()


def _sides(name: str) -> Iterator[tuple[int, int]]:
    """Where left, right, l or r stand as words of their own, or left and right at either end."""
    found = [m.span() for m in _WORD.finditer(name) if m.group().lower() in _MIRRORED]
    yield from found or (m.span() for m in _GLUED.finditer(name))


def _as_word(side: str) -> str:
    return "left" if side.lower() in ("l", "left") else "right"
