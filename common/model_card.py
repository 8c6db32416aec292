"""The model card that goes with every checkpoint: what was trained, on what, how, and how to use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli
from common.io import write_text

if TYPE_CHECKING:
    from common.encoder import Encoder
    from common.recipe import TrainConfig


def write(path: Path, encoder: Encoder, config: TrainConfig, summary: dict[str, Any]) -> None:
    """Write the card (README.md with YAML metadata, as the hub reads it)."""
    info = encoder.info
    losses = summary.get("loss") or []
    curve = ", ".join(f"{step}: {loss:.4f}" for step, loss in _thin(losses, 12))
    base = "" if Path(info.model).exists() else f"base_model: {info.model}\n"
    text = f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
{base}tags: [sentence-transformers, feature-extraction, {info.method}]
---

# {info.title}, trained with {info.method}

| | |
|---|---|
| base | {info.title} (`{info.model}`) |
| prompt | `{info.template}` |
| pooling | {info.pooling} |
| attention | {info.attention} |
| max length | {info.max_length} |
| training data | `{summary["data"]}` |
| steps, tokens | {summary.get("steps")}, {summary.get("tokens")} |
| compat switches | {", ".join(info.compat) or "none"} |

## Use

```python
from common.registry import load

encoder = load("{info.method}", "path/to/this/folder")
vectors = encoder.encode(["a text", "another one"])
```

## Recipe

    {summary["command"]}

```yaml
{cli.describe(config).strip()}
```

## Loss

step: loss: {curve or "not logged"}
"""
    write_text(path, text)


def _thin(items: list[Any], most: int) -> list[Any]:
    step = max(1, -(-len(items) // most))
    return items[::step]
