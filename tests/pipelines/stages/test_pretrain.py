"""What a backbone learns from: crops of people, or whole images."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.stages.prepare import PrepareConfig, Source, prepare
from pipelines.stages.pretrain import PretrainConfig, pictures, pretrain
from vitpose.data.prepared import load_prepared
from vitpose.people.dataset import PeopleConfig, write_people_dataset

CROPS = PretrainConfig(epochs=1, batch_size=2)
WHOLE = replace(CROPS, whole_images=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """crops/ as by default, both/ with whole images."""
    folder = tmp_path_factory.mktemp("people")
    write_people_dataset(folder / "raw", count=5, seed=0, config=PeopleConfig(image_wh=(96, 64)))
    annotations, images = str(folder / "raw" / "annotations.json"), str(folder / "raw" / "images")
    source = Source(name="people", annotations=annotations, images=images)
    config = PrepareConfig(train=(source,), val=source, leak_check=False)
    prepare(config, (32, 24), out=folder / "crops")
    prepare(replace(config, whole_images=True), (32, 24), out=folder / "both")
    return folder


def test_whole_images_are_learned_from_where_prepare_stored_them(prepared: Path) -> None:
    counts = load_prepared(prepared / "both").counts
    assert len(pictures(prepared / "both", CROPS)) == counts["train_people"]
    whole = pictures(prepared / "both", WHOLE)
    assert len(whole) == counts["train_images"] and whole.datasets == ("people",)
    assert {whole[i].image.shape[1] for i in range(len(whole))} == {64}  # twice the network's side
    one, other = (load_prepared(prepared / name).digest for name in ("crops", "both"))
    assert one != other
    with pytest.raises(FileNotFoundError, match=r"set prepare\.whole_images to true"):
        pictures(prepared / "crops", WHOLE)


def test_weights_of_unknown_data_sets_stop_the_driver(prepared: Path) -> None:
    weighed = replace(CROPS, dataset_weights={"peeple": 1.0})
    with pytest.raises(ValueError, match="names peeple, the data sets are people"):
        pretrain("nano", (32, 24), weighed, data=prepared / "crops", out=prepared / "out")
