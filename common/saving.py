"""An encoder as a folder: ours and, where it can express the model, plain sentence-transformers'."""

from __future__ import annotations

import copy
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
from common.registry import check_compat

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

SETTINGS = "encoder.json"
# How PEFT names the trunk's modules in an adapter trained on the trunk, and on `...ForCausalLM`.
TRUNK, HEADED = "base_model.model.", "base_model.model.model."
OVERRIDES = (
    *("template", "query_template", "document_template"),
    *("pooling", "max_length", "normalize", "compat"),
)
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


def save_into(encoder: Encoder, folder: Path, *, merge: bool = False, state_dict: dict[str, Any] | None = None) -> None:
    """As `save`, beside what the folder already holds (checkpoints); file by file, each atomically, settings last.

    `state_dict`: the trunk's weights, where a sharded model can't give them by itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as name:
        temporary = Path(name)
        _write(encoder, temporary, merge, state_dict)
        files = sorted((p for p in temporary.rglob("*") if p.is_file()), key=lambda p: p.name == SETTINGS)
        for file in files:
            target = folder / file.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def _write(encoder: Encoder, folder: Path, merge: bool, state_dict: dict[str, Any] | None = None) -> None:
    trunk = encoder.backbone.model
    adapter_only = _is_peft(trunk) and not merge
    if adapter_only:
        _save_adapter(encoder, folder, state_dict)
    else:
        whole = _merged(trunk)
        whole.save_pretrained(folder, state_dict=None if whole is not trunk else state_dict)
    write_json(folder / SETTINGS, settings(encoder, merged=not adapter_only))
    has_chat_template = _save_tokenizer(encoder, folder)
    reason = inexpressible(encoder, adapter_only=adapter_only)
    if reason:
        logger.warning("no files for plain sentence-transformers: %s", reason)
    else:
        _save_sentence_transformers_files(encoder, folder, has_chat_template=has_chat_template)


def load_weights(encoder: Encoder, folder: Path) -> None:
    """Put the weights of a checkpoint of the same encoder back into it, in place."""
    trunk: Any = encoder.backbone.model
    if _is_peft(trunk):
        from peft import set_peft_model_state_dict
        from peft.utils import load_peft_weights

        weights = load_peft_weights(str(folder), device="cpu")
        if encoder.backbone.is_decoder:
            weights = {k.replace(HEADED, TRUNK, 1): v for k, v in weights.items()}
        outcome: Any = set_peft_model_state_dict(trunk, weights)
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
        "stacked_adapters": [] if merged else list(backbone.merged),
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
    given = {name: options.pop(name, None) for name in OVERRIDES}
    overrides = {name: value for name, value in given.items() if value is not None}
    for name in overrides:
        if name.endswith("template") and isinstance(overrides[name], str):
            overrides[name] = Template(overrides[name])
        elif name == "compat":
            overrides[name] = check_compat(overrides[name])
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
    if adapter_only and encoder.backbone.merged:
        return f"an adapter on top of others ({', '.join(encoder.backbone.merged)}); save with merge=True"
    text = _constant(encoder.templates["text"])
    if text is None:
        return "a template that needs an instruction"
    for role in ROLES[1:]:
        pattern = _constant(encoder.templates[role]) if role in encoder.templates else None
        if pattern is not None and (text != "{text}" or not pattern.endswith("{text}")):
            return f"a {role} template with a tail, or beside a template of texts"
    if encoder.compat:
        return f"compat {sorted(encoder.compat)}"
    return None


def _constant(template: Template) -> str | None:
    """The pattern that fills in a text alone; None where an instruction must be given."""
    pattern = template.plain if template.takes_instruction else template.pattern
    return None if pattern is None else pattern.replace("{examples}", "")


def _is_peft(trunk: nn.Module) -> bool:
    from peft import PeftModel

    return isinstance(trunk, PeftModel)


def _merged(trunk: nn.Module) -> Any:
    if not _is_peft(trunk):
        return trunk
    return copy.deepcopy(trunk).merge_and_unload()  # type: ignore[operator]


def _save_adapter(encoder: Encoder, folder: Path, state_dict: dict[str, Any] | None) -> None:
    """The adapter in the layout of `...ForCausalLM` where the trunk has such a head.

    That is the layout of the released adapters: plain transformers and PEFT load it on `AutoModelForCausalLM`,
    and transformers' own loader, which matches on the trunk's prefix, on `AutoModel`.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    trunk: Any = encoder.backbone.model
    config = copy.deepcopy(trunk.peft_config["default"])
    weights = get_peft_model_state_dict(trunk, state_dict=state_dict)
    if encoder.backbone.is_decoder:
        weights = {k.replace(TRUNK, HEADED, 1): v for k, v in weights.items()}
        config.task_type = "CAUSAL_LM"
    config.base_model_name_or_path = encoder.backbone.source.path
    config.inference_mode = True
    config.save_pretrained(str(folder))
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, folder / "adapter_model.safetensors")


def _save_tokenizer(encoder: Encoder, folder: Path) -> bool:
    """The tokenizer, with the method's template as its chat template, or with none; whether it has one.

    sentence-transformers 6 applies a chat template to plain texts without saying so; a model's own one would
    change the vectors, and ours is the one way to give it a prompt with a tail.
    """
    tokenizer = copy.deepcopy(encoder.backbone.tokenizer)
    pattern = _constant(encoder.templates["text"])
    tokenizer.chat_template = None if pattern in (None, "{text}") else _jinja(encoder, str(pattern))
    tokenizer.model_max_length = encoder.max_length
    tokenizer.save_pretrained(folder)
    return tokenizer.chat_template is not None


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


def _save_sentence_transformers_files(encoder: Encoder, folder: Path, *, has_chat_template: bool) -> None:
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
    transformer: dict[str, Any] = {"max_seq_length": encoder.max_length, "do_lower_case": False}
    if has_chat_template:
        # A folder that does not say so is read by sentence-transformers 6 as one of an older version, whose
        # texts go past the chat template.
        states = {"method": "forward", "method_output_name": "last_hidden_state"}
        transformer["modality_config"] = {"text": states, "message": {**states, "format": "flat"}}
        transformer["module_output_name"] = "token_embeddings"
    write_json(folder / "sentence_bert_config.json", transformer)
    patterns = {role: _constant(encoder.templates[role]) for role in ROLES[1:] if role in encoder.templates}
    prompts = {role: pattern.removesuffix("{text}") for role, pattern in patterns.items() if pattern is not None}
    config = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", config)
