"""Released model ids -> how to load them: one checkpoints.yaml per paper."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import yaml

from common.errors import InputError
from common.reading import read_json


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

    A released id as `model`, or as the last of `adapter`, brings its settings along, and the adapters that lie
    below it; other names are taken as they are, without settings. A local folder is never a released id.
    """
    adapters = (adapter,) if isinstance(adapter, str) else tuple(adapter or ())
    known = {name: entry for name, entry in read_checkpoints(file).items() if not Path(name).is_dir()}
    last = known.get(adapters[-1]) if adapters else None
    if last is not None and model in (None, last.base) and adapters == last.adapter[-1:]:
        return last
    if model in known:
        entry = known[str(model)]
        return dataclasses.replace(entry, adapter=entry.adapter + adapters)
    if adapters and adapters[-1] in known:
        entry = known[adapters[-1]]
        return Checkpoint(model or entry.base, adapters, entry.options)
    return Checkpoint(model or "", adapters, {})


def known_model(file: Path, model: str | None, adapter: str | list[str] | None) -> Checkpoint:
    """Base, adapters and settings of a model: those of a released id, or those that our own folders carry.

    `options` of a folder that `save_pretrained` wrote: template, query_template, pooling, pooled, max_length,
    max_text_length, and attention. The released codes write such settings beside the weights but never read
    them back. An adapter that was trained on top of others brings these, too.
    """
    known = lookup(file, model, adapter)
    folder = known.adapter[-1] if known.adapter else known.base
    settings = Path(folder) / "encoder.json"
    if known.options or not folder or not settings.is_file():
        return known
    saved = read_json(settings)
    if saved["model"] and len(known.adapter) < 2 and known.base in ("", folder, saved["model"]):
        from common.saving import stacked_adapters

        known = Checkpoint(saved["model"], (*stacked_adapters(Path(folder), saved), folder))
    templates = {role: template["pattern"] for role, template in saved["templates"].items()}
    options = {"template": templates["text"], "query_template": templates.get("query")}
    options |= {name: saved.get(name) for name in ("pooling", "pooled", "max_length", "max_text_length", "attention")}
    return Checkpoint(known.base, known.adapter, {k: v for k, v in options.items() if v is not None})
