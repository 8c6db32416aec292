"""One cell of the few-shot study: a model, a set, and some examples -> scores and cost."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.retrieval_metrics import METRICS, evaluate
from benchmarks.retrieval_sets import RetrievalSet
from bge_icl.examples import Example
from bge_icl.face import FlagICLModel
from bge_icl.local_tasks import local_instruction
from bge_icl.prompts import PLAIN_EXAMPLE_FORMAT, PLAIN_TEMPLATE, TEMPLATE
from bge_icl.study_config import StudyConfig
from common import registry
from common.encoder import Encoder
from common.errors import InputError
from common.io import sha256_of, write_npz
from common.tokenization import Tokenized

logger = logging.getLogger(__name__)

PLAIN_QUERY_FORMAT, PLAIN_SUFFIX = "Instruct: {}\nQuery: {}", "\nResponse:"  # the parts of PLAIN_TEMPLATE
SHOWN = 400  # characters of the first query that are logged from each end


@dataclass
class Timed:
    """What a function gave, and what it took: seconds on the clock, and of all threads of this process."""

    value: Any
    seconds: float
    cpu_seconds: float

    @classmethod
    def of(cls, function: Callable[[], Any]) -> Timed:
        """Call it."""
        clock, cpu = time.perf_counter(), time.process_time()
        value = function()
        return cls(value, time.perf_counter() - clock, time.process_time() - cpu)


class StudyModel:
    """A loaded model, and the vectors of one corpus.

    Attributes:
        name: folder or name, for people.
        weights: a hash of all weights; a folder that was trained anew is another model.
        info: of `Encoder.info`.
    """

    def __init__(self, encoder: Encoder, config: StudyConfig) -> None:
        self.encoder, self.config = encoder, config
        source = encoder.backbone.source
        self.name = Path(source.path).name if source.name == source.path else source.name
        self.weights = weights_hash(encoder.backbone.model)
        self.info = encoder.info.to_dict()
        self._formats = prompt_formats(encoder.template_for("query").pattern, self.name)
        self._corpus: tuple[str, NDArray[np.float32]] | None = None

    @classmethod
    def load(cls, config: StudyConfig, model: str) -> StudyModel:
        """Load one of the models of a run."""
        if config.threads:
            torch.set_num_threads(config.threads)
        adapter = list(config.adapter) or None
        # Merged: vectors are the same, and queries cost what they will cost where such a model is used.
        options: dict[str, Any] = {"merge_adapter": True} if adapter or _is_adapter(model) else {}
        encoder = registry.load("bge_icl", model, adapter=adapter, device=config.device, dtype=config.dtype, **options)
        return cls(encoder, config)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.encoder.backbone.tokenizer

    def _flag(self, tested: RetrievalSet, examples: Sequence[Example]) -> FlagICLModel:
        """The model as users have it; a new one knows no prefix yet."""
        return FlagICLModel(
            self.encoder,
            devices=str(self.encoder.device),
            query_instruction_for_retrieval=local_instruction(tested.name),
            examples_for_task=examples,
            query_max_length=self.config.max_query_tokens,
            passage_max_length=self.config.max_passage_tokens,
            batch_size=self.config.batch_size,
            **self._formats,
        )

    def corpus(self, tested: RetrievalSet, folder: Path, facts: dict[str, Any]) -> NDArray[np.float32]:
        """Vectors of a set's passages: encoded once, for all cells, and kept in `folder` for a resumed run.

        Args:
            tested: the set.
            folder: where vectors of this model are kept.
            facts: what is known of the set; cost and lengths are put into it under "corpus".
        """
        key = sha256_of([self.weights, self.info["fingerprint"], list(tested.corpus.values()),
                         self.config.max_passage_tokens])  # fmt: skip
        if self._corpus and self._corpus[0] == key:
            return self._corpus[1]
        file = folder / f"{tested.name}.npz"
        vectors = _kept(file, key)
        if vectors is None:
            usage = self.encoder.usage
            tokens, truncated = usage.tokens, usage.truncated
            flag = self._flag(tested, ())
            timed = Timed.of(lambda: flag.encode_corpus(list(tested.corpus.values())))
            vectors = timed.value
            facts["corpus"] = {
                "tokens": usage.tokens - tokens,
                "truncated": usage.truncated - truncated,
                "seconds": timed.seconds,
                "cpu_seconds": timed.cpu_seconds,
            }
            logger.info("%s: %d passages encoded in %.0f s (%d cut)", tested.name, len(vectors), timed.seconds,
                        facts["corpus"]["truncated"])  # fmt: skip
            write_npz(file, vectors=vectors, key=np.array(key))
        self._corpus = (key, vectors)
        return vectors

    def cell(self, tested: RetrievalSet, corpus: NDArray[np.float32], examples: Sequence[Example]) -> dict[str, Any]:
        """Scores and cost with these examples; JSON."""
        texts = list(tested.queries.values())
        flag = self._flag(tested, examples)
        ids = flag.query_ids(texts)
        prefix = flag.tokenizer(flag.prefix, add_special_tokens=False)["input_ids"] if flag.prefix else []
        self._show(tested.name, flag, ids[0], len(examples))
        usage = self.encoder.usage
        run, truncated = usage.padded_tokens, usage.truncated
        timed = Timed.of(lambda: flag.encode_queries(texts))
        per_query = evaluate(tested, timed.value, corpus)
        per_1000 = 1000 / len(texts)
        cell: dict[str, Any] = {
            "scores": {name: float(per_query[name].mean()) for name in METRICS},
            "queries": len(texts),
            "examples_sha256": sha256_of([[e.query, e.response] for e in examples]),
            "prefix_tokens": len(prefix),
            "prefix_sha256": hashlib.sha256(flag.prefix.encode()).hexdigest(),
            "tokens": sum(map(len, ids)),
            "tokens_run": usage.padded_tokens - run,
            "truncated": usage.truncated - truncated,
            "seconds": timed.seconds,
            "cpu_seconds": timed.cpu_seconds,
            "seconds_per_1000": timed.seconds * per_1000,
            "cpu_seconds_per_1000": timed.cpu_seconds * per_1000,
            "plain": self._plain(flag, ids, timed.value) if self.config.plain_too else None,
            "per_query": {name: np.round(per_query[name], 3).tolist() for name in ("ndcg@10", "mrr@10")},
        }
        return cell

    def _plain(self, flag: FlagICLModel, ids: list[list[int]], cached: NDArray[np.float32]) -> dict[str, Any]:
        """The cost without the prefix cache, and how far the vectors are from those with it."""
        generator = random.Random(self.config.limit_seed)
        rows = sorted(generator.sample(range(len(ids)), min(self.config.plain_queries, len(ids))))
        tokens = Tokenized([ids[i] for i in rows], 0)
        options: dict[str, Any] = {"batch_size": self.config.batch_size, "prefix_cache": "off"}
        timed = Timed.of(lambda: flag.encoder.encode_tokens(tokens, **options))
        vectors = nn.functional.normalize(timed.value, dim=1).numpy()
        return {
            "queries": len(rows),
            "tokens": sum(map(len, tokens.ids)),
            "seconds_per_1000": timed.seconds * 1000 / len(rows),
            "cpu_seconds_per_1000": timed.cpu_seconds * 1000 / len(rows),
            "max_difference": float(np.abs(vectors - cached[rows]).max()),
        }

    def _show(self, name: str, flag: FlagICLModel, ids: list[int], count: int) -> None:
        """Log the first query as the model reads it, so that few-shot can't be zero-shot unseen."""
        text = flag.tokenizer.decode(ids)
        shown = text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]} [...] {text[-SHOWN:]}"
        logger.info("%s, first query with %d examples, %d tokens: %s", name, count, len(ids), repr(shown))


def prompt_formats(template: str, model: str) -> dict[str, Any]:
    """What `FlagICLModel` must be told for a model that was trained with this template; {} for the paper's.

    Raises:
        InputError: a template of one's own, which these arguments can't be derived from.
    """
    if template == TEMPLATE:
        return {}
    if template == PLAIN_TEMPLATE:
        return {
            "query_instruction_format": PLAIN_QUERY_FORMAT,
            "examples_instruction_format": PLAIN_EXAMPLE_FORMAT,
            "suffix": PLAIN_SUFFIX,
        }
    raise InputError(f"{model}: its prompt {template!r} is neither of BGE-ICL's two")


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of all parameters and their names, in hex."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        data = parameter.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(data.numpy().data)
    return digest.hexdigest()


def _is_adapter(model: str) -> bool:
    return (Path(model) / "adapter_config.json").is_file() and not (Path(model) / "config.json").is_file()


def _kept(file: Path, key: str) -> NDArray[np.float32] | None:
    """The vectors of a file, where they are those of `key`."""
    if not file.is_file():
        return None
    with np.load(file) as found:
        return found["vectors"] if str(found["key"]) == key else None
