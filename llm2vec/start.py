"""The encoder that a contrastive step starts from: base, adapters of earlier steps merged, maybe one to go on with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from common.checkpoints import read_checkpoints
from common.errors import InputError
from common.io import sha256_file
from common.reading import read_json
from llm2vec.recipe import ContrastiveConfig

if TYPE_CHECKING:
    from common.encoder import Encoder

CHECKPOINTS = Path(__file__).with_name("checkpoints.yaml")


class Start(NamedTuple):
    """`base` with `merged` in its weights, in order; `trained` on top goes on, None: a fresh adapter does."""

    base: str
    merged: tuple[str, ...]
    trained: str | None


def starting_point(config: ContrastiveConfig) -> Start:
    """What a recipe starts from.

    A released adapter, or a folder that a training here wrote, brings its base and the adapters below along:
    `--peft_model_name_or_path ckpts/simcse/X` is all it takes to go on from SimCSE.

    Raises:
        InputError: neither a model nor an adapter is named.
    """
    named = [config.model_name_or_path, *config.peft_model_name_or_path, config.pretrained_lora_path]
    base = ""
    stack: list[str] = []
    for name in filter(None, named):
        below, adapters = _brought_along(name)
        if below is None and not base and name == config.model_name_or_path:
            base = name
            continue
        base = base or below or ""
        known = {_content(one) for one in stack}
        stack += [one for one in adapters or (name,) if _content(one) not in known]
    if not base:
        if not stack:
            raise InputError("missing: --model_name_or_path")
        from common.backbone import adapter_base

        base = adapter_base(stack[0])
    trained = stack.pop() if config.pretrained_lora_path else None
    return Start(base, tuple(stack), trained)


def _brought_along(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Base and adapters, its own last, of a released adapter or a saved folder; (None, ()) for any other name."""
    if not Path(name).is_dir():
        released = read_checkpoints(CHECKPOINTS).get(name)
        return (released.base, released.adapter) if released and released.adapter else (None, ())
    settings = Path(name) / "encoder.json"
    saved = read_json(settings) if settings.is_file() else {"model": None}
    if saved["model"] is None:  # none of ours, or whole weights
        return None, ()
    from common.saving import stacked_adapters

    return saved["model"], (*stacked_adapters(Path(name), saved), name)


def _content(adapter: str) -> str:
    """The same for all copies of an adapter, so that none is merged twice."""
    weights = Path(adapter) / "adapter_model.safetensors"
    return sha256_file(weights) if weights.is_file() else adapter


def load_start(config: ContrastiveConfig, **options: Any) -> Encoder:
    """The encoder to train.

    Args:
        config: says what, where and in which precision.
        options: further arguments of `llm2vec.encoder.load`.

    Raises:
        InputError: no such model, or adapters that do not fit.
    """
    from common.lora import training_attention
    from common.optional_packages import installed_attention
    from common.train_program import backbone_options
    from llm2vec.encoder import load

    start = starting_point(config)
    attention = installed_attention(config.attn_implementation)
    arguments: dict[str, Any] = {
        **backbone_options(config),
        "adapter": [*start.merged, *([start.trained] if start.trained else [])] or None,
        "merge_adapter": start.trained is None,
        "trainable_adapter": start.trained is not None,
        "attn_implementation": attention or training_attention(config.device),
        "revision": config.model_revision,
        "pooling": config.pooling_mode,
        "chat_template": config.chat_template,
        "max_length": config.max_length,
        "attention": "bidirectional" if config.bidirectional else "causal",
    }
    return load(start.base, **{**arguments, **options})
