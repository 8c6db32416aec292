"""benchmarks/cells.py: a cell is another one after a change of what its numbers depend on."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import cells
from common import registry

METHOD = "from common.registry import Method\n\nMETHOD = Method({!r})\n"


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """`outside(files, load)` installs the method "theirs", which has these files and is loaded so; gives the folder."""
    site = tmp_path / "site"

    def install(files: dict[str, str], load: str) -> Path:
        info = site / "their_package-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\ntheirs = theirs_entry:METHOD\n")
        for name, text in {"theirs_entry.py": METHOD.format(load), **files}.items():
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).write_text(text)
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()
        registry._all.cache_clear()
        return site

    yield install
    registry._all.cache_clear()
    for name in ("theirs_entry", "theirs_code"):
        sys.modules.pop(name, None)


def test_the_version_follows_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in ("common", "senteval", "benchmarks", "angle"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "code.py").write_text("a = 1")
    monkeypatch.setattr(cells, "ROOT", tmp_path)
    angle, bellm = cells.sources_hash("angle"), cells.sources_hash("bellm")
    (tmp_path / "angle" / "code.py").write_text("a = 2")
    assert cells.sources_hash("angle") != angle
    assert cells.sources_hash("bellm") == bellm
    (tmp_path / "common" / "code.py").write_text("a = 2")
    assert cells.sources_hash("bellm") != bellm


def test_the_version_is_the_same_in_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A study that goes on in a moved checkout is of the same sources."""
    monkeypatch.setattr(cells, "SHIPPED", tmp_path)  # lies in the project, too
    versions = []
    for name in ("here", "there"):
        (tmp_path / name / "angle").mkdir(parents=True)
        (tmp_path / name / "angle" / "code.py").write_text("a = 1")
        monkeypatch.setattr(cells, "ROOT", tmp_path / name)
        monkeypatch.setattr(cells, "_places", lambda package: [])
        versions.append(cells.sources_hash("angle"))
    assert versions[0] == versions[1]


def test_the_version_follows_a_package_from_outside(outside: Callable[..., Path]) -> None:
    files = {"theirs_code/__init__.py": "", "theirs_code/encoder.py": "a = 1", "theirs_code/sizes.yaml": "b: 1"}
    site = outside(files | {"another/code.py": "c = 1"}, "theirs_code.encoder:load")
    versions = [cells.sources_hash("theirs")]
    for name in ("theirs_code/encoder.py", "theirs_code/sizes.yaml"):
        (site / name).write_text("b: 2")
        versions.append(cells.sources_hash("theirs"))
    assert len(set(versions)) == 3
    (site / "another/code.py").write_text("c = 2")
    assert cells.sources_hash("theirs") == versions[-1], "a package that the method is not of"
    assert "theirs_code" not in sys.modules


def test_the_version_follows_a_module_from_outside(outside: Callable[..., Path]) -> None:
    site = outside({"theirs_code.py": "a = 1"}, "theirs_code:load")
    before = cells.sources_hash("theirs")
    (site / "theirs_code.py").write_text("a = 2")
    assert cells.sources_hash("theirs") != before


def test_a_package_that_is_gone_has_no_sources(outside: Callable[..., Path]) -> None:
    outside({}, "theirs_code.encoder:load")
    assert cells.sources_hash("theirs") == cells.sources_hash("sentence-transformer")
