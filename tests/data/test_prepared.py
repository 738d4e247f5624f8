import pytest

from vitpose.data.prepared import (
    PreparedDataset,
    load_prepared,
    load_rejected,
    save_prepared,
    save_rejected,
)
from vitpose.preparation.rows import Rejected
from vitpose.skeletons.human import LSP_14

PREPARED = PreparedDataset(
    digest="ab12", skeleton=LSP_14, datasets=("a", "b"), counts={"train": 3}, val_images="data/raw"
)


def test_loading_inverts_saving(tmp_path):
    save_prepared(PREPARED, tmp_path)
    assert load_prepared(tmp_path) == PREPARED
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]


def test_unfinished_or_foreign_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the prepare stage"):
        load_prepared(tmp_path)
    for text in ("{", "{}", '{"digest": "a", "skeleton": {}}', "[]"):
        (tmp_path / "dataset.json").write_text(text)
        with pytest.raises(ValueError, match="run prepare again"):
            load_prepared(tmp_path)


def test_rejected_rows_survive_and_do_not_depend_on_order(tmp_path):
    rejected = [
        Rejected(dataset="d", image="a.jpg", annotation_id=3, reason="crowd"),
        Rejected(dataset="d", image="", annotation_id=None, reason="image entry without a file_name"),
    ]
    save_rejected(rejected, tmp_path / "one.parquet")
    save_rejected(rejected[::-1], tmp_path / "two.parquet")
    assert sorted(load_rejected(tmp_path / "one.parquet"), key=str) == sorted(rejected, key=str)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    save_rejected([], tmp_path / "none.parquet")
    assert load_rejected(tmp_path / "none.parquet") == []
