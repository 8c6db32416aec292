"""What finds and scores candidates in mining: the vectors of an Encoder, or a CrossEncoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from common.errors import InputError
from common.model_names import resolve

if TYPE_CHECKING:
    from common.encoder import Encoder

# Numbers in memory at once, besides the vectors: 2**26 in fp32 are 256 MB.
BLOCK = 2**26


class VectorScores:
    """Cosines of an encoder's vectors; finds (`search`) and scores (`pairs`).

    Args:
        encoder: any method's; queries go through its query template, texts through that of documents.
        queries, texts: the texts that are numbered from 0.
        instruction: for query templates with a place for one.
        encode_options: of `Encoder.encode`, such as `batch_size`.
    """

    def __init__(
        self,
        encoder: Encoder,
        queries: Sequence[str],
        texts: Sequence[str],
        *,
        instruction: str | None = None,
        **encode_options: Any,
    ) -> None:
        options = {"normalize_embeddings": True, "convert_to_tensor": True, **encode_options}
        self.queries = encoder.encode_query(queries, instruction=instruction, **options).to(encoder.device)
        self.texts = encoder.encode_document(texts, **options).to(encoder.device)

    def search(self, depths: Sequence[int], among: int) -> Iterator[list[list[int]]]:
        """Chunks of queries in order: for each the numbers of its nearest texts, best first, at equal scores by number.

        Of query i at least `depths[i]` of the first `among` texts (all of them, if they are fewer).
        """
        # In blocks of queries, so that the similarities of all queries with all texts never exist at once.
        size = max(1, min(1024, BLOCK // max(1, among)))
        for start in range(0, len(self.queries), size):
            similarity = self.queries[start : start + size] @ self.texts[:among].T
            depth = min(among, max(depths[start : start + size]))
            scores, numbers = (part.cpu() for part in torch.topk(similarity, depth, dim=1))
            order = np.lexsort((numbers.numpy(), -scores.numpy()), axis=1)
            yield np.take_along_axis(numbers.numpy(), order, axis=1).tolist()

    def pairs(self, queries: Sequence[int], texts: Sequence[int]) -> np.ndarray:
        """Cosines (n,) of n queries, each with one text."""
        size = max(1, BLOCK // self.texts.shape[1])
        parts = [
            (self.queries[list(queries[i : i + size])] * self.texts[list(texts[i : i + size])]).sum(dim=1).cpu()
            for i in range(0, len(queries), size)
        ]
        return torch.cat(parts).numpy() if parts else np.zeros(0, dtype=np.float32)


class CrossScores:
    """Scores of a sentence-transformers CrossEncoder, which reads query and text together.

    Args:
        model: local folder or hub id of a model with one output.
        queries, texts: the texts that are numbered from 0.
        device: None picks.
        batch_size: pairs per batch.

    Raises:
        InputError: the model has several outputs (an NLI classifier, for example), or can't be loaded.
    """

    def __init__(
        self,
        model: str,
        queries: Sequence[str],
        texts: Sequence[str],
        *,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        from sentence_transformers import CrossEncoder

        source = resolve(model)
        try:
            self.model = CrossEncoder(source.path, device=device, **source.load_options)
        except (OSError, ValueError) as error:
            raise InputError(f"--reranker {model}: {str(error).splitlines()[0]}") from error
        if self.model.num_labels != 1:
            raise InputError(f"--reranker {model}: has {self.model.num_labels} outputs; a reranker has one score")
        self.queries, self.texts = queries, texts
        self.batch_size = batch_size or 32

    def pairs(self, queries: Sequence[int], texts: Sequence[int]) -> np.ndarray:
        """Scores (n,) of n queries, each with one text, after the model's own activation."""
        inputs = [(self.queries[q], self.texts[t]) for q, t in zip(queries, texts)]
        if not inputs:
            return np.zeros(0, dtype=np.float32)
        return self.model.predict(inputs, batch_size=self.batch_size, show_progress_bar=False)
