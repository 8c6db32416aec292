"""The one Encoder of all methods: tokenise, plan, forward, pool; speaks sentence-transformers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from common.backbone import Backbone
from common.batching import distinct
from common.embedder import Embedder
from common.encoder_info import EncoderInfo, Usage
from common.errors import InputError
from common.forward import run_batches
from common.prefix_cache import PrefixCache
from common.prompts import Template, check_texts
from common.tokenization import Pooled, Tokenized, check_pooled, tokenize

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

Role = Literal["text", "query", "document"]


class Encoder:
    """Turns texts into vectors.

    Args:
        backbone: trunk and tokenizer.
        method: the name in the registry.
        template: how a text is put to the model.
        query_template, document_template: the two sides of retrieval, where they differ from `template`.
        pooling: a strategy of `common.pooling`, or "pooler" (BERT's own pooler output).
        pooled: the part of the filled template whose tokens are pooled: "all" (special tokens included), "text",
            "text_and_suffix", or "mask" (the mask tokens at its end). An empty text leaves the template's suffix, or
            all tokens.
        max_length: tokens per sequence, template and special tokens included.
        max_text_length: tokens of the text alone, at most; None: only `max_length` counts.
        normalize: L2-normalise always (part of the model), not only on demand.
        compat: names of released quirks to copy (see docs/architecture.md).
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        method: str,
        template: Template | None = None,
        query_template: Template | None = None,
        document_template: Template | None = None,
        pooling: str = "mean",
        pooled: Pooled = "all",
        max_length: int = 512,
        max_text_length: int | None = None,
        normalize: bool = False,
        compat: frozenset[str] = frozenset(),
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.templates: dict[Role, Template] = {"text": template or Template()}
        if query_template:
            self.templates["query"] = query_template
        if document_template:
            self.templates["document"] = document_template
        self.max_length = min(max_length, getattr(backbone.config, "max_position_embeddings", None) or max_length)
        self.max_text_length = max_text_length
        self.pooled = check_pooled(pooled)
        self.normalize = normalize
        self.compat = compat
        self.embedder = Embedder(backbone.model, pooling, compat)
        self.usage = Usage()
        self._warned_truncation = False

    # -- what it is ---------------------------------------------------------------------------------------

    @property
    def info(self) -> EncoderInfo:
        """What decides the vectors; frozen."""
        from common.attention import get_attention

        backbone = self.backbone
        query, document = self.templates.get("query"), self.templates.get("document")
        return EncoderInfo(
            method=self.method,
            model=backbone.source.name,
            title=backbone.source.title,
            revision=backbone.source.revision,
            adapter=backbone.adapters,
            template=self.templates["text"].pattern,
            query_template=query.pattern if query else None,
            document_template=document.pattern if document else None,
            pooling=self.pooling,
            attention=str(get_attention(backbone.model)),
            max_length=self.max_length,
            normalize=self.normalize,
            dtype=str(backbone.dtype).removeprefix("torch."),
            quantize=backbone.quantize,
            compat=tuple(sorted(self.compat)),
            pooled=self.pooled,
            max_text_length=self.max_text_length,
            merged=bool(backbone.adapters) and not backbone.has_adapter,
        )

    @property
    def pooling(self) -> str:
        """The pooling strategy."""
        return self.embedder.pooling

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backbone.device

    @property
    def dim(self) -> int:
        """The width D of a vector."""
        return self.backbone.hidden_size

    def get_embedding_dimension(self) -> int:
        """The width D of a vector (the name that sentence-transformers uses)."""
        return self.dim

    def to(self, device: str | torch.device) -> Encoder:
        """Move the model; returns itself."""
        self.embedder.to(device)
        return self

    def cuda(self) -> Encoder:
        """Move the model to CUDA; without CUDA it stays where it is, with a notice."""
        if torch.cuda.is_available():
            return self.to("cuda")
        logger.warning("no CUDA device here; the model stays on %s", self.device)
        return self

    # -- encoding -----------------------------------------------------------------------------------------

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        instruction: str | Sequence[str | None] | None = None,
        batch_size: int | None = None,
        max_batch_tokens: int | None = None,
        normalize_embeddings: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        show_progress_bar: bool | None = None,
        truncate_dim: int | None = None,
        devices: Sequence[str] | None = None,
        role: Role = "text",
        examples: str = "",
        prefix_cache: PrefixCache = "auto",
    ) -> Any:
        """Vectors of texts, in their order.

        Args:
            texts: one text or many.
            instruction: for templates with a place for one; one for all texts, or one (or None) per text.
            batch_size: sequences per batch, at most; None: only the token budget limits it.
            max_batch_tokens: padded tokens per batch; None picks by device.
            normalize_embeddings: L2-normalise.
            convert_to_numpy: a numpy array (the default).
            convert_to_tensor: a tensor on the CPU instead.
            show_progress_bar: None shows it when the work takes a while.
            truncate_dim: keep the first dimensions only (before normalising).
            devices: run on several, for example ["cuda:0", "cuda:1"].
            role: which template: "text", "query" or "document".
            examples: for templates with a place for them; they are never cut, and `max_length` does not count them.
            prefix_cache: "auto" runs what all token sequences begin with once, where that pays; "off" never does.
                The vectors are the same up to rounding.

        Returns:
            (n, dim) float32; (dim,) for a single str; (0, dim) for an empty list.

        Raises:
            InputError: an item is not a str, or its vector is not finite; names the index.
        """
        single = isinstance(texts, str)
        items = check_texts([texts] if single else texts)
        for name, value in (("batch_size", batch_size), ("max_batch_tokens", max_batch_tokens)):
            if value is not None and value < 1:
                raise InputError(f"{name} {value}: must be at least 1")
        if truncate_dim is not None and not 1 <= truncate_dim <= self.dim:
            raise InputError(f"truncate_dim {truncate_dim}: must be between 1 and {self.dim}")
        options = {
            "batch_size": batch_size,
            "max_batch_tokens": max_batch_tokens,
            "show_progress_bar": show_progress_bar,
            "devices": devices,
            "prefix_cache": prefix_cache,
        }
        vectors = self._encode(items, role, instruction, examples, options)
        if truncate_dim is not None:
            vectors = vectors[:, :truncate_dim]
        if normalize_embeddings or self.normalize:
            vectors = nn.functional.normalize(vectors, dim=1)
        result = vectors[0] if single else vectors
        if convert_to_tensor:
            return result
        return result.numpy() if convert_to_numpy else (result if single else list(result))

    def encode_query(self, texts: str | Sequence[str], **options: Any) -> Any:
        """Vectors of search queries; options as in `encode`."""
        return self.encode(texts, role="query", **options)

    def encode_document(self, texts: str | Sequence[str], **options: Any) -> Any:
        """Vectors of documents; options as in `encode`. Documents get no instruction."""
        return self.encode(texts, role="document", **options)

    def template_for(self, role: Role) -> Template:
        """The template of one side; sides without their own use that of plain texts."""
        return self.templates.get(role, self.templates["text"])

    def tokenize(self, texts: Sequence[str], role: Role = "text", instruction: str | None = None) -> list[list[int]]:
        """Token ids per text; see `tokens`."""
        return self.tokens(texts, role, instruction).ids

    def tokens(
        self,
        texts: Sequence[str],
        role: Role = "text",
        instruction: str | Sequence[str | None] | None = None,
        examples: str = "",
    ) -> Tokenized:
        """Token ids per text and which of them are pooled.

        Templates are filled, overlong texts shortened (counted, and said once). Options as in `encode`.
        """
        template = self.template_for(role)
        rendered = [
            template.render(t, instruction=i, examples=examples)
            for t, i in zip(texts, _per_text(instruction, len(texts)))
        ]
        tokenizer = self.backbone.tokenizer
        limit = self.max_length
        if examples:
            limit += len(tokenizer(examples, add_special_tokens=False)["input_ids"])
            limit = min(limit, getattr(self.backbone.config, "max_position_embeddings", None) or limit)
        tokens = tokenize(
            tokenizer,
            rendered,
            limit,
            pooled=self.pooled,
            max_text_length=self.max_text_length,
            compat=self.compat,
        )
        self.usage.truncated += tokens.truncated
        if tokens.truncated and not self._warned_truncation:
            self._warned_truncation = True
            limit = f"max_length {self.max_length}"
            if self.max_text_length is not None:
                limit += f", the text to {self.max_text_length}"
            logger.warning("%d of %d texts were shortened to %s (said once)", tokens.truncated, len(texts), limit)
        return tokens

    def _encode(
        self,
        texts: list[str],
        role: Role,
        instruction: str | Sequence[str | None] | None,
        examples: str,
        options: dict[str, Any],
    ) -> Tensor:
        instructions = _per_text(instruction, len(texts))
        unique, index = distinct(list(zip(texts, instructions)))
        tokens = self.tokens([text for text, _ in unique], role, [i for _, i in unique], examples)
        vectors = self._run(tokens, **options)[torch.tensor(index, dtype=torch.long)]
        self.usage.texts += len(texts)
        self._check_finite(vectors)
        return vectors

    def encode_tokens(self, tokens: Tokenized, **options: Any) -> Tensor:
        """Vectors (n, dim) of tokenised texts, fp32 on the CPU, not normalised.

        `options`: batch_size, max_batch_tokens, show_progress_bar, devices, prefix_cache of `encode`.

        Raises:
            InputError: a vector is not finite; names the index.
        """
        vectors = self._run(tokens, **options)
        self.usage.texts += len(tokens.ids)
        self._check_finite(vectors)
        return vectors

    def _run(
        self,
        tokens: Tokenized,
        *,
        batch_size: int | None = None,
        max_batch_tokens: int | None = None,
        show_progress_bar: bool | None = None,
        devices: Sequence[str] | None = None,
        prefix_cache: PrefixCache = "auto",
    ) -> Tensor:
        if not tokens.ids:
            return torch.zeros((0, self.dim))
        # The same ids with another part pooled are another sequence.
        spans: Any = tokens.pooled or repeat(None)
        sequences, index = distinct([(tuple(ids), span) for ids, span in zip(tokens.ids, spans)])
        vectors, padded = run_batches(
            self.embedder,
            [ids for ids, _ in sequences],
            pooled=None if tokens.pooled is None else [span for _, span in sequences],
            pad_id=self.backbone.tokenizer.pad_token_id or 0,
            max_rows=batch_size,
            max_tokens=max_batch_tokens,
            show_progress=show_progress_bar,
            devices=devices,
            prefix_cache=prefix_cache,
        )
        self.usage.sequences += len(sequences)
        self.usage.tokens += sum(len(ids) for ids, _ in sequences)
        self.usage.padded_tokens += padded
        return vectors[torch.tensor(index)]

    def _check_finite(self, vectors: Tensor) -> None:
        finite = torch.isfinite(vectors).all(dim=1)
        if not bool(finite.all()):
            i = int((~finite).nonzero()[0])
            raise InputError(f"texts[{i}]: its vector is not finite ({self.backbone.dtype}); try --dtype float32")

    # -- comparing ----------------------------------------------------------------------------------------

    def similarity(self, a: Any, b: Any) -> Tensor:
        """Cosine of every row of a (N, D) with every row of b (M, D): (N, M)."""
        from sentence_transformers.util import cos_sim

        return cos_sim(_as_tensor(a), _as_tensor(b))

    def similarity_pairwise(self, a: Any, b: Any) -> Tensor:
        """Cosine of row i of a (N, D) with row i of b (N, D): (N,)."""
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(_as_tensor(a), _as_tensor(b))

    # -- saving and loading -------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, *, merge: bool = False) -> None:
        """Write a folder that `from_pretrained` and, where it can be, plain sentence-transformers open.

        Args:
            folder: made anew, atomically.
            merge: write whole weights with the adapter merged in, instead of the adapter alone.
        """
        from common.saving import save

        save(self, Path(folder), merge=merge)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Encoder:
        """Load what `save_pretrained` wrote; options as in `common.backbone.load_backbone`."""
        from common.saving import load

        return load(Path(folder), **options)

    def to_sentence_transformer(self) -> SentenceTransformer:
        """The same model as a plain sentence-transformers model.

        Raises:
            InputError: plain sentence-transformers can't express the pooling or the attention.
        """
        from common.saving import to_sentence_transformer

        return to_sentence_transformer(self)


def _per_text(instruction: str | Sequence[str | None] | None, count: int) -> list[str | None]:
    """An instruction, or None, for each of `count` texts."""
    if instruction is None or isinstance(instruction, str):
        return [instruction] * count
    if len(instruction) != count:
        raise InputError(f"instruction: {len(instruction)} for {count} texts; give one str, or one per text")
    return list(instruction)


def _as_tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
