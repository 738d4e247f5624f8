"""What a person sees of a training run."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.cluster import train_progress
from pipelines.cluster.train_progress import Shown, clock, figures, following, say


class Steps:
    """A loader of 4 batches, each of which takes 4 seconds of a clock of its own."""

    def __init__(self) -> None:
        self.now, self.epoch = 100.0, 0

    def __len__(self) -> int:
        return 4

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for index in range(4):
            self.now += 4
            yield self.epoch, index

    def monotonic(self) -> float:
        return self.now


def test_a_shown_loader_gives_the_loaders_batches(tmp_path: Path) -> None:
    shown = Shown(Steps(), log=str(tmp_path / "log"), name="x", epochs=2, batch_size=8)
    assert len(shown) == 4
    for epoch in range(2):
        shown.set_epoch(epoch)
        assert list(shown) == list(shown) == [(epoch, index) for index in range(4)]


def test_every_ten_seconds_it_says_how_far_how_fast_and_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Steps()
    monkeypatch.setattr(train_progress, "time", SimpleNamespace(monotonic=loader.monotonic))
    shown = Shown(loader, log=str(tmp_path / "log"), name="finetune-nano", epochs=3, batch_size=8)
    for epoch in range(3):
        shown.set_epoch(epoch)
        list(shown)
    assert (tmp_path / "log").read_text().splitlines() == [
        "finetune-nano  epoch 1/3 step 3/4  2 img/s  0:36 left",
        "finetune-nano  epoch 2/3 step 2/4  2 img/s  0:24 left",
        "finetune-nano  epoch 3/3 step 1/4  2 img/s  0:12 left",
        "finetune-nano  epoch 3/3 step 4/4  2 img/s  0:00 left",
    ]


def test_a_resumed_run_knows_what_is_left_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Steps()
    monkeypatch.setattr(train_progress, "time", SimpleNamespace(monotonic=loader.monotonic))
    shown = Shown(loader, log=str(tmp_path / "log"), name="x", epochs=3, batch_size=8)
    shown.set_epoch(2)
    list(shown)
    assert (tmp_path / "log").read_text() == "x  epoch 3/3 step 3/4  2 img/s  0:04 left\n"


def test_what_is_said_meanwhile_is_printed_and_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "progress.log"
    with following(log):  # the file is not there yet
        say(str(log), "nano", "epoch 1/2")
        began, printed = time.monotonic(), ""
        while not printed and time.monotonic() - began < 10:
            time.sleep(0.05)
            printed = capsys.readouterr().out
        assert printed == "nano  epoch 1/2\n"
        say(str(log), "nano", "epoch 2/2: done")  # just before the end
    assert capsys.readouterr().out == "nano  epoch 2/2: done\n"
    with following(log):  # a run that goes on, after it was killed
        say(str(log), "nano", "again")
    assert capsys.readouterr().out == "nano  again\n"


def test_figures_are_short() -> None:
    row = {"loss": 0.00123456, "images_per_second": 81.6, "AP": 0.5, "PCK": 0.25, "lr": 1e-3}
    assert figures(row) == "loss 0.00123  82 img/s  AP 0.500  PCK 0.250"
    assert figures({"loss": 1.5, "images_per_second": 8.0}) == "loss 1.5  8 img/s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.2, "1:00"), (95, "1:35"), (3600, "60:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
