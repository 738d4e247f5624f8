"""Opening .mat files (MATLAB 5): the variables as plain dictionaries, lists and arrays."""

from pathlib import Path
from typing import Any

from scipy.io import loadmat


def read_mat(path: Path, variable: str, expected: str) -> Any:
    """One variable; structs are dictionaries, struct arrays lists of them, sizes of 1 are squeezed.

    Raises `FileNotFoundError` where there is no such file, `ValueError` where it is not a .mat file with
    the variable; `expected` says in words what the file should be.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"annotation file {path} is not there; put the dataset there or name the right path"
        )
    try:
        content = loadmat(path, simplify_cells=True, variable_names=[variable])
    except Exception as error:  # scipy raises whatever its parser meets in a broken file
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} is not a MATLAB 5 file ({first_line}); expected {expected}, download the file anew"
        ) from None
    if variable not in content:
        raise ValueError(
            f"{path} has no variable {variable!r}; expected {expected}, name the right file or format"
        )
    return content[variable]
