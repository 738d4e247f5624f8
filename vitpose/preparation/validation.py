"""The rows that are not used: their file, their reasons, and whether they are too many."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vitpose.files import whole_file
from vitpose.preparation.rows import CROWD, LEAK_NEAR, LEAK_SAME, NO_KEYPOINTS, Rejected

BY_DESIGN = (CROWD, NO_KEYPOINTS)
"""Reasons that say nothing of a data set's health: the published recipe skips these people."""


_COLUMNS = pa.schema(
    [
        ("dataset", pa.string()),
        ("image", pa.string()),
        ("annotation_id", pa.int64()),
        ("reason", pa.string()),
    ]
)


def save_rejected(rejected: Iterable[Rejected], path: Path) -> None:
    """`rejected.parquet`: one row each, sorted, so that equal content is equal bytes."""
    ordered = sorted(
        (asdict(one) for one in rejected),
        key=lambda r: (r["dataset"], r["image"], r["annotation_id"] or 0, r["reason"]),
    )
    with whole_file(path) as beside:
        pq.write_table(pa.Table.from_pylist(ordered, schema=_COLUMNS), beside)


def load_rejected(path: Path) -> list[Rejected]:
    """The inverse of `save_rejected`."""
    return [Rejected(**row) for row in pq.read_table(path).to_pylist()]


def rejected_counts(rejected: Iterable[Rejected]) -> dict[str, int]:
    """How often each reason occurs, most frequent first; leaks are not told apart by their image."""
    counts = Counter(_leak(one) or one.reason for one in rejected)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def rejected_share(rejected: Iterable[Rejected], used: int) -> float:
    """Share of people that should be usable and are not, 0 to 1.

    Reasons in `BY_DESIGN` and leaks count neither as usable nor as broken; nor do image entries, whose
    people are counted themselves.
    """
    broken = sum(_is_broken(one) for one in rejected)
    return broken / (broken + used) if broken else 0.0


def check_rejected_share(name: str, rejected: list[Rejected], used: int, limit: float) -> float:
    """The share of `rejected_share`, if it is not above `limit`.

    Args:
        name: of the data set, for the message.
        rejected: from its reader and from cutting its crops.
        used: people that are used.
        limit: 0 to 1.

    Raises:
        ValueError: above the limit, or nothing usable at all; names the most frequent reasons.
    """
    share = rejected_share(rejected, used)
    if used == 0 or share > limit:
        broken = [one for one in rejected if _is_broken(one)]
        top = list(rejected_counts(broken or rejected).items())[:3]
        reasons = "; ".join(f"{reason} ({count})" for reason, count in top) or "it is empty"
        example = next((one.image for one in broken if one.image), None)
        where = f"; for example in {example}" if example else ""
        raise ValueError(
            f"data set {name!r}: {share:.1%} of its people are unusable, the limit is {limit:.1%}, and "
            f"{used} are usable. Reasons: {reasons}{where}. Repair the data set or raise the limit"
        )
    return share


def leaked_images(rejected: Iterable[Rejected]) -> int:
    """How many images were taken out of the training data because they are held out."""
    return len({(one.dataset, one.image) for one in rejected if _leak(one)})


def _leak(one: Rejected) -> str | None:
    return next((leak for leak in (LEAK_SAME, LEAK_NEAR) if one.reason.startswith(leak)), None)


def _is_broken(one: Rejected) -> bool:
    return one.annotation_id is not None and one.reason not in BY_DESIGN and _leak(one) is None
