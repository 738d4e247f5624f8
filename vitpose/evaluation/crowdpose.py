"""CrowdPose's figures: AP and AR as COCO's, and AP by how crowded an image is.

Li et al., CVPR 2019. The data set has no areas: evaluators take `area_of_bbox=AREA_OF_BBOX`.
"""

from vitpose.evaluation.coco import KeypointEvaluator

AREA_OF_BBOX = 0.53
"""Area of a person as a share of width x height of its box, in the official evaluation."""

EASY_BELOW, HARD_FROM = 0.2, 0.8
"""Of an image's crowd index: easy < 0.2 <= medium < 0.8 <= hard."""

SHARED = ("AP", "AP50", "AP75", "AR", "AR50", "AR75")
"""The figures that CrowdPose has in common with COCO."""


def crowdpose_figures(evaluator: KeypointEvaluator) -> dict[str, float]:
    """`SHARED` and AP_easy, AP_medium, AP_hard; -1 where no person is in images of that kind.

    Raises `ValueError` where an image of the ground truth has no crowd index, or the evaluator was not
    made with `area_of_bbox=AREA_OF_BBOX`.
    """
    check_area(evaluator, "CrowdPose")
    kinds: dict[str, list[int]] = {"easy": [], "medium": [], "hard": []}
    for image in evaluator.truth.images.values():
        if image.crowd_index is None:
            raise ValueError(
                f"{evaluator.truth.source}: image {image.image_id} has no 'crowdIndex'; is it CrowdPose?"
            )
        easy, hard = image.crowd_index < EASY_BELOW, image.crowd_index >= HARD_FROM
        kinds["easy" if easy else "hard" if hard else "medium"].append(image.image_id)
    figures = evaluator.evaluate()
    return {
        **{name: figures[name] for name in SHARED},
        **{
            f"AP_{kind}": evaluator.evaluate(images=ids)["AP"] if ids else -1.0
            for kind, ids in kinds.items()
        },
    }


def check_area(evaluator: KeypointEvaluator, who: str) -> None:
    """Raise `ValueError` unless the evaluator takes `AREA_OF_BBOX`, as `who` does."""
    if evaluator.protocol.area_of_bbox != AREA_OF_BBOX:
        raise ValueError(
            f"{who} takes {AREA_OF_BBOX} of the box as a person's area; make the evaluator with "
            f"area_of_bbox={AREA_OF_BBOX}, not {evaluator.protocol.area_of_bbox}"
        )
