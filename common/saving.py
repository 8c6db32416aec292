"""An encoder as a folder: ours and, where it can express the model, plain sentence-transformers'."""

from __future__ import annotations

import copy
import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import AutoTokenizer

from common.attention import get_attention, num_layers, set_attention
from common.attention_parts import drops_window, find_parts
from common.backbone import load_backbone
from common.encoder import Encoder
from common.errors import InputError
from common.io import atomic_folder, read_json, write_json
from common.lm_head import head_name, with_head
from common.prompts import Template
from common.registry import check_compat
from common.st_files import inexpressible, save_sentence_transformers_files, save_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

SETTINGS = "encoder.json"
STACKED = "stacked"  # a folder with copies of the adapters below the saved one
# How PEFT names the trunk's modules in an adapter trained on the trunk, and on `...ForCausalLM`.
TRUNK, HEADED = "base_model.model.", "base_model.model.model."
OVERRIDES = (
    *("template", "query_template", "document_template"),
    *("pooling", "pooled", "max_length", "max_text_length", "normalize", "compat"),
)


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
        _copy_stacked(encoder.backbone.merged, folder / STACKED)
    else:
        whole = _merged(trunk)
        state_dict = None if whole is not trunk else state_dict
        if encoder.backbone.head is not None:
            whole = with_head(encoder.backbone, whole)
            state_dict = None if state_dict is None else _of_whole(encoder, whole, state_dict)
        whole.save_pretrained(folder, state_dict=state_dict)
    write_json(folder / SETTINGS, settings(encoder, merged=not adapter_only))
    has_chat_template = save_tokenizer(encoder, folder)
    reason = inexpressible(encoder, adapter_only=adapter_only)
    if reason:
        logger.warning("no files for plain sentence-transformers: %s", reason)
    else:
        save_sentence_transformers_files(encoder, folder, has_chat_template=has_chat_template)


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

    whole = trunk if encoder.backbone.head is None else with_head(encoder.backbone, trunk)
    load_model(whole, folder / "model.safetensors")


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
        "pooled": encoder.pooled,
        "attention": get_attention(backbone.model),
        "sliding_window": "drop" if drops_window(backbone.config) else "keep",
        "max_length": encoder.max_length,
        "max_text_length": encoder.max_text_length,
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
    asked = options.pop("bidirectional_from", None)
    base = saved["model"]
    if base is None:
        backbone = load_backbone(str(folder), **options)
    else:
        extra = options.pop("adapter", None)
        stack = [*stacked_adapters(folder, saved), str(folder), *([extra] if isinstance(extra, str) else extra or [])]
        backbone = load_backbone(base, adapter=stack, revision=saved["revision"], **options)
        if (folder / "tokenizer_config.json").is_file():
            # That of the base may not add the BOS and EOS that the adapter was trained with, or lack its tokens.
            backbone.tokenizer = AutoTokenizer.from_pretrained(folder)
    compat = overrides.get("compat", frozenset(saved["compat"]))
    _attend_as_saved(backbone.model, saved, asked, "bellm:unmask-padding" in compat, folder)
    templates = {role: Template(**t) for role, t in saved["templates"].items()}
    arguments: dict[str, Any] = {
        "template": templates["text"],
        "query_template": templates.get("query"),
        "document_template": templates.get("document"),
        "pooling": saved["pooling"],
        "pooled": saved.get("pooled", "all"),
        "max_length": saved["max_length"],
        "max_text_length": saved.get("max_text_length"),
        "normalize": saved["normalize"],
        "compat": frozenset(saved["compat"]),
    }
    encoder = Encoder(backbone, method=method, **{**arguments, **overrides})
    return encoder


def stacked_adapters(folder: Path, saved: dict[str, Any]) -> list[str]:
    """The adapters below that of a saved folder, in order: its own copies, else the names that they were loaded by."""
    copies = [folder / STACKED / str(i) for i in range(len(saved["stacked_adapters"]))]
    return [str(copy) if copy.is_dir() else name for copy, name in zip(copies, saved["stacked_adapters"])]


def _copy_stacked(adapters: Sequence[str], folder: Path) -> None:
    """Keep local adapters beside the one on top of them, so that the saved folder can be moved; 0, 1, ... in order."""
    for i, name in enumerate(adapters):
        if Path(name).is_dir():
            (folder / str(i)).mkdir(parents=True)
            for file in Path(name).glob("adapter_*"):
                shutil.copyfile(file, folder / str(i) / file.name)


def _attend_as_saved(model: nn.Module, saved: dict[str, Any], asked: int | None, padding: bool, folder: Path) -> None:
    """Give the trunk the attention that the weights were trained with, and refuse any other.

    Raises:
        InputError: `asked`, the first bidirectional layer that the caller wants, is another.
    """
    mode, layers = saved["attention"], num_layers(model)
    first = {"causal": layers, "bidirectional": 0}[mode] if isinstance(mode, str) else mode["bidirectional_from"]
    if asked is not None and (layers if asked == -1 else asked) != first:
        raise InputError(
            f"{folder}: its weights were trained with attention {mode}, not from layer {asked}; leave it out"
        )
    window = saved.get("sliding_window", "keep")
    recorded = "drop" if drops_window(find_parts(model).config) else "keep"
    if padding or get_attention(model) != mode or window != recorded:
        set_attention(model, mode, sliding_window=window, attend_padding=padding)


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


def _is_peft(trunk: nn.Module) -> bool:
    from peft import PeftModel

    return isinstance(trunk, PeftModel)


def _merged(trunk: nn.Module) -> Any:
    if not _is_peft(trunk):
        return trunk
    return copy.deepcopy(trunk).merge_and_unload()  # type: ignore[operator]


def _of_whole(encoder: Encoder, whole: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Weights of a training module, gathered from all processes, under the names of the whole model.

    The trunk's are bare; those of the head are "head.X.name", X being where the training module holds it.
    """
    prefix, head = whole.base_model_prefix, head_name(encoder.backbone, whole)
    found = {f"{prefix}.{k}": v for k, v in state_dict.items() if not k.startswith("head.")}
    return found | {f"{head}.{k.split('.', 2)[2]}": v for k, v in state_dict.items() if k.startswith("head.")}


def _save_adapter(encoder: Encoder, folder: Path, state_dict: dict[str, Any] | None) -> None:
    """The adapter in the layout of `...ForCausalLM` where the trunk has such a head and is used as one.

    That is the layout of the released adapters: plain transformers and PEFT load it on `AutoModelForCausalLM`,
    and transformers' own loader, which matches on the trunk's prefix, on `AutoModel`. A trunk that is
    bidirectional in every layer is no causal language model: as LLM2Vec's released ones, its adapter goes on
    `AutoModel` by PEFT itself.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    trunk: Any = encoder.backbone.model
    config = copy.deepcopy(trunk.peft_config["default"])
    # Rows of added tokens, where there are any, are in the adapter; the rest of the table is the base's.
    weights = get_peft_model_state_dict(trunk, state_dict=state_dict, save_embedding_layers=False)
    if encoder.backbone.is_decoder and get_attention(trunk) != "bidirectional":
        weights = {k.replace(TRUNK, HEADED, 1): v for k, v in weights.items()}
        config.task_type = "CAUSAL_LM"
    config.base_model_name_or_path = encoder.backbone.source.path
    config.inference_mode = True
    config.save_pretrained(str(folder))
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, folder / "adapter_model.safetensors")
