"""The 80 object classes of COCO: their names, and their numbers in networks of 80 and of 91 classes.

Networks of 80 classes number them without gaps from 0; those of 91 by COCO's own ids, which have gaps.
"""

from pathlib import Path

NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag",
    "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat",
    "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog",
    "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv",
    "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

_UNUSED = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}

IDS = tuple(number for number in range(1, 91) if number not in _UNUSED)
"""COCO's ids, in the order of `NAMES`."""


def class_number(wanted: str, count: int | None, file: Path) -> int:
    """The number that a network of `count` classes (None: not known) has for a class.

    Args:
        wanted: one of `NAMES`, or the number itself.
        file: of the network, for messages.

    Raises `ValueError`: no such class, or a name where the classes are not COCO's.
    """
    if wanted.isdigit():
        if count is not None and int(wanted) >= count:
            raise ValueError(f"{file}: no class {wanted}; it has {count}, numbered from 0")
        return int(wanted)
    if wanted not in NAMES:
        raise ValueError(
            f"{file}: unknown class {wanted!r}; expected a number or one of COCO's names: "
            f"{', '.join(NAMES)}"
        )
    if count not in (80, 91):
        raise ValueError(
            f"{file}: has {count or 'an unknown number of'} classes, which are not COCO's 80, so "
            f"{wanted!r} is not known; give the number of the class, such as onnx:{file.name}:0"
        )
    index = NAMES.index(wanted)
    return index if count == 80 else IDS[index]
