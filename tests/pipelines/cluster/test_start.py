"""What Ray writes while it starts is kept from the user; what others write is not."""

import os
import sys

import pytest

from pipelines.cluster.start import _quiet


def test_rays_lines_are_kept_and_others_come_through(capfd: pytest.CaptureFixture[str]) -> None:
    line = "[2026-11-27 00:17:48,639 I 8788 8788] logging.cc:303: Set ray log level"
    with _quiet():
        os.write(2, f"{line}\n".encode())
        print("a warning of Python", file=sys.stderr)
        os.write(2, b"[2 of 3] ours\n")
    assert capfd.readouterr().err == "a warning of Python\n[2 of 3] ours\n"
    with pytest.raises(ValueError, match="no cluster"), _quiet():
        os.write(2, f"{line}\nwhy\n".encode())
        raise ValueError("no cluster")
    assert capfd.readouterr().err == "why\n"
