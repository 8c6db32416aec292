"""Baselines that have a prompt of their own, which the released evaluation left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

E5_BARE = "inbedder:e5-no-prefix"
E5 = re.compile(r"(multilingual-)?e5-(small|base|large)", re.IGNORECASE)
E5_QUERY = "query: {text}"  # what E5's authors put before a text in symmetric tasks


def baseline_template(model: str | None, prompt: str | None, bare_e5: bool) -> dict[str, Any]:
    """The template that a baseline's loader is given, as an option; empty for the model's own.

    Args:
        model: its name.
        prompt: what the user gave, with {text} or {input}.
        bare_e5: leave E5's prefix out, as released.
    """
    if prompt is not None:
        return {"template": prompt.replace("{input}", "{text}")}
    if model and not bare_e5 and E5.match(Path(model).name):
        return {"template": E5_QUERY}
    return {}
