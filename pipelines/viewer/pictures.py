"""Frames of a video as JPEG, by index: what a browser's own player cannot do exactly.

Frames come from `vitpose.video.frames`, so picture and row have the same index by construction. What was
decoded is kept. While nobody asks, the frames after the last one asked are decoded, then all others that
the cache has room for: a seek far from a keyframe costs as much as all frames between. Knows no labels.
"""

import atexit
import time
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from threading import Event, Lock, Thread

from vitpose.pixels import encode_jpeg
from vitpose.video.frames import Frame, Probed, probe, read_frames

QUALITY = 88
AHEAD = 24
"""Frames after the last one asked that are decoded in any case."""
_BACK = 12  # frames decoded before the one asked by who goes backwards
_SEGMENT = 64  # frames that a decoder is opened for; finding its packets costs as much as they are
_CACHE_BYTES = 192 * 2**20


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
        self._lock = Lock()
        self._kept: OrderedDict[int, bytes | None] = OrderedDict()
        self._bytes = 0
        self._decoder: Iterator[Frame] = iter(())
        self._next, self._stop = 0, 0  # what the decoder gives next, and where it ends
        self._asked = -1
        self._wanted, self._ended = Event(), False
        self._thread = Thread(target=self._look_ahead, daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a decoder that runs while Python ends takes the process down

    def close(self) -> None:
        """Decode ahead no more."""
        self._ended = True
        self._wanted.set()
        self._thread.join()

    def jpeg(self, index: int) -> bytes | None:
        """A frame; None where it does not decode.

        Raises `ValueError` for an index that the video has not.
        """
        if not 0 <= index < self.count:
            raise ValueError(f"frame {index}: the video has frames 0 to {self.count - 1}")
        with self._lock:
            backwards, self._asked = index == self._asked - 1, index
            if index not in self._kept:
                if not self._next <= index < min(self._stop, self._next + AHEAD):
                    self._open(max(0, index - _BACK) if backwards else index)
                while index not in self._kept:
                    self._step()
            self._kept.move_to_end(index)
            found = self._kept[index]
        self._wanted.set()
        return found

    def _open(self, index: int) -> None:
        self._next, self._stop = index, min(index + _SEGMENT, self.count)
        self._decoder = read_frames(self._probed, index, self._stop)

    def _step(self) -> None:
        """Decode one frame more; the caller holds the lock."""
        frame = next(self._decoder, None)
        if frame is None:
            raise ValueError(f"{self._probed.path}: no frame {self._next}; the file has changed")
        jpeg = None if frame.image is None else encode_jpeg(frame.image, QUALITY)
        self._bytes += len(jpeg or b"")
        self._kept[frame.index], self._next = jpeg, frame.index + 1
        while self._bytes > _CACHE_BYTES:
            self._bytes -= len(self._kept.popitem(last=False)[1] or b"")

    def _look_ahead(self) -> None:
        """One frame at a time, so that a question never waits for more than one."""
        while not self._ended:
            self._wanted.wait()
            self._wanted.clear()
            while not self._ended and self._one_more():
                time.sleep(0.001)  # outside the lock, which is not fair: whoever asks gets it now

    def _one_more(self) -> bool:
        """Decode the frame that is wanted next; False where none is."""
        with self._lock:
            due = self._due()
            if due is None:
                return False
            try:
                if due != self._next or due >= self._stop:
                    self._open(due)
                self._step()
            except (ValueError, OSError):
                return False  # whoever asks for that frame hears why
            return True

    def _due(self) -> int | None:
        soon = range(self._asked + 1, min(self._asked + 1 + AHEAD, self.count))
        if near := [i for i in soon if i not in self._kept]:
            return near[0]
        if self._bytes > _CACHE_BYTES * 0.75:
            return None
        others = chain(range(max(0, self._asked), self.count), range(self._asked))
        return next((i for i in others if i not in self._kept), None)
