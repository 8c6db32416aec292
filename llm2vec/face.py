"""`LLM2Vec` as the users of the released package know it: a thin face of the one Encoder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.backbone import Backbone, is_causal_lm
from common.batching import pad, span_mask
from common.checkpoints import lookup
from common.encoder import Encoder
from common.errors import InputError
from common.io import read_json, write_json
from common.model_names import ResolvedModel
from llm2vec.chat_templates import build_template
from llm2vec.encoder import (
    CHECKPOINTS,
    DOC_MAX_LENGTH,
    MAX_LENGTH,
    WITH_EOS,
    load,
    make_bidirectional,
    pooled_part,
)

logger = logging.getLogger(__name__)

SETTINGS = "llm2vec_config.json"
ENCODER_ARGUMENTS = ("pooling_mode", "max_length", "doc_max_length", "skip_instruction")
Sentence = str | Sequence[str]


class LLM2Vec(nn.Module):
    """Text vectors with the released package's interface; `encoder` is the Encoder behind it.

    Instruction and text are given as a pair and stay apart: no separator is put between them and searched for,
    as in the released code, so no text can be split by one.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        pooling_mode: str = "mean",
        max_length: int = MAX_LENGTH,
        doc_max_length: int = DOC_MAX_LENGTH,
        skip_instruction: bool = True,
        *,
        chat_template: str | None = None,
        enable_bidirectional: bool = True,
    ) -> None:
        """Around a model that is in memory.

        Args:
            model: a trunk (`AutoModel`), or PEFT around one; it becomes bidirectional, in place.
            tokenizer: its tokenizer; without a padding token it gets its EOS as one.
            pooling_mode: mean, weighted_mean, eos_token, last_token, bos_token.
            max_length: tokens; doc_max_length: tokens of the text alone.
            skip_instruction: pool the text (and what stands behind it) alone.
            chat_template: a name of `llm2vec.chat_templates`; default: that of a released model's hub id.
            enable_bidirectional: False leaves the attention as it is.

        Raises:
            InputError: not a decoder's trunk.
        """
        backbone = _backbone(model, tokenizer)
        if enable_bidirectional:
            make_bidirectional(backbone)
        chat = chat_template or lookup(CHECKPOINTS, backbone.source.name, None).options.get("chat_template")
        self._wrap(
            Encoder(
                backbone,
                method="llm2vec",
                template=build_template(chat=chat, eos=tokenizer.eos_token if pooling_mode in WITH_EOS else None),
                pooling=pooling_mode,
                pooled=pooled_part(None, skip_instruction),
                max_length=max_length,
                max_text_length=doc_max_length or None,
            ),
            pooling_mode,
        )

    @classmethod
    def from_pretrained(
        cls,
        base_model_name_or_path: str,
        peft_model_name_or_path: str | None = None,
        merge_peft: bool = False,
        enable_bidirectional: bool = True,
        extra_model_name_or_path: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> LLM2Vec:
        """Load a model.

        Args:
            base_model_name_or_path: folder, short name or hub id; one that holds config and adapter together
                (the released MNTP models) has the adapter merged.
            peft_model_name_or_path: a LoRA adapter on top.
            merge_peft: merge it, too.
            enable_bidirectional: False keeps the causal attention.
            extra_model_name_or_path: further adapters on top of a merged one.
            kwargs: pooling_mode, max_length, doc_max_length, skip_instruction; chat_template; torch_dtype,
                device_map (one device), attn_implementation, and others of `common.backbone.load_backbone`.

        Raises:
            InputError: an unknown model or argument.
        """
        adapters = [peft_model_name_or_path] if peft_model_name_or_path else []
        extra = [extra_model_name_or_path] if isinstance(extra_model_name_or_path, str) else extra_model_name_or_path
        if extra and not (adapters and merge_peft):
            raise InputError("extra_model_name_or_path: goes on top of a merged adapter; give merge_peft=True")
        adapters += extra or []
        settings = _saved_settings([*adapters[-1:], base_model_name_or_path])
        given = {name: kwargs.pop(name) for name in ENCODER_ARGUMENTS if kwargs.get(name) is not None}
        arguments = {**settings, **given}
        pooling = arguments.get("pooling_mode")
        encoder = load(
            base_model_name_or_path,
            adapter=adapters or None,
            merge_adapter=merge_peft or not adapters,
            attention="bidirectional" if enable_bidirectional else "causal",
            pooling=pooling,
            max_length=arguments.get("max_length"),
            doc_max_length=arguments.get("doc_max_length"),
            skip_instruction=arguments.get("skip_instruction"),
            **_load_options(kwargs),
        )
        face = cls.__new__(cls)
        face._wrap(encoder, pooling or encoder.pooling)
        return face

    def _wrap(self, encoder: Encoder, pooling_mode: str) -> None:
        nn.Module.__init__(self)
        self.encoder = encoder
        self.embedder = encoder.embedder  # a submodule, so that parameters(), train() and to() work
        self.pooling_mode = pooling_mode
        self.eval()

    # -- where it is ----------------------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The trunk, maybe inside a PEFT wrapper."""
        return self.encoder.backbone.model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.encoder.backbone.tokenizer

    @property
    def config(self) -> Any:
        """The trunk's configuration."""
        return self.encoder.backbone.config

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.encoder.device

    @property
    def skip_instruction(self) -> bool:
        """Whether the text alone is pooled."""
        return self.encoder.pooled != "all"

    def cuda(self, device: Any = None) -> LLM2Vec:
        """Move the model to CUDA, where there is one; returns itself."""
        if device is not None:
            return self.to(torch.device("cuda", device) if isinstance(device, int) else device)
        self.encoder.cuda()
        return self

    # -- encoding -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(
        self,
        sentences: Sentence | Sequence[Sentence],
        batch_size: int = 32,
        show_progress_bar: bool | None = True,
        convert_to_numpy: bool = False,
        convert_to_tensor: bool = False,
        device: str | torch.device | None = None,
    ) -> Tensor | np.ndarray:
        """Vectors, not normalised: a float32 tensor (n, dim) on the CPU; (dim,) for one str, (0, dim) for none.

        Args:
            sentences: texts, or [instruction, text] pairs, or both mixed; one str is one text.
            batch_size: texts per batch, at most.
            show_progress_bar: None shows it when the work takes a while.
            convert_to_numpy: a numpy array instead.
            convert_to_tensor: accepted; a tensor is what comes back anyway.
            device: move the model there first.

        Raises:
            InputError: an item is neither; names the index.
        """
        if device is not None:
            self.to(device)
        texts, instructions = _pairs([sentences] if isinstance(sentences, str) else sentences)
        vectors = self.encoder.encode(
            texts,
            instruction=instructions,
            batch_size=batch_size,
            convert_to_tensor=True,
            show_progress_bar=show_progress_bar,
        )
        vectors = vectors[0] if isinstance(sentences, str) else vectors
        return vectors.numpy() if convert_to_numpy and not convert_to_tensor else vectors

    def tokenize(self, texts: Sequence[Sentence]) -> dict[str, Tensor]:
        """input_ids, attention_mask and embed_mask (B, T), padded on the left; embed_mask: the tokens to pool."""
        plain, instructions = _pairs(texts)
        tokens = self.encoder.tokens(plain, instruction=instructions)
        ids, mask = pad(tokens.ids, self.tokenizer.pad_token_id or 0, side="left")
        width = ids.shape[1]
        spans = tokens.pooled or [(0, len(s)) for s in tokens.ids]
        shifts = [width - len(s) for s in tokens.ids]
        embed = span_mask([(start + by, end + by) for (start, end), by in zip(spans, shifts)], width)
        return {"input_ids": ids, "attention_mask": mask, "embed_mask": embed}

    def forward(self, sentence_feature: Mapping[str, Tensor]) -> Tensor:
        """Vectors (B, D), with a graph, of what `tokenize` gave; on the model's device.

        Without embed_mask all real tokens are pooled.
        """
        features = {name: value.to(self.device) for name, value in sentence_feature.items()}
        pooled = features.get("embed_mask") if self.skip_instruction else None
        vectors: Tensor = self.embedder(features["input_ids"], features["attention_mask"], pooled)
        return vectors

    # -- saving ---------------------------------------------------------------------------------------------

    def save(self, output_path: str | Path, merge_before_save: bool = False, save_config: bool = True) -> None:
        """Save adapter or weights, tokenizer and settings; `from_pretrained` and `llm2vec.load` read them all.

        Args:
            output_path: the folder, made anew.
            merge_before_save: whole weights with the adapter merged in.
            save_config: write the released package's settings file, too.
        """
        self.encoder.save_pretrained(output_path, merge=merge_before_save)
        if save_config:
            values = {
                "pooling_mode": self.pooling_mode,
                "max_length": self.encoder.max_length,
                "doc_max_length": self.encoder.max_text_length or 0,
                "skip_instruction": self.skip_instruction,
            }
            write_json(Path(output_path) / SETTINGS, values)


def _backbone(model: Any, tokenizer: Any) -> Backbone:
    """A model in memory as the backbone of an Encoder."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "model_type"):
        raise InputError(f"LLM2Vec: {type(model).__name__} is not a transformers model, nor PEFT around one")
    if callable(heads := getattr(model, "get_output_embeddings", None)) and heads() is not None:
        raise InputError(f"LLM2Vec: {type(model).__name__} has an LM head; load it with AutoModel")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    name = str(getattr(config, "_name_or_path", "") or type(model).__name__)
    is_local = Path(name).is_dir()
    source = ResolvedModel(name, name, Path(name).name if is_local else name, is_local)
    # PEFT does not say where its adapters came from, only what it calls them.
    return Backbone(model, tokenizer, source, is_causal_lm(config), tuple(getattr(model, "peft_config", {})))


def _pairs(sentences: Any) -> tuple[list[str], list[str | None]]:
    """Texts, and an instruction or None for each; an empty instruction is none."""
    if isinstance(sentences, (bytes, Mapping)) or not isinstance(sentences, Iterable):
        raise InputError(f"sentences: expected text, pairs or a list of them, got {type(sentences).__name__}")
    texts: list[str] = []
    instructions: list[str | None] = []
    for i, item in enumerate(sentences):
        pair = ("", item) if isinstance(item, str) else item
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise InputError(f"sentences[{i}]: expected a text or an [instruction, text] pair, got {item!r:.80}")
        instructions.append(pair[0].strip() or None)
        texts.append(pair[1])
    return texts, instructions


def _saved_settings(folders: Sequence[str]) -> dict[str, Any]:
    """The released package's settings, from the first local folder that has them."""
    for folder in folders:
        if (Path(folder) / SETTINGS).is_file():
            saved = read_json(Path(folder) / SETTINGS)
            return {name: saved[name] for name in ENCODER_ARGUMENTS if name in saved}
    return {}


def _load_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The released package's further arguments in the words of `load`."""
    options = dict(kwargs)
    dtype = options.pop("torch_dtype", None)
    if dtype is not None:
        options["dtype"] = str(dtype).removeprefix("torch.")
    devices = options.pop("device_map", None)
    if isinstance(devices, Mapping):
        if len(set(map(str, devices.values()))) != 1:
            raise InputError("device_map: one device for the whole model; give device_map={'': 'cuda:0'}")
        devices = next(iter(devices.values()))
    if devices is not None:
        options["device"] = f"cuda:{devices}" if isinstance(devices, int) else str(devices)
    options.pop("trust_remote_code", None)  # no code from a hub is ever run; the families' own classes do it
    return options
