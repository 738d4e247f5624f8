"""Several data sets in one batch: fixed numbers of each, the same samples for any ranks."""

from collections import Counter

import pytest
import torch

from vitpose.data.augmentation import NO_AUGMENTATION, AugmentationConfig
from vitpose.data.several import SeveralLoader, batch_counts
from vitpose.data.shards import StoredCrop
from vitpose.skeletons.human import COCO_17, CROWDPOSE_14, LSP_14

WH = (48, 64)
SHARES = {"coco": 2, "lsp": 4, "crowdpose": 2}


class Crowd:
    """`count` people of K keypoints, each in a grey of its own, all in view."""

    datasets = ("drawn",)

    def __init__(self, count, keypoints, grey):
        self._count, self.num_keypoints, self._grey = count, keypoints, grey
        self.dataset_index = torch.zeros(count, dtype=torch.int64).numpy()

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        image = torch.full((80, 60, 3), self._grey + index, dtype=torch.uint8).numpy()
        points = torch.linspace(20, 40, self.num_keypoints).double()
        return StoredCrop(
            image=image,
            keypoints=torch.stack([points, points], dim=1).numpy(),
            visibility=torch.full((self.num_keypoints,), 2, dtype=torch.uint8).numpy(),
            bbox_xywh=torch.tensor([15.0, 20.0, 30.0, 40.0]).double().numpy(),
        )


HEADS = [(Crowd(20, 17, 10), COCO_17), (Crowd(41, 14, 50), LSP_14), (Crowd(3, 14, 200), CROWDPOSE_14)]


def loader(**change):
    options = {"crop_wh": WH, "batch_size": 8, "seed": 3, "workers": 0, "shares": SHARES, **change}
    return SeveralLoader(HEADS, options.pop("config", AugmentationConfig()), **options)


def samples(batches):
    """One string a sample of each batch."""
    return [
        [
            b"".join(
                field[i].numpy().tobytes()
                for field in (b.images, b.keypoints_heatmap, b.visibility, b.dataset_index)
            )
            for i in range(len(b.images))
        ]
        for b in batches
    ]


def epoch(number, start=0, **change):
    found = loader(**change)
    found.set_epoch(number, start)
    return samples(found)


def test_every_batch_has_its_number_of_each_data_set() -> None:
    found = loader()
    assert len(found) == 64 // 8
    for batch in found:
        assert Counter(batch.dataset_index.tolist()) == {0: 2, 1: 4, 2: 2}
        assert batch.keypoints_heatmap.shape == (8, 17, 2) and batch.visibility.shape == (8, 17)
        shorter = batch.dataset_index > 0
        assert not batch.visibility[shorter, 14:].any() and batch.visibility[:, :14].all()
        assert len(batch.ids) == 8


def test_ranks_divide_the_batch_in_the_order_that_one_process_has() -> None:
    halves = [epoch(1, batch_size=8, rank=rank, world_size=2) for rank in range(2)]
    assert [a + b for a, b in zip(*halves, strict=True)] == epoch(1, batch_size=16)
    whole = epoch(1)
    assert epoch(1) == whole and epoch(2) != whole and epoch(1, seed=4) != whole
    assert epoch(1, workers=2) == whole


def test_an_epoch_goes_on_in_its_middle() -> None:
    assert epoch(1, start=5) == epoch(1)[5:]
    with pytest.raises(ValueError, match="start_step is 9; expected 0 to 8"):
        loader().set_epoch(0, 9)


def test_a_small_data_set_comes_again_and_no_person_twice_more_than_another() -> None:
    found = loader(config=NO_AUGMENTATION)
    shown = Counter(int(image[32, 24, 0]) for batch in found for image in as_rgb(batch.images))
    small = {grey: count for grey, count in shown.items() if grey >= 200}
    assert set(small) == {200, 201, 202} and sum(small.values()) == 16
    assert max(small.values()) - min(small.values()) <= 1
    assert all(count == 1 for grey, count in shown.items() if grey < 200)
    again = Counter(one for batch in epoch(0) for one in batch)
    assert max(again.values()) == 1  # each time augmented anew


def as_rgb(images):
    """(B, H, W, 3) bytes."""
    assert images.dtype == torch.uint8
    return images


@pytest.mark.parametrize(
    ("shares", "batch", "workers", "expected"),
    [
        (None, 8, 1, {"coco": 4, "lsp": 3, "crowdpose": 1}),  # 5 : 4 : 1 of 8 is 4, 3.2, 0.8
        ({"coco": 1, "lsp": 1, "crowdpose": 2}, 16, 4, {"coco": 4, "lsp": 4, "crowdpose": 8}),
    ],
)
def test_shares_are_rounded_by_the_largest_remainders(shares, batch, workers, expected) -> None:
    people = {"coco": 50, "lsp": 40, "crowdpose": 10}
    assert batch_counts(shares, people, batch, workers) == expected


@pytest.mark.parametrize(
    ("people", "shares", "batch", "workers", "message"),
    [
        (
            {"coco": 86, "lsp": 4000, "crowdpose": 2}, None, 32, 2,
            r"a batch of 32 would have coco 1, lsp 31, crowdpose 0 in proportion to their people; .*"
            r"VITPOSE_WORKERS=2: set head_shares to \{coco: 2, lsp: 28, crowdpose: 2\}",
        ),
        ({"a": 5, "b": 5}, {"a": 3, "b": 1}, 8, 4, r"would have a 6, b 2 .* to \{a: 4, b: 4\}"),
        ({"a": 5, "b": 5}, None, 6, 4, "set batch_size to a multiple of 4 of at least 8, or fewer"),
        ({"a": 5, "b": 5}, {"a": 1}, 8, 1, "head_shares names a, the heads are a, b"),
        ({"a": 5, "b": 5}, {"a": 1, "b": 0}, 8, 1, "expected numbers above 0"),
    ],
)  # fmt: skip
def test_shares_that_do_not_divide_are_refused_with_some_that_do(
    people, shares, batch, workers, message
) -> None:
    with pytest.raises(ValueError, match=message):
        batch_counts(shares, people, batch, workers)


def test_what_the_refusal_proposes_is_accepted() -> None:
    people = {"coco": 86, "lsp": 4000, "crowdpose": 2}
    with pytest.raises(ValueError):
        batch_counts(None, people, 32, 2)
    assert batch_counts({"coco": 2, "lsp": 28, "crowdpose": 2}, people, 32, 2) == {
        "coco": 2, "lsp": 28, "crowdpose": 2,
    }  # fmt: skip
