"""Frames of a video as JPEG, by index: what a browser's own player cannot do exactly.

Frames come from `vitpose.video.frames`, so picture and row have the same index by construction. A frame
far from a keyframe costs as much as all between, so what was decoded is kept, and the clip is decoded
from the moment it is opened, by threads that stand still while somebody waits for a frame. Knows no
labels.
"""

import atexit
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Condition, Lock, Thread

import numpy as np

from vitpose.pixels import encode_jpeg
from vitpose.video.frames import Frame, Probed, probe, read_frames

QUALITY = 88
AHEAD = 24
"""Frames after the last one asked that are decoded even where the rest has no room."""
_BACK = 12  # frames decoded before the one asked by who goes backwards
_NEAR = 8  # so many frames on, going there costs less than entering the file anew
_SEGMENT = 64  # frames that the decoder of who asks is opened for
_STRETCH = 128  # frames at most that a thread decodes at a time
_CACHE_BYTES = 192 * 2**20
_THREADS = min(4, max(1, (os.cpu_count() or 2) - 1))


class Pictures:
    """One video; may be asked by several threads.

    Args:
        path: the video.
        digest: SHA-256 it must have, None for any.

    Raises:
        ValueError: another file than the labels are of, or not a video.
        FileNotFoundError: nothing there.
    """

    def __init__(self, path: Path, digest: str | None = None) -> None:
        self._probed: Probed = probe(path)
        if digest is not None and self._probed.info.digest != digest:
            raise ValueError(
                f"{path} is not the file that was labelled: its SHA-256 is "
                f"{self._probed.info.digest[:12]}, the labels' {digest[:12]}"
            )
        self.count = self._probed.info.frames
        self._stretches = stretches(self._probed)
        self._kept: OrderedDict[int, bytes | None] = OrderedDict()
        self._bytes, self._asked, self._seeks, self._waiting = 0, 0, 0, 0
        self._taken: set[range] = set()  # what threads decode now, and what none could
        self._changed = Condition()  # guards all above
        self._decoder: Iterator[Frame] = iter(())  # of who asks; guarded by _asking, with the next two
        self._next, self._stop = 0, 0  # what it gives next, and where it ends
        self._asking = Lock()
        self._ended = False
        self._threads = [Thread(target=self._decode_ahead, daemon=True) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)  # a decoder that runs while Python ends takes the process down

    def close(self) -> None:
        """Decode ahead no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def jpeg(self, index: int) -> bytes | None:
        """A frame; None where it does not decode.

        Raises `ValueError` for an index that the video has not.
        """
        if not 0 <= index < self.count:
            raise ValueError(f"frame {index}: the video has frames 0 to {self.count - 1}")
        with self._changed:
            backwards, self._asked = index == self._asked - 1, index
            self._changed.notify_all()
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            self._seeks += 1
            self._waiting += 1
        try:
            with self._asking:
                return self._decoded(index, max(0, index - _BACK) if backwards else index)
        finally:
            with self._changed:
                self._waiting -= 1
                self._changed.notify_all()

    def _decoded(self, index: int, start: int) -> bytes | None:
        """Decode to the frame `index`, from `start` if from anew; the caller holds `_asking`."""
        with self._changed:
            if index in self._kept:  # while another one was waited for
                return self._kept[index]
        if not self._next <= index < min(self._stop, self._next + _NEAR):
            self._next, self._stop = start, min(index + _SEGMENT, self.count)
            self._decoder = read_frames(self._probed, self._next, self._stop)
        for frame in self._decoder:
            jpeg = self._keep(frame)
            self._next = frame.index + 1
            if frame.index == index:
                return jpeg
        raise ValueError(f"{self._probed.path}: no frame {index}; the file has changed")

    def _keep(self, frame: Frame) -> bytes | None:
        jpeg = None if frame.image is None else encode_jpeg(frame.image, QUALITY)
        with self._changed:
            if frame.index not in self._kept:
                self._kept[frame.index] = jpeg
                self._bytes += len(jpeg or b"")
            while self._bytes > _CACHE_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1] or b"")
        return jpeg

    def _decode_ahead(self) -> None:
        """What a thread does: a run of frames, then the next that is due."""
        while True:
            with self._changed:
                run = self._due()
                while run is None and not self._ended:
                    self._changed.wait()
                    run = self._due()
                if run is None or self._ended:
                    return
                self._taken.add(run)
                seeks = self._seeks
            try:
                for frame in read_frames(self._probed, run.start, run.stop):
                    self._keep(frame)
                    with self._changed:
                        self._changed.wait_for(lambda: self._ended or not self._waiting)
                        if self._ended or seeks != self._seeks:  # others may be due now
                            break
            except (ValueError, OSError):
                continue  # it stays taken; whoever asks for such a frame hears why
            with self._changed:
                self._taken.discard(run)

    def _due(self) -> range | None:
        """The run of frames to decode next; None where there is no room. The caller holds `_changed`."""
        soon = range(self._asked, min(self._asked + AHEAD, self.count))
        if self._bytes > _CACHE_BYTES * 0.75:
            return self._missing(soon)
        here = next(i for i, one in enumerate(self._stretches) if self._asked < one.stop)
        first = self._stretches[here]
        behind = [range(first.start, self._asked), *self._stretches[:here]]
        runs = [range(self._asked, first.stop), *self._stretches[here + 1 :], *behind]
        return next((run for one in runs if (run := self._missing(one))), None)

    def _missing(self, frames: range) -> range | None:
        """From the first to the last of these that is not kept; None where a thread has some of them."""
        lost = [index for index in frames if index not in self._kept]
        if not lost:
            return None
        run = range(lost[0], lost[-1] + 1)
        busy = any(run.start < other.stop and other.start < run.stop for other in self._taken)
        return None if busy else run


def stretches(probed: Probed) -> list[range]:
    """The frames of a video in order, in runs that begin at keyframes where these are known and near."""
    count, packets = probed.info.frames, probed.packets
    if not packets.timed:
        return [range(count)]  # every run would be decoded from the beginning of the file
    keys = np.searchsorted(packets.times, sorted(pts for pts, _ in packets.keys))
    starts = sorted({0, *(int(key) for key in keys if key < count)})
    found = []
    for start, stop in zip(starts, [*starts[1:], count], strict=True):
        found += [range(at, min(at + _STRETCH, stop)) for at in range(start, stop, _STRETCH)]
    return found
