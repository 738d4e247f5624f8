"""What a person sees of long work."""

import io
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.cluster import progress
from pipelines.cluster.progress import Progress, Shown, clock, figures, following, say


class Steps:
    """A loader of 4 batches, each of which takes 4 seconds of a clock of its own."""

    def __init__(self) -> None:
        self.now, self.epoch = 100.0, 0

    def __len__(self) -> int:
        return 4

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
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
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=loader.monotonic))
    shown = Shown(loader, log=str(tmp_path / "log"), name="finetune-nano", epochs=3, batch_size=8)
    for epoch in range(3):
        shown.set_epoch(epoch)
        list(shown)
    assert (tmp_path / "log").read_text().splitlines() == [
        "finetune-nano  epoch 1/3 step 3/4  2 img/s  0:00:36 left",
        "finetune-nano  epoch 2/3 step 2/4  2 img/s  0:00:24 left",
        "finetune-nano  epoch 3/3 step 1/4  2 img/s  0:00:12 left",
        "finetune-nano  epoch 3/3 step 4/4  2 img/s  0:00:00 left",
    ]


def test_a_resumed_run_knows_what_is_left_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Steps()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=loader.monotonic))
    shown = Shown(loader, log=str(tmp_path / "log"), name="x", epochs=3, batch_size=8)
    shown.set_epoch(2)
    list(shown)
    assert (tmp_path / "log").read_text() == "x  epoch 3/3 step 3/4  2 img/s  0:00:04 left\n"


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
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (95, "0:01:35"), (36000, "10:00:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("live", [False, True])
def test_a_log_gets_a_line_every_ten_seconds_and_a_terminal_one_that_changes(
    live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, file = Steps(), io.StringIO()
    monkeypatch.setattr(file, "isatty", lambda: live)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=steps.monotonic))
    with Progress("label", 8, "frames", file) as shown:
        for _, index in steps:
            shown.advance(1, "broken.mp4 is no video" if index == 1 else "")
    lines = file.getvalue().replace("\r\033[K", "\n" if live else "").strip().splitlines()
    assert lines[-1] == "label  4/8 frames  0.2/s  0:00:16"
    assert "broken.mp4 is no video" in lines
    assert "label  3/8 frames  0.2/s  0:00:20 left" in lines
    assert ("label  1/8 frames  0.2/s  0:00:28 left" in lines) is live
    assert ("\r" in file.getvalue()) is live


def test_a_note_ends_the_lines_but_the_last() -> None:
    out = io.StringIO()
    with Progress("label", 4, "frames", file=out) as shown:
        shown.every, shown.note = 0, "forward 80%"
        shown.advance(2)
    first, last = out.getvalue().splitlines()
    assert first.startswith("label  2/4 frames") and first.endswith("(forward 80%)")
    assert "forward" not in last
