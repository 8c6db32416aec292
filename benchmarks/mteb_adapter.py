"""Any method of the registry as an mteb encoder: the right prompt on the right side, batching left to our Encoder."""

from __future__ import annotations

import copy
import hashlib
import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from benchmarks.mteb_prompts import TaskPrompt
from common.errors import InputError

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta

    from common.encoder import Encoder

logger = logging.getLogger(__name__)

Side = Literal["text", "query", "document"]


class Prompts(Protocol):
    """What says how a task is read: `mteb_prompts.TaskPrompts`, or a method's own."""

    @property
    def fingerprint(self) -> str:
        """A hash over all that decides the prompts."""

    def of(self, metadata: Any) -> TaskPrompt:
        """The prompt of one task, by its mteb metadata."""


class MtebEncoder:
    """An `Encoder` in the form of mteb's EncoderProtocol.

    Retrieval and reranking have two sides: queries get the task's instruction, documents none (or one of their own;
    or that of the queries, where the prompt says `both_sides`). In all other tasks every text gets it.

    Args:
        encoder: what encodes.
        prompts: how each task is read.
        options: batch_size, max_batch_tokens, devices of `Encoder.encode`.

    Attributes:
        first: task -> side -> the first text exactly as the model read it, since the last `reset`.
        seconds: spent encoding since the last `reset`.
    """

    def __init__(self, encoder: Encoder, prompts: Prompts, **options: Any) -> None:
        self.encoder = encoder
        self.prompts = prompts
        self.options = options
        self.first: dict[str, dict[str, dict[str, Any]]] = {}
        self.seconds = 0.0
        # The same model without the normalisation that may be part of the method.
        self._bare = copy.copy(encoder)
        self._bare.normalize = False

    def reset(self) -> None:
        """Forget what was counted, before the next task."""
        self.first, self.seconds = {}, 0.0

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """Name and revision for mteb's cache; the revision changes with everything that decides a vector."""
        from mteb.models.model_meta import ModelMeta, ScoringFunction

        info = self.encoder.info
        title = info.title.replace("/", "--").replace(" ", "-")
        return ModelMeta.create_empty({
            "name": f"{info.method}/{title}",
            "revision": f"{info.fingerprint[:8]}-{self.prompts.fingerprint[:8]}",
            "similarity_fn_name": ScoringFunction.COSINE,
            "framework": ["PyTorch"],
            "embed_dim": self.encoder.dim,
            "max_tokens": info.max_length,
        })  # fmt: skip

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Vectors (n, dim) float32 of all texts of mteb's batches, in their order.

        Args:
            inputs: mteb's DataLoader of batches with a list under "text".
            task_metadata: of the task; decides the prompt.
            hf_split, hf_subset: not used.
            prompt_type: "query", "document", or None for tasks without two sides.
            kwargs: batch_size and the like, mteb's; batches are planned by our Encoder.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        name = str(task_metadata.name)
        side: Side = "text" if prompt_type is None else "document" if prompt_type == "document" else "query"
        prompt = self.prompts.of(task_metadata)
        as_query = side != "document" or prompt.both_sides
        role: Side = "query" if side == "document" and prompt.both_sides else side
        reading: dict[str, Any] = {
            "role": role,
            "instruction": prompt.instruction if as_query else prompt.document,
            "examples": prompt.examples if as_query else "",
        }
        if texts and side not in self.first.get(name, {}):
            self.first.setdefault(name, {})[side] = self._as_read(name, side, texts[0], reading)
        encoder = self.encoder if prompt.normalized else self._bare
        started = time.perf_counter()
        vectors = encoder.encode(texts, **reading, **self.options)
        self.seconds += time.perf_counter() - started
        return np.asarray(vectors, dtype=np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of all rows with all rows."""
        return self.encoder.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of the rows, pair by pair."""
        return self.encoder.similarity_pairwise(embeddings1, embeddings2)

    def _as_read(self, name: str, side: str, text: str, reading: dict[str, Any]) -> dict[str, Any]:
        """The first text of a side as the model reads it, decoded from its token ids; and it is logged.

        Raises:
            InputError: examples were given and don't stand before the text.
        """
        tokenizer = self.encoder.backbone.tokenizer
        ids = self._ids(text, reading)
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        record: dict[str, Any] = {"text": decoded, "tokens": len(ids), "instruction": reading["instruction"]}
        if reading["examples"]:
            added = len(ids) - len(self._ids(text, {**reading, "examples": ""}))
            alone = len(tokenizer(reading["examples"], add_special_tokens=False)["input_ids"])
            if added < alone - 2:  # where the parts meet, tokens may merge
                raise InputError(f"{name}: the examples have {alone} tokens, the first query only {added} more with "
                                 "them than without; few-shot would not be few-shot")  # fmt: skip
            digest = hashlib.sha256(reading["examples"].encode()).hexdigest()
            record |= {"examples_tokens": alone, "examples_sha256": digest}
        shown = f", {record['examples_tokens']} of them examples" if reading["examples"] else ""
        logger.info("%s: the first %s as the model reads it (%d tokens%s):\n%s", name, side, len(ids), shown, decoded)
        return record

    def _ids(self, text: str, reading: dict[str, Any]) -> list[int]:
        truncated = self.encoder.usage.truncated
        ids = self.encoder.tokens([text], **reading).ids[0]
        self.encoder.usage.truncated = truncated  # this is only a look
        return ids
