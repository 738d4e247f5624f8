"""Packages that only some formats need; they come with vitpose[formats]."""

import importlib
import importlib.util
from typing import Any

NEEDED = {"deeplabcut": ("pandas", "tables"), "sleap": ("sleap_io",), "nwb": ("pynwb", "ndx_pose")}
"""By format, the modules."""


def needed(module: str) -> Any:
    """A module. Raises `ValueError` with the remedy where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"this format needs the package {module.replace('_', '-')} ({error}); "
            "pip install 'vitpose[formats]'"
        ) from error
