"""Which files of a folder training reads: each is a data set."""

from __future__ import annotations

from pathlib import Path

from common.reading import ROW_FORMATS

SUFFIXES = tuple(s + zipped for s in ROW_FORMATS for zipped in ("", ".gz"))


def data_files(folder: Path) -> list[Path]:
    """All data sets below a folder, in the order in which they are read; [] where there is no such folder."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
