"""The one Encoder of all methods: tokenise, plan, forward, pool; speaks sentence-transformers."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from common.backbone import Backbone
from common.batching import distinct, plan
from common.errors import InputError
from common.forward import run_batches
from common.io import sha256_of
from common.pooling import canonical_strategy, pool
from common.prompts import Template, check_texts
from common.tokenization import tokenize

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

Role = Literal["text", "query", "document"]

# Padded tokens per group when a training batch is split by length: enough to keep the matrix units busy.
SPLIT_TOKENS = {"cpu": 1024, "cuda": 16384}


@dataclasses.dataclass(frozen=True)
class EncoderInfo:
    """Everything that decides what an encoder's vectors are; written into every result."""

    method: str
    model: str
    title: str
    revision: str | None
    adapter: tuple[str, ...]
    template: str
    query_template: str | None
    document_template: str | None
    pooling: str
    attention: str
    max_length: int
    normalize: bool
    dtype: str
    quantize: str | None
    compat: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, with the fingerprint."""
        return {**dataclasses.asdict(self), "fingerprint": self.fingerprint}

    @property
    def fingerprint(self) -> str:
        """A short hash over all fields."""
        return sha256_of(dataclasses.asdict(self))[:16]


@dataclasses.dataclass
class Usage:
    """What an encoder has done so far: texts asked for, sequences and tokens run, texts shortened."""

    texts: int = 0
    sequences: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    truncated: int = 0


class Embedder(nn.Module):
    """Trunk and pooling: token ids (B, T) and mask (B, T) -> vectors (B, D) in fp32. This is what is trained."""

    def __init__(self, trunk: nn.Module, pooling: str, compat: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.trunk = trunk
        self.pooling = pooling if pooling == "pooler" else canonical_strategy(pooling)
        self.compat = compat

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pool_mask: Tensor | None = None,
        lengths: list[int] | None = None,
    ) -> Tensor:
        """Vectors (B, D), fp32. Rows may be padded on either side.

        With `lengths` (real tokens per row, rows padded on the right) rows of like length go through the trunk
        together, in one graph, so that a batch of mixed lengths costs no work on padding.
        """
        if lengths is not None:
            groups = plan(lengths, SPLIT_TOKENS.get(input_ids.device.type, SPLIT_TOKENS["cuda"]))
            if len(groups) > 1:
                return self._grouped(groups, lengths, input_ids, attention_mask, pool_mask)
        # Without padding the mask says nothing, and attention is faster without one. (Looking costs a
        # synchronisation on an accelerator.)
        padded = attention_mask.device.type != "cpu" or bool((attention_mask == 0).any())
        output = self.trunk(input_ids=input_ids, attention_mask=attention_mask if padded else None)
        if self.pooling == "pooler":
            return output.pooler_output.float()
        return pool(
            output.last_hidden_state, attention_mask, self.pooling, pool_mask=pool_mask, compat=self.compat
        ).float()

    def _grouped(
        self, groups: list[list[int]], lengths: list[int], ids: Tensor, mask: Tensor, pool_mask: Tensor | None
    ) -> Tensor:
        parts = []
        for rows in groups:
            width = max(lengths[i] for i in rows)
            pooled = None if pool_mask is None else pool_mask[rows, :width]
            parts.append(self.forward(ids[rows, :width], mask[rows, :width], pooled))
        back = torch.tensor([i for rows in groups for i in rows], device=ids.device).argsort()
        return torch.cat(parts)[back]


class Encoder:
    """Turns texts into vectors.

    Args:
        backbone: trunk and tokenizer.
        method: the name in the registry.
        template: how a text is put to the model.
        query_template, document_template: the two sides of retrieval, where they differ from `template`.
        pooling: a strategy of `common.pooling`, or "pooler" (BERT's own pooler output).
        max_length: tokens per sequence, template and special tokens included.
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
        max_length: int = 512,
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
        instruction: str | None = None,
        batch_size: int | None = None,
        max_batch_tokens: int | None = None,
        normalize_embeddings: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        show_progress_bar: bool | None = None,
        truncate_dim: int | None = None,
        devices: Sequence[str] | None = None,
        role: Role = "text",
    ) -> Any:
        """Vectors of texts, in their order.

        Args:
            texts: one text or many.
            instruction: for templates with a place for one.
            batch_size: sequences per batch, at most; None: only the token budget limits it.
            max_batch_tokens: padded tokens per batch; None picks by device.
            normalize_embeddings: L2-normalise.
            convert_to_numpy: a numpy array (the default).
            convert_to_tensor: a tensor on the CPU instead.
            show_progress_bar: None shows it when the work takes a while.
            truncate_dim: keep the first dimensions only (before normalising).
            devices: run on several, for example ["cuda:0", "cuda:1"].
            role: which template: "text", "query" or "document".

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
        vectors = self._encode(items, role, instruction, batch_size, max_batch_tokens, show_progress_bar, devices)
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
        """Token ids per text, templates filled, overlong texts shortened (counted, and said once)."""
        template = self.template_for(role)
        rendered = [template.render(text, instruction=instruction) for text in texts]
        cut_tail = "angle:tail-truncation" in self.compat
        tokens = tokenize(self.backbone.tokenizer, rendered, self.max_length, cut_tail=cut_tail)
        self.usage.truncated += tokens.truncated
        if tokens.truncated and not self._warned_truncation:
            self._warned_truncation = True
            logger.warning(
                "%d of %d texts were shortened to max_length %d (said once)",
                tokens.truncated,
                len(texts),
                self.max_length,
            )
        return tokens.ids

    def _encode(
        self,
        texts: list[str],
        role: Role,
        instruction: str | None,
        batch_size: int | None,
        max_batch_tokens: int | None,
        show_progress_bar: bool | None,
        devices: Sequence[str] | None,
    ) -> Tensor:
        if not texts:
            return torch.zeros((0, self.dim))
        unique_texts, index = distinct(texts)
        ids = self.tokenize(unique_texts, role, instruction)
        sequences, sequence_index = distinct([tuple(s) for s in ids])
        vectors, padded = run_batches(
            self.embedder,
            sequences,
            pad_id=self.backbone.tokenizer.pad_token_id or 0,
            max_rows=batch_size,
            max_tokens=max_batch_tokens,
            show_progress=show_progress_bar,
            devices=devices,
        )
        self.usage.texts += len(texts)
        self.usage.sequences += len(sequences)
        self.usage.tokens += sum(map(len, sequences))
        self.usage.padded_tokens += padded
        where = torch.tensor(sequence_index)[torch.tensor(index)]
        vectors = vectors[where]
        finite = torch.isfinite(vectors).all(dim=1)
        if not bool(finite.all()):
            i = int((~finite).nonzero()[0])
            raise InputError(f"texts[{i}]: its vector is not finite ({self.backbone.dtype}); try --dtype float32")
        return vectors

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


def _as_tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
