"""What is the same for every format: what is missing is named before anything is read."""

from typing import get_args

import pytest

from vitpose.data.readers.formats import Format, read_people


@pytest.mark.parametrize("file_format", get_args(Format))
def test_what_is_missing_is_named(tmp_path, file_format):
    with pytest.raises(FileNotFoundError, match="annotation file .*absent.* is not there; put"):
        read_people(tmp_path / "absent", tmp_path, "set", file_format)
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="image folder .*nowhere is not there; put"):
        read_people(tmp_path / "file", tmp_path / "nowhere", "set", file_format)


@pytest.mark.parametrize("file_format", get_args(Format))
def test_an_empty_file_is_one_clear_line(tmp_path, file_format):
    path = tmp_path / "empty"
    path.touch()
    with pytest.raises(ValueError, match="expected") as error:
        read_people(path, tmp_path, "set", file_format)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_format_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="format 'voc' is not read; expected coco, aic"):
        read_people(tmp_path / "file", tmp_path, "set", "voc")  # type: ignore[arg-type]
