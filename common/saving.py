"""An encoder as a folder: ours and, where it can express the model, plain sentence-transformers'."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from common.attention import get_attention
from common.backbone import load_backbone
from common.encoder import Encoder, Role
from common.errors import InputError
from common.io import atomic_folder, read_json, write_json, write_text
from common.prompts import Template

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

SETTINGS = "encoder.json"
# How PEFT names the trunk's modules in an adapter trained on the trunk, and on `...ForCausalLM`.
TRUNK, HEADED = "base_model.model.", "base_model.model.model."
ROLES: tuple[Role, ...] = ("text", "query", "document")
# Our pooling strategies in the words of sentence-transformers' Pooling module.
ST_POOLING = {"mean": "mean", "cls": "cls", "last": "lasttoken", "max": "max", "weighted_mean": "weightedmean"}


def save(encoder: Encoder, folder: Path, *, merge: bool = False) -> None:
    """Write `folder` anew and atomically: weights or adapter, tokenizer, our settings, sentence-transformers files.

    Args:
        encoder: what to save.
        folder: the target; what was in it is gone.
        merge: whole weights with adapters merged in, instead of the adapter alone.
    """
    with atomic_folder(folder) as temporary:
        _write(encoder, temporary, merge)


def save_into(encoder: Encoder, folder: Path, *, merge: bool = False) -> None:
    """As `save`, beside what the folder already holds (checkpoints); file by file, each atomically, settings last."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as name:
        temporary = Path(name)
        _write(encoder, temporary, merge)
        files = sorted((p for p in temporary.rglob("*") if p.is_file()), key=lambda p: p.name == SETTINGS)
        for file in files:
            target = folder / file.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def _write(encoder: Encoder, folder: Path, merge: bool) -> None:
    trunk = encoder.backbone.model
    adapter_only = _is_peft(trunk) and not merge
    if adapter_only:
        _save_adapter(encoder, folder)
    else:
        _merged(trunk).save_pretrained(folder)
    write_json(folder / SETTINGS, settings(encoder, merged=not adapter_only))
    _save_tokenizer(encoder, folder)
    reason = inexpressible(encoder, adapter_only=adapter_only)
    if reason:
        logger.warning("no files for plain sentence-transformers: %s", reason)
    else:
        _save_sentence_transformers_files(encoder, folder)


def load_weights(encoder: Encoder, folder: Path) -> None:
    """Put the weights of a checkpoint of the same encoder back into it, in place."""
    trunk: Any = encoder.backbone.model
    if _is_peft(trunk):
        from peft import set_peft_model_state_dict
        from peft.utils import load_peft_weights

        weights = load_peft_weights(str(folder), device="cpu")
        if encoder.backbone.is_decoder:
            weights = {k.replace(HEADED, TRUNK, 1): v for k, v in weights.items()}
        outcome = set_peft_model_state_dict(trunk, weights)
        if outcome.unexpected_keys:
            raise InputError(f"{folder}: adapter does not fit: {outcome.unexpected_keys[0]}")
        return
    from safetensors.torch import load_model

    load_model(trunk, folder / "model.safetensors")


def settings(encoder: Encoder, *, merged: bool) -> dict[str, Any]:
    """What `load` needs besides weights and tokenizer."""
    backbone = encoder.backbone
    return {
        "format": 1,
        "method": encoder.method,
        # The base under the name the user gave, so that the folder moves between machines.
        "model": None if merged else backbone.source.name,
        "revision": None if merged else backbone.source.revision,
        "stacked_adapters": [] if merged else list(backbone.adapters[:-1]),
        "title": backbone.source.title,
        "templates": {role: dataclasses.asdict(t) for role, t in encoder.templates.items()},
        "pooling": encoder.pooling,
        "attention": get_attention(backbone.model),
        "max_length": encoder.max_length,
        "normalize": encoder.normalize,
        "compat": sorted(encoder.compat),
    }


def load(folder: Path, **options: Any) -> Encoder:
    """Load what `save` wrote.

    Args:
        folder: with an encoder.json in it.
        options: of `common.backbone.load_backbone`, and any setting of `Encoder` to override.

    Raises:
        InputError: not such a folder, or made by a newer format.
    """
    if not (folder / SETTINGS).is_file():
        raise InputError(f"{folder}: no {SETTINGS} in it; it was not written by save_pretrained")
    saved = read_json(folder / SETTINGS)
    if saved.get("format") != 1:
        raise InputError(f"{folder / SETTINGS}: format {saved.get('format')!r} is not known here; update this project")
    overrides = {
        name: options.pop(name)
        for name in ("template", "query_template", "document_template", "pooling", "max_length", "normalize", "compat")
        if options.get(name) is not None
    }
    method = options.pop("method", None) or saved["method"]
    base = saved["model"]
    if base is None:
        backbone = load_backbone(str(folder), **options)
    else:
        extra = options.pop("adapter", None)
        stack = [*saved["stacked_adapters"], str(folder), *([extra] if isinstance(extra, str) else extra or [])]
        backbone = load_backbone(base, adapter=stack, revision=saved["revision"], **options)
    found = get_attention(backbone.model)
    if found != saved["attention"]:
        from common.attention import set_attention

        set_attention(backbone.model, saved["attention"])
    templates = {role: Template(**t) for role, t in saved["templates"].items()}
    arguments: dict[str, Any] = {
        "template": templates["text"],
        "query_template": templates.get("query"),
        "document_template": templates.get("document"),
        "pooling": saved["pooling"],
        "max_length": saved["max_length"],
        "normalize": saved["normalize"],
        "compat": frozenset(saved["compat"]),
    }
    encoder = Encoder(backbone, method=method, **{**arguments, **overrides})
    return encoder


def to_sentence_transformer(encoder: Encoder) -> SentenceTransformer:
    """The encoder as a plain sentence-transformers model, by way of a merged folder."""
    from sentence_transformers import SentenceTransformer

    reason = inexpressible(encoder, adapter_only=False)
    if reason:
        raise InputError(f"plain sentence-transformers can't express this encoder: {reason}")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        save(encoder, folder, merge=True)
        model = SentenceTransformer(
            str(folder), device=str(encoder.device), model_kwargs={"dtype": encoder.backbone.dtype}
        )
    return model


def inexpressible(encoder: Encoder, *, adapter_only: bool) -> str | None:
    """Why plain sentence-transformers can't give this encoder's vectors; None when it can."""
    attention = get_attention(encoder.backbone.model)
    if encoder.pooling not in ST_POOLING:
        return f"pooling {encoder.pooling!r}"
    if isinstance(attention, dict):
        return f"attention {attention}"
    if adapter_only and attention == "bidirectional" and encoder.backbone.is_decoder:
        return "bidirectional attention on top of a causal base; save with merge=True"
    if encoder.templates["text"].takes_instruction and encoder.templates["text"].plain is None:
        return "a template that needs an instruction"
    if encoder.compat:
        return f"compat {sorted(encoder.compat)}"
    return None


def _is_peft(trunk: nn.Module) -> bool:
    from peft import PeftModel

    return isinstance(trunk, PeftModel)


def _merged(trunk: nn.Module) -> Any:
    if not _is_peft(trunk):
        return trunk
    import copy

    return copy.deepcopy(trunk).merge_and_unload()  # type: ignore[operator]


def _save_adapter(encoder: Encoder, folder: Path) -> None:
    """The adapter in the layout of `...ForCausalLM` where the trunk has such a head.

    That is the layout of the released adapters: plain transformers and PEFT load it on `AutoModelForCausalLM`,
    and transformers' own loader, which matches on the trunk's prefix, on `AutoModel`.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    trunk: Any = encoder.backbone.model
    config = trunk.peft_config["default"]
    weights = get_peft_model_state_dict(trunk)
    if encoder.backbone.is_decoder:
        weights = {k.replace(TRUNK, HEADED, 1): v for k, v in weights.items()}
        config.task_type = "CAUSAL_LM"
    config.base_model_name_or_path = encoder.backbone.source.path
    was_inference, config.inference_mode = config.inference_mode, True
    config.save_pretrained(str(folder))
    config.inference_mode = was_inference
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, folder / "adapter_model.safetensors")


def _save_tokenizer(encoder: Encoder, folder: Path) -> None:
    """The tokenizer, with the method's template as its chat template, or with none.

    sentence-transformers 6 applies a chat template to plain texts without saying so; a model's own one would
    change the vectors, and ours is the one way to give it a prompt with a tail.
    """
    import copy

    tokenizer = copy.deepcopy(encoder.backbone.tokenizer)
    template = encoder.templates["text"]
    pattern = template.plain if template.takes_instruction and template.plain is not None else template.pattern
    tokenizer.chat_template = None if pattern == "{text}" else _jinja(encoder, pattern)
    tokenizer.model_max_length = encoder.max_length
    tokenizer.save_pretrained(folder)


def _jinja(encoder: Encoder, pattern: str) -> str:
    before, after = pattern.split("{text}")
    # apply_chat_template adds no special tokens, so those that the tokenizer puts around a text go in as text.
    tokenizer: Any = encoder.backbone.tokenizer
    probe = tokenizer("x")["input_ids"]
    bare = tokenizer("x", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(len(probe)) if probe[i : i + len(bare)] == bare)
    head = tokenizer.decode(probe[:start], skip_special_tokens=False)
    tail = tokenizer.decode(probe[start + len(bare) :], skip_special_tokens=False)
    return (
        "{%- for message in messages -%}{{- "
        + json.dumps(head + before, ensure_ascii=False)
        + " + (message['content'] if message['content'] is string else message['content'][0]['text']) + "
        + json.dumps(after + tail, ensure_ascii=False)
        + " -}}{%- endfor -%}"
    )


def _save_sentence_transformers_files(encoder: Encoder, folder: Path) -> None:
    package = "sentence_transformers.models"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{package}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{package}.Pooling"},
    ]
    if encoder.normalize:
        modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{package}.Normalize"})
        (folder / "2_Normalize").mkdir()
        write_text(folder / "2_Normalize" / ".keep", "")
    pooling = {"embedding_dimension": encoder.dim, "pooling_mode": ST_POOLING[encoder.pooling], "include_prompt": True}
    write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": encoder.max_length, "do_lower_case": False})
    prompts = {
        role: encoder.templates[role].pattern.removesuffix("{text}")
        for role in ROLES[1:]
        if role in encoder.templates and encoder.templates[role].pattern.endswith("{text}")
    }
    config = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", config)
