"""Released model ids -> how to load them: one checkpoints.yaml per paper."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """One released model.

    Attributes:
        base: the model whose weights the trunk takes.
        adapter: LoRA adapters to put on, in order; empty for a model with weights of its own.
        options: settings of the method's `load`: template, pooling, attention, max_length, ...
    """

    base: str
    adapter: tuple[str, ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


@functools.cache
def read_checkpoints(file: Path) -> dict[str, Checkpoint]:
    """The checkpoints of one paper, by released id.

    The file maps an id to `base`, optional `adapter` (a name, a list, or absent), and any option of `load`.
    """
    found = {}
    for name, entry in (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).items():
        entry = dict(entry)
        if "base" not in entry:
            raise InputError(f"{file}: {name}: no base model")
        adapter = entry.pop("adapter", None) or ()
        adapters = (adapter,) if isinstance(adapter, str) else tuple(adapter)
        entry.pop("note", None)
        found[name] = Checkpoint(entry.pop("base"), adapters, entry)
    return found


def lookup(file: Path, model: str | None, adapter: str | list[str] | None) -> Checkpoint:
    """What to load for a model name and adapters given by the user.

    A released id as `model`, or as the last of `adapter`, brings its settings along; other names are taken
    as they are, without settings.
    """
    adapters = (adapter,) if isinstance(adapter, str) else tuple(adapter or ())
    known = read_checkpoints(file)
    if model in known:
        entry = known[str(model)]
        return dataclasses.replace(entry, adapter=entry.adapter + adapters)
    if adapters and adapters[-1] in known:
        entry = known[adapters[-1]]
        return Checkpoint(model or entry.base, adapters, entry.options)
    return Checkpoint(model or "", adapters, {})
