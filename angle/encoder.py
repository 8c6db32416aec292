"""AnglE's encoder: BERT, or an LLM with a one-word prompt and the state of the last token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.backbone import load_backbone
from common.checkpoints import Checkpoint, lookup
from common.encoder import Encoder
from common.errors import InputError
from common.prompts import Template
from common.reading import read_json
from common.registry import check_compat

DEFAULT_MODEL = "smollm2-135m"
CHECKPOINTS = Path(__file__).with_name("checkpoints.yaml")


class Prompts:
    """The prompts of the released package, under their names there."""

    A = 'Summarize sentence "{text}" in one word:"'
    B = 'You can only output one word. Summarize "{text}":"'
    C = "Represent this sentence for searching relevant passages: {text}"

    @classmethod
    def list_prompts(cls) -> dict[str, str]:
        """Name -> prompt."""
        return {name: value for name, value in vars(cls).items() if len(name) == 1}


def load(
    model: str | None = None,
    *,
    adapter: str | list[str] | None = None,
    template: str | None = None,
    query_template: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    normalize: bool = False,
    compat: object = None,
    **backbone_options: Any,
) -> Encoder:
    """Load a released AnglE model, or any trunk the way AnglE reads it.

    LLMs get `Prompts.A` and the last token, encoders the bare text and the first token ("cls"), unless a
    released id, an adapter that was saved here, or the arguments say otherwise. A prompt
    may be given by its letter.

    Args:
        model: a released id, any model name; None: the embedded default.
        adapter: LoRA adapters.
        template: of texts; query_template: of search queries, where they differ.
        pooling: a strategy of `common.pooling`.
        max_length: tokens; default 512.
        normalize: L2-normalise always.
        compat: names of `angle.compat`.
        backbone_options: of `common.backbone.load_backbone`.
    """
    known = lookup_model(model or (None if adapter else DEFAULT_MODEL), adapter)
    backbone = load_backbone(known.base, adapter=known.adapter, **backbone_options)
    llm = backbone.is_decoder
    text = prompt_text(template or known.options.get("template") or (Prompts.A if llm else "{text}"))
    query = query_template or known.options.get("query_template")
    return Encoder(
        backbone,
        method="angle",
        template=Template(text),
        query_template=Template(prompt_text(query)) if query else None,
        pooling=pooling or known.options.get("pooling") or ("last" if llm else "cls"),
        max_length=max_length or known.options.get("max_length") or 512,
        normalize=normalize,
        compat=check_compat(compat),
    )


def lookup_model(model: str | None, adapter: str | list[str] | None) -> Checkpoint:
    """Base, adapters and settings of a model: those of a released id, or those that our own folders carry.

    The released code writes such settings beside the weights but never reads them back.
    """
    known = lookup(CHECKPOINTS, model, adapter)
    folder = known.adapter[-1] if known.adapter else known.base
    settings = Path(folder) / "encoder.json"
    if known.options or not folder or not settings.is_file():
        return known
    saved = read_json(settings)
    templates = {role: template["pattern"] for role, template in saved["templates"].items()}
    options = {"template": templates["text"], "query_template": templates.get("query")}
    options |= {"pooling": saved["pooling"], "max_length": saved["max_length"]}
    return Checkpoint(known.base, known.adapter, {k: v for k, v in options.items() if v is not None})


def check_is_llm(encoder: Encoder, is_llm: bool | None) -> None:
    """Hold the flag `--is_llm` against what the model is; None: nothing was said.

    Raises:
        InputError: they differ.
    """
    if is_llm is not None and is_llm != encoder.backbone.is_decoder:
        kind = "a decoder (LLM)" if encoder.backbone.is_decoder else "an encoder"
        raise InputError(f"--is_llm {int(is_llm)}: {encoder.backbone.source.name} is {kind}; leave the flag out")


def prompt_text(prompt: str) -> str:
    """A prompt given by its letter, or as it is."""
    return Prompts.list_prompts().get(prompt, prompt)
