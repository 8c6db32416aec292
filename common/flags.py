"""A field of a program's settings, as the command line shows it (see `common.cli`)."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def flag(default: Any, help: str, group: str, **more: Any) -> Any:
    """A dataclass field with its line of --help and the heading that it stands under; more: further metadata."""
    return field(default=default, metadata={"help": help, "group": group, **more})
