import pytest

from vitpose.data.augmentation import AugmentationConfig
from vitpose.data.prepared import PreparedDataset, check_room, load_prepared, save_prepared
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


def test_an_augmentation_stays_within_what_crops_were_cut_for():
    published = AugmentationConfig()
    check_room(published.scale_factor, published.shift_factor)
    with pytest.raises(ValueError, match=r"scale_factor is 0\.75.*room for 0\.5.*set it to 0\.5 or less"):
        check_room(0.75, 0.2)
    with pytest.raises(ValueError, match=r"shift_factor is 0\.3.*room for 0\.2"):
        check_room(0.5, 0.3)
