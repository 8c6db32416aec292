"""The interface that the released AnglE and BeLLM share: a thin face of the one Encoder; papers derive theirs."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from common.checkpoints import known_model
from common.data import RowList, canonical_row, load_rows
from common.encoder import Encoder
from common.errors import InputError
from common.model_flags import ModelFlags
from common.prompts import Template

logger = logging.getLogger(__name__)

BARE = "{text}"
WITHOUT_EFFECT = {"tokenizer_padding_side", "padding", "train_mode"}


class PromptedModel:
    """Text embeddings with the released package's interface; `encoder` is the Encoder behind it.

    Texts are batched by us, whatever the length of the list, and the list that is passed in stays as it is.

    A paper's class sets FLAGS (its model flags), PROMPT (of `set_prompt()`), START (the prompt before
    `set_prompt`; None: the model's own), REFUSED (released arguments that do nothing here, accepted where they
    are None, False or 0: name -> what to do), TRAINING (module with `fit`, module with CONFIG and ALIASES).
    """

    FLAGS: ClassVar[type[ModelFlags]]
    PROMPT: ClassVar[str]
    START: ClassVar[str | None] = BARE
    REFUSED: ClassVar[Mapping[str, str]] = {}
    TRAINING: ClassVar[str]

    def __init__(self, encoder: Encoder, *, prompt: str | None = None, lora: Mapping[str, Any] | None = None) -> None:
        self.encoder = encoder
        self.prompt = prompt
        self._lora = dict(lora or {})

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str,
        pretrained_model_path: str | None = None,
        pretrained_lora_path: str | Sequence[str] | None = None,
        is_llm: bool | None = None,
        pooling_strategy: str | None = None,
        *,
        max_length: int | None = None,
        load_kbit: int | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device: str | None = None,
        apply_lora: bool | None = None,
        lora_config_kwargs: Mapping[str, Any] | None = None,
        compat: Sequence[str] = (),
        **released: Any,
    ) -> Self:
        """Load a model.

        Args:
            model_name_or_path: folder, short name or hub id.
            pretrained_model_path: trained weights to take in place of those.
            pretrained_lora_path: a LoRA adapter, or several to stack.
            is_llm: checked against the model.
            pooling_strategy: default: last token for LLMs, the first for encoders.
            max_length: tokens, default 512.
            load_kbit: 4, 8, 16 or 32.
            torch_dtype: default: bf16 for LLMs where it is native, else as the weights are stored.
            device: default: what is there.
            apply_lora, lora_config_kwargs: for a later `fit`.
            compat: released quirks to copy, by name.
            released: the paper's own flags, and arguments of the released package that have no effect here.

        Raises:
            InputError: an unknown argument (the nearest is named), or one that is not supported.
        """
        shared = {f.name for f in dataclasses.fields(ModelFlags)}
        own = {f.name: released.pop(f.name) for f in dataclasses.fields(cls.FLAGS)
               if f.name not in shared and f.name in released}  # fmt: skip
        _refuse(released, cls.from_pretrained, cls.REFUSED)
        adapters = [pretrained_lora_path] if isinstance(pretrained_lora_path, str) else list(pretrained_lora_path or ())
        if load_kbit not in (None, 4, 8, 16, 32):
            raise InputError(f"load_kbit={load_kbit}: must be 4, 8, 16 or 32")
        saved = cls._saved_prompt(pretrained_model_path or model_name_or_path, adapters)
        flags = cls.FLAGS(
            model_name_or_path=model_name_or_path,
            pretrained_model_path=pretrained_model_path,
            lora_name_or_path=adapters,
            # A folder saved here brings its own prompt.
            prompt=saved or cls.START,
            pooling_strategy=pooling_strategy,
            is_llm=is_llm,
            max_length=max_length,
            load_kbit=load_kbit,  # type: ignore[arg-type]
            dtype=str(torch_dtype or "auto").removeprefix("torch."),
            device=device,
            compat=list(compat),
            **own,
        )
        lora = {f"lora_{name.removeprefix('lora_')}": value for name, value in (lora_config_kwargs or {}).items()}
        if apply_lora is not None:
            lora["apply_lora"] = apply_lora
        return cls(flags.load(), prompt=saved, lora=lora)

    @classmethod
    def _saved_prompt(cls, model: str, adapters: Sequence[str]) -> str | None:
        """The prompt that a folder written here brings along; None for every other model."""
        folder = adapters[-1] if adapters else model
        if not (Path(folder) / "encoder.json").is_file():
            return None
        prompt = known_model(cls.FLAGS.CHECKPOINTS, model, list(adapters)).options.get("template", BARE)
        return None if prompt == BARE else prompt

    def _start(self, prompt: str | None) -> str:
        """The prompt, or what texts go into while none is set."""
        return self._text(prompt or self.START or self.encoder.templates["text"].pattern)

    @classmethod
    def _text(cls, prompt: str) -> str:
        """A prompt given by its name, or as it is."""
        return cls.FLAGS.PROMPTS.get(prompt, prompt)

    # -- where it is ----------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.encoder.device

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.encoder.backbone.tokenizer

    @property
    def backbone(self) -> nn.Module:
        """The trunk, maybe inside a PEFT wrapper."""
        return self.encoder.backbone.model

    def to(self, device: str | torch.device) -> Self:
        """Move the model; returns itself."""
        self.encoder.to(device)
        return self

    def cuda(self) -> Self:
        """Move the model to CUDA, where there is one; returns itself."""
        self.encoder.cuda()
        return self

    def cpu(self) -> Self:
        """Move the model to the CPU; returns itself."""
        return self.to("cpu")

    # -- encoding -------------------------------------------------------------------------------------------

    def set_prompt(self, prompt: str | None = "") -> None:
        """Put every text into a prompt (default: the paper's) from now on; the old way of `encode(..., prompt=...)`."""
        logger.warning("set_prompt is the old way of saying it; the present one is encode(..., prompt=...)")
        prompt = self.PROMPT if prompt == "" else prompt
        if prompt is not None:
            Template(self._text(prompt))  # a wrong one is refused here, not at the first text
        self.prompt = self._text(prompt) if prompt else None

    def encode(
        self,
        inputs: str | Mapping[str, str] | Sequence[str | Mapping[str, str]],
        max_length: int | None = None,
        to_numpy: bool = True,
        embedding_start: int = 0,
        embedding_size: int | None = None,
        device: str | torch.device | None = None,
        prompt: str | None = None,
        normalize_embedding: bool = False,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        **released: Any,
    ) -> np.ndarray | Tensor:
        """Vectors (n, dim) in fp32; n = 1 for a single input, as released.

        Args:
            inputs: texts, or dicts with the key "text"; one or a list.
            max_length: tokens, for this call.
            to_numpy: a numpy array, else a tensor on the model's device.
            embedding_start, embedding_size: keep this part of each vector.
            device: move the model there first.
            prompt: for this call; default: that of `set_prompt`, or none.
            normalize_embedding: L2-normalise (after cutting).
            batch_size: texts per batch, at most; default: by tokens.
            show_progress_bar: None shows it when the work takes a while.
            released: arguments of the released package that have no effect here.

        Raises:
            InputError: an input is neither text nor {"text": ...}; an unknown argument.
        """
        _refuse(released, self.encode, self.REFUSED)
        if device is not None:
            self.to(device)
        size = self.encoder.dim if embedding_size is None else embedding_size
        if not 0 <= embedding_start < self.encoder.dim or size < 1:
            raise InputError(
                f"embedding_start {embedding_start}, embedding_size {embedding_size}: no part of "
                f"{self.encoder.dim} dimensions"
            )
        vectors: Tensor = self._with(prompt or self.prompt, max_length).encode(
            _texts(inputs), batch_size=batch_size, convert_to_tensor=True, show_progress_bar=show_progress_bar
        )
        vectors = vectors[:, embedding_start : embedding_start + size]
        if normalize_embedding:
            vectors = nn.functional.normalize(vectors, dim=1)
        return vectors.numpy() if to_numpy else vectors.to(self.device)

    def _with(self, prompt: str | None, max_length: int | None = None) -> Encoder:
        """The encoder with another template or length; model and weights are shared."""
        view = copy.copy(self.encoder)
        view.templates = {
            **view.templates,
            "text": Template(self._text(prompt or self.START or self.encoder.templates["text"].pattern)),
        }
        if max_length is not None:
            if max_length < 1:
                raise InputError(f"max_length {max_length}: must be at least 1")
            most = getattr(view.backbone.config, "max_position_embeddings", None)
            view.max_length = min(max_length, most or max_length)
        return view

    # -- training, measuring, saving ------------------------------------------------------------------------

    def fit(
        self,
        train_ds: str | Iterable[Mapping[str, Any]],
        valid_ds: str | Iterable[Mapping[str, Any]] | None = None,
        *,
        output_dir: str | Path,
        text_prompt: str | None = None,
        query_prompt: str | None = None,
        doc_prompt: str | None = None,
        loss_kwargs: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Self:
        """Train in place with the paper's objective; the result ends up in `output_dir`, too.

        Args:
            train_ds: rows with the columns of a format (text1, text2, label; query, positive; query,
                positive, negative), or the name of a file or data set. valid_ds: likewise.
            output_dir: where checkpoints and the model go.
            text_prompt, query_prompt, doc_prompt: default: that of `set_prompt`, or none.
            loss_kwargs: weights and scales, under their present or their old names (w1, w2, w3).
            settings: any setting of the paper's training (batch_size, learning_rate, epochs, ...).

        Raises:
            InputError: a setting that is not known, or bad rows.
        """
        from common.registry import get, resolve_attribute

        fit = resolve_attribute(str(get(self.FLAGS.METHOD).fit))
        config_class, aliases = (resolve_attribute(f"{self.TRAINING}:{name}") for name in ("CONFIG", "ALIASES"))
        given = {**self._lora, **settings, **{aliases.get(k, k): v for k, v in (loss_kwargs or {}).items()}}
        known = [f.name for f in dataclasses.fields(config_class)]
        for name in given:
            if name not in known:
                raise InputError(f"fit: {name} is not known{_nearest(name, known)}")
        if valid_ds is not None:
            given["valid_name_or_path"] = valid_ds if isinstance(valid_ds, str) else "valid_ds"
        config = config_class(
            output_dir=Path(output_dir),
            query_prompt=query_prompt,
            doc_prompt=doc_prompt,
            **{name: value for name, value in given.items() if value is not None},
        )
        self.prompt = self._text(text_prompt) if text_prompt else self.prompt
        templates = {
            "text": self.prompt or self.START or self.encoder.templates["text"].pattern,
            "query": query_prompt,
            "document": doc_prompt,
        }
        self.encoder.templates = {r: Template(self._text(p)) for r, p in templates.items() if p}  # type: ignore[misc]
        valid = None if valid_ds is None else _rows(valid_ds, "valid_ds")
        fit(self.encoder, _rows(train_ds, "train_ds"), config, valid=valid)
        return self

    def evaluate(
        self,
        ds: str | Iterable[Mapping[str, Any]],
        batch_size: int | None = None,
        metric: str = "spearman_cosine",
        prompt: str | None = None,
    ) -> float:
        """Correlation (-1 to 1) of cosine with the labels of rows text1, text2, label.

        Args:
            ds: rows, or the name of a file or data set.
            batch_size: texts per batch, at most.
            metric: spearman_cosine or pearson_cosine.
            prompt: default: that of `set_prompt`, or none.

        Raises:
            InputError: rows of another format, or another metric.
        """
        from scipy import stats

        correlations = {"spearman_cosine": stats.spearmanr, "pearson_cosine": stats.pearsonr}
        if metric not in correlations:
            raise InputError(f"metric {metric!r}{_nearest(metric, correlations)}: known are {', '.join(correlations)}")
        rows = _rows(ds, "ds")
        if "label" not in rows.columns:
            raise InputError(f"{rows.source}: has {', '.join(rows.columns)}; evaluate needs text1, text2, label")
        a, b = (
            self.encode([row[c] for row in rows.rows], prompt=prompt, batch_size=batch_size, to_numpy=False)
            for c in ("text1", "text2")
        )
        cosine = self.encoder.similarity_pairwise(a, b).cpu().numpy()
        return float(correlations[metric](cosine, [row["label"] for row in rows.rows]).statistic)

    def save_pretrained(self, output_dir: str | Path, exist_ok: bool = True) -> None:
        """Save adapter or weights, tokenizer, prompt, pooling and length; `from_pretrained` reads them all.

        Raises:
            InputError: the folder exists and `exist_ok` is False.
        """
        from common.saving import save_into

        if not exist_ok and Path(output_dir).exists():
            raise InputError(f"{output_dir}: exists already; give another folder, or exist_ok=True")
        save_into(self._with(self.prompt), Path(output_dir))


def _texts(inputs: Any) -> list[str]:
    """The texts of one input or many; checked further by the encoder."""
    items = [inputs] if isinstance(inputs, (str, Mapping)) else inputs
    if isinstance(items, bytes) or not isinstance(items, Iterable):
        raise InputError(f"inputs: expected text, {{'text': ...}} or a list of them, got {type(inputs).__name__}")
    texts = []
    for i, item in enumerate(items):
        if isinstance(item, Mapping) and set(item) != {"text"}:
            raise InputError(
                f"inputs[{i}]: a dict needs the key 'text' alone, has {', '.join(map(repr, item)) or 'none'}"
            )
        texts.append(item["text"] if isinstance(item, Mapping) else item)
    return texts


def _rows(ds: str | Iterable[Mapping[str, Any]], name: str) -> RowList:
    if isinstance(ds, str):
        rows = load_rows(ds)
        assert isinstance(rows, RowList)  # nothing is streamed unless asked for
        return rows
    checked = (canonical_row(row, f"{name}[{i}]") for i, row in enumerate(ds))
    rows = RowList((row for row in checked if row is not None), name)
    if not rows.rows:
        raise InputError(f"{name}: holds no row")
    return rows


def _refuse(arguments: Mapping[str, Any], function: Any, refused: Mapping[str, str]) -> None:
    """Accept released arguments that have no effect here; refuse the others by name."""
    for name, value in arguments.items():
        if name in WITHOUT_EFFECT:
            continue
        if name not in refused:
            known = [*function.__annotations__, *refused, *WITHOUT_EFFECT]
            raise InputError(f"{function.__name__}: {name} is not known{_nearest(name, known)}")
        if value:
            raise InputError(f"{function.__name__}: {name} is not supported: {refused[name]}")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""
