"""The method "sentence-transformer": any plain encoder, read the way sentence-transformers reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.backbone import load_backbone
from common.encoder import Encoder
from common.errors import InputError
from common.model_names import ResolvedModel, hub_reachable, resolve
from common.prompts import Template
from common.reading import read_json
from common.registry import check_compat

DEFAULT_MODEL = "minilm"
# sentence-transformers' names of pooling modes -> ours.
POOLING = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last", "weightedmean": "weighted_mean"}
# The flags of folders written before sentence-transformers 6.
OLD_POOLING = {
    "cls_token": "cls",
    "max_tokens": "max",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean",
    "lasttoken": "lasttoken",
}


def load(
    model: str | None = None,
    *,
    template: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    normalize: bool | None = None,
    compat: object = None,
    **backbone_options: Any,
) -> Encoder:
    """An encoder with the pooling, prompts and length that a sentence-transformers folder states.

    A plain transformers model without those files gets mean pooling, as in sentence-transformers. A chat
    template is never applied (sentence-transformers 6 would, without saying so).

    Raises:
        InputError: the folder has a module other than Transformer, Pooling and Normalize.
    """
    name = model or DEFAULT_MODEL
    source = resolve(name)
    modules = _read(source, "modules.json") or []
    pooling_mode, normalized = None, False
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            pooling_mode = _pooling(source, module["path"])
        elif kind == "Normalize":
            normalized = True
        elif kind != "Transformer":
            raise InputError(f"model {name}: has a {kind} module, which this project does not run; it needs "
                             "Transformer, Pooling and at most Normalize")  # fmt: skip
    limits = _read(source, "sentence_bert_config.json") or {}
    settings = _read(source, "config_sentence_transformers.json") or {}
    prompts = settings.get("prompts") or {}
    backbone = load_backbone(name, **backbone_options)
    length = max_length or limits.get("max_seq_length") or _tokenizer_limit(backbone.tokenizer)
    document = next((prompts[name] for name in ("document", "passage", "corpus") if prompts.get(name)), None)
    # What sentence-transformers puts before texts where nothing else is asked for.
    default = _prefix(prompts.get(settings.get("default_prompt_name")))
    return Encoder(
        backbone,
        method="sentence-transformer",
        template=Template(template) if template else default,
        query_template=_prefix(prompts.get("query")),
        document_template=_prefix(document),
        pooling=pooling or pooling_mode or "mean",
        max_length=length,
        normalize=normalized if normalize is None else normalize,
        compat=check_compat(compat),
    )


def _prefix(prompt: str | None) -> Template | None:
    return Template(prompt + "{text}") if prompt else None


def _pooling(source: ResolvedModel, path: str) -> str:
    config = _read(source, f"{path}/config.json") or {}
    mode = config.get("pooling_mode")
    if mode is None:
        active = [new for key, new in OLD_POOLING.items() if config.get(f"pooling_mode_{key}")]
        mode = active or ["mean"]
    if isinstance(mode, list) and len(mode) == 1:
        mode = mode[0]
    if config.get("include_prompt") is False:
        raise InputError(f"model {source.name}: leaves prompts out of the pooling, which this project does not do")
    if not isinstance(mode, str) or mode not in POOLING:
        raise InputError(f"model {source.name}: pooling {mode!r} is not one of {', '.join(POOLING)}")
    return POOLING[mode]


def _tokenizer_limit(tokenizer: Any) -> int:
    return int(min(tokenizer.model_max_length, 512))


def _read(source: ResolvedModel, file: str) -> Any:
    if source.is_local:
        path = Path(source.path) / file
        return read_json(path) if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        local = hf_hub_download(source.path, file, revision=source.revision, local_files_only=not hub_reachable())
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None
    return read_json(local)
