"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# One torch thread a process keeps tests from fighting over two cores; must be set before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

pytest_plugins = ["tests.coco_files", "tests.object_storage"]

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """What a test's Ray or MLflow writes into the environment must not reach the next test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images, videos and reference files, which are not part of the repository."""
    folder = Path(os.environ.get("VITPOSE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set VITPOSE_SHARED_DATA to its folder")
    return folder
