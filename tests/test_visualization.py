"""Drawings: where the ink goes, and where it does not."""

import numpy as np
import pytest

from vitpose.geometry import warp_points
from vitpose.skeletons.human import COCO_17, LSP_14, Skeleton
from vitpose.visualization import (
    LEFT,
    OUTLINE,
    RIGHT,
    beside,
    contact_sheet,
    draw_annotations,
    draw_links,
    draw_poses,
    with_lines,
    zoomed,
)

GREY = np.full((240, 320, 3), 128, np.uint8)


def standing(x: float = 100) -> np.ndarray:
    """(1, 17, 2): keypoints on two columns, apart enough to tell their dots."""
    rows = np.arange(17) // 2
    return np.column_stack([x + 40 * (np.arange(17) % 2), 20 + 24 * rows]).astype(float)[None]


def inked(image: np.ndarray) -> np.ndarray:
    return (image != GREY).any(-1)


def test_the_image_given_stays_as_it_is() -> None:
    before = GREY.copy()
    assert inked(draw_poses(GREY, standing(), None, COCO_17)).any()
    assert (before == GREY).all()


def test_sides_have_their_colors() -> None:
    drawn = draw_poses(GREY, standing(), np.ones((1, 17)), COCO_17)
    for name, color in (("left_wrist", LEFT), ("right_wrist", RIGHT)):
        x, y = standing()[0, COCO_17.index(name)].astype(int)
        assert drawn[y, x].tolist() == list(color)


def test_a_doubtful_keypoint_is_a_ring_and_a_hopeless_one_is_not_drawn() -> None:
    wrist = COCO_17.index("left_wrist")
    x, y = standing()[0, wrist].astype(int)
    drawings = []
    for score in (0.9, 0.2, 0.05):
        scores = np.full((1, 17), 0.01)
        scores[0, wrist] = score
        drawings.append(inked(draw_poses(GREY, standing(), scores, COCO_17, threshold=0.3)))
    dot, ring, nothing = drawings
    assert dot[y, x]
    assert not ring[y, x]
    assert ring[y - 4 : y + 5, x - 4 : x + 5].any()
    assert not nothing.any()


def test_no_limb_is_drawn_to_a_doubtful_keypoint() -> None:
    elbow, wrist = COCO_17.index("left_elbow"), COCO_17.index("left_wrist")
    middle = standing()[0, [elbow, wrist]].mean(0).astype(int)
    scores = np.zeros((1, 17))
    scores[0, [elbow, wrist]] = 0.9, 0.2
    assert not inked(draw_poses(GREY, standing(), scores, COCO_17))[middle[1], middle[0]]
    scores[0, wrist] = 0.9
    assert inked(draw_poses(GREY, standing(), scores, COCO_17))[middle[1], middle[0]]


def test_strokes_grow_with_the_person() -> None:
    areas = []
    for scale in (0.2, 1.0):
        points = standing(0) * scale + [60, 10]
        drawn = inked(draw_poses(GREY, points, None, COCO_17))
        length = sum(np.linalg.norm(points[0, a] - points[0, b]) for a, b in COCO_17.limbs)
        areas.append(drawn.sum() / length)
    assert areas[1] > 0.5 * areas[0]  # as thick for its size, and not a hairline
    big = standing(0)[0] * 6
    assert inked(draw_poses(GREY, big[None], None, COCO_17)).sum() > 3000


def test_occluded_annotations_keep_their_limbs_and_unlabelled_ones_go() -> None:
    seen, hidden = np.full((1, 17), 2), np.full((1, 17), 1)
    both = [inked(draw_annotations(GREY, standing(), v, COCO_17)) for v in (seen, hidden)]
    elbow, wrist = COCO_17.index("left_elbow"), COCO_17.index("left_wrist")
    x, y = standing()[0, [elbow, wrist]].mean(0).astype(int)
    assert both[0][y, x] and both[1][y, x]
    assert not inked(draw_annotations(GREY, standing(), hidden * 0, COCO_17)).any()


def test_an_occluded_keypoint_is_told_from_a_visible_one() -> None:
    """Its middle is dark, though limbs end there."""
    x, y = standing()[0, COCO_17.index("left_wrist")].astype(int)
    drawn = draw_annotations(GREY, standing(), np.full((1, 17), 1), COCO_17)
    assert drawn[y, x].tolist() == list(OUTLINE)


def test_short_limbs_are_thin() -> None:
    """Fingers, whose joints are nearer to each other than the strokes of a large person are thick."""
    row = Skeleton(
        name="row",
        keypoints=tuple("abcdef"),
        flip_pairs=(),
        sigmas=(0.1,) * 6,
        limbs=tuple((i, i + 1) for i in range(5)),
    )
    points = np.column_stack([100 + 1.6 * np.arange(6), np.full(6, 100.0)])
    drawn = draw_poses(GREY, points[None], None, row, bboxes_xywh=[[0, 0, 300, 230]])
    assert inked(drawn)[90:110, 60:150].sum(0).max() < 8  # 11 as thick as an arm


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9])
def test_keypoints_that_are_nowhere_are_not_drawn(value: float) -> None:
    assert not inked(draw_poses(GREY, np.full((2, 17, 2), value), None, COCO_17)).any()


def test_nobody_is_drawn_as_nothing_and_boxes_as_frames() -> None:
    assert not inked(draw_poses(GREY, np.zeros((0, 17, 2)), np.zeros((0, 17)), COCO_17)).any()
    box = [[50, 40, 100, 120]]
    drawn = inked(draw_poses(GREY, standing(), np.zeros((1, 17)), COCO_17, bboxes_xywh=box))
    assert drawn[40, 100] and drawn[160, 100] and drawn[100, 50] and drawn[100, 150]
    assert not drawn[100, 100]


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="scores must have shape"):
        draw_poses(GREY, standing(), np.ones((1, 14)), COCO_17)
    with pytest.raises(ValueError, match="visibility must have shape"):
        draw_annotations(GREY, standing(), np.ones((2, 17)), COCO_17)
    with pytest.raises(ValueError):
        draw_poses(GREY, standing(), None, LSP_14)


def test_beside_keeps_both() -> None:
    assert beside(GREY, GREY).shape == (240, 644, 3)


def test_a_contact_sheet_fits_every_image_into_its_cell() -> None:
    red = np.full((100, 400, 3), (255, 0, 0), np.uint8)
    blue = np.full((30, 10, 3), (0, 0, 255), np.uint8)
    sheet = contact_sheet([red, blue, red], 2, (80, 60))
    assert sheet.shape == (120, 160, 3)
    assert sheet[30, 40].tolist() == [255, 0, 0]
    assert sheet[30, 120].tolist() == [0, 0, 255]
    assert sheet[90, 40].tolist() == [255, 0, 0]
    assert (sheet[60:, 80:] == sheet[0, 0]).all()
    with pytest.raises(ValueError, match="needs images and columns"):
        contact_sheet([], 2, (80, 60))
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        contact_sheet([red, blue], 2, (80, 60), captions=["a"])


@pytest.mark.parametrize(
    ("bbox", "cell"), [((40, 30, 60, 20), (200, 200)), ((-20, 150, 100, 140), (90, 120))]
)
def test_a_zoomed_point_is_where_the_map_says(bbox: tuple[int, ...], cell: tuple[int, int]) -> None:
    x, y = bbox[0] + bbox[2] // 2, bbox[1] + bbox[3] // 2
    image = GREY.copy()
    image[y - 4 : y + 5, x - 4 : x + 5] = 255
    picture, matrix = zoomed(image, bbox, cell)
    assert picture.shape == (cell[1], cell[0], 3)
    bright = np.argwhere(picture[..., 0] > 200).mean(axis=0)[::-1]
    assert warp_points([x, y], matrix) == pytest.approx(bright, abs=0.6)
    low, high = warp_points([[bbox[0], bbox[1]], [bbox[0] + bbox[2], bbox[1] + bbox[3]]], matrix)
    assert (low > 0).all() and (high < cell).all(), "the whole box is in the cell"


def test_a_link_leads_from_one_point_to_the_other() -> None:
    drawn = draw_links(GREY, [[50, 60], [np.nan, 1]], [[150, 60], [9, 9]], [(255, 0, 0), (0, 0, 255)])
    assert (drawn[60, 60:150, 0] > 200).all() and (drawn[60, 60:150, 1] < 60).all()
    assert not inked(drawn)[66:].any()
    assert not (drawn[..., 2] > 200).any(), "a place that is nowhere gets no line"
    assert not inked(draw_links(GREY, np.zeros((0, 2)), np.zeros((0, 2)), [])).any()


def test_lines_of_text_stand_below_the_image() -> None:
    written = with_lines(GREY, [[("OKS 0.12", (255, 255, 255))], [("3 miss", (255, 0, 0))]])
    assert (written[:240] == GREY).all() and written.shape[1] == 320
    below = written[240:]
    assert (below[..., 0] > 200).any() and below.shape[0] == 35
