"""A detector and a model that take their process down, for a test, by Ray's hook for workers."""

import ctypes
from pathlib import Path

DEADLY_WIDTH = 80
"""Of the pictures that end the process."""

DEADLY_FOLDER = "deadly-model"
"""Of the model that ends the process that loads it."""


def install() -> None:
    """In each process that Ray starts: `frame` and the loading read from address 0 when they see one."""
    from vitpose.labels import unit
    from vitpose.video import detectors

    harmless = detectors.whole_frame

    def deadly(image):  # type: ignore[no-untyped-def]
        if image.shape[1] == DEADLY_WIDTH:
            ctypes.string_at(0)
        return harmless(image)

    detectors.whole_frame = deadly
    load = unit.load_runnable

    def loading(folder: Path):  # type: ignore[no-untyped-def]
        if folder.name == DEADLY_FOLDER:
            ctypes.string_at(0)
        return load(folder)

    unit.load_runnable = loading
