"""The numbers that a person looks at before anything is trained on a data set."""

from collections.abc import Callable

import numpy as np
import pytest

from vitpose.preparation.overview import overview
from vitpose.preparation.rows import PersonSet


def test_counts_are_those_of_the_rows(make_people: Callable[..., PersonSet]) -> None:
    found = overview(make_people(count=3))
    # Joint 3 of everybody is not labelled, joint 4 is occluded.
    assert [(one.labelled, one.occluded) for one in found.joints[:5]] == [(6, 0)] * 3 + [(0, 0), (6, 6)]
    assert {one.outside for one in found.joints} == {0}
    assert found.smallest_image_wh == found.largest_image_wh == (200, 150)


def test_a_joint_is_outside_beyond_the_last_pixels_edge(make_people: Callable[..., PersonSet]) -> None:
    people = make_people(count=1)
    points = people.rows[0].keypoints_image
    points[0], points[1], points[2], points[3] = (199.5, 149.5), (199.6, 20), (20, -0.6), (-9, -9)
    found = [one.outside for one in overview(people).joints]
    assert found == [0, 1, 1, 0, *[0] * 13]  # joint 3 is not labelled


def test_box_heights_are_quantiles(make_people: Callable[..., PersonSet]) -> None:
    people = make_people(count=2)
    heights = [row.bbox_xywh[3] for row in people.rows]
    assert overview(people).box_heights == pytest.approx(np.quantile(heights, (0.05, 0.5, 0.95)))


def test_nobody_is_refused(make_people: Callable[..., PersonSet]) -> None:
    people = make_people(count=1)
    people.rows.clear()
    with pytest.raises(ValueError, match="0 people can be used"):
        overview(people)
