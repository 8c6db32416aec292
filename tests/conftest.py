"""Fixtures that all tests share: reference material where it is at hand, tiny random models, real weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference material (golden arrays, papers, small trained Llamas); skips where it is missing."""
    folder = Path(os.environ.get("EMBED_SHARED", REPO.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference material not found at {folder}; set EMBED_SHARED")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets as JSON Lines; skips where they are missing."""
    folder = Path(os.environ.get("EMBED_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set EMBED_DATA")
    return folder
