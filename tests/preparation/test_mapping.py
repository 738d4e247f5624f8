from dataclasses import replace

import numpy as np
import pytest

from vitpose.preparation.rows import NO_KEYPOINTS, map_people
from vitpose.skeletons.human import COCO_17, CROWDPOSE_14, Skeleton


def test_joints_that_mean_the_same_are_taken_over_and_the_others_are_not_labelled(make_people):
    people = make_people(2)
    mapped = map_people(people, CROWDPOSE_14)
    assert mapped.skeleton == CROWDPOSE_14 and len(mapped.rows) == len(people.rows)
    for row, before in zip(mapped.rows, people.rows, strict=True):
        assert row.keypoints_image.shape == (14, 2) and row.visibility.shape == (14,)
        for index, name in enumerate(CROWDPOSE_14.keypoints):
            source = COCO_17.index(name)
            if source is None:
                assert row.visibility[index] == 0
            else:
                assert row.visibility[index] == before.visibility[source]
                np.testing.assert_array_equal(row.keypoints_image[index], before.keypoints_image[source])
        assert (row.visibility > 0).sum() == 12
        assert (row.area, row.annotation_id) == (before.area, before.annotation_id)


def test_people_of_the_skeleton_stay_as_they_are(make_people):
    people = make_people(1)
    assert map_people(people, COCO_17) is people


def test_who_has_no_joint_left_is_rejected(make_people):
    people = make_people(1)
    face_only = people.rows[0].visibility * (np.arange(17) < 5)
    rows = [replace(people.rows[0], visibility=face_only.astype(np.uint8)), people.rows[1]]
    mapped = map_people(replace(people, rows=rows), CROWDPOSE_14)
    assert [row.annotation_id for row in mapped.rows] == [1]
    assert [(one.annotation_id, one.image, one.reason) for one in mapped.rejected] == [
        (0, "000.jpg", NO_KEYPOINTS)
    ]


def test_skeletons_with_nothing_in_common_are_refused(make_people):
    other = Skeleton(name="hand", keypoints=("thumb",), flip_pairs=(), sigmas=(0.1,))
    with pytest.raises(ValueError, match="none of which means one of skeleton 'hand'"):
        map_people(make_people(1), other)
