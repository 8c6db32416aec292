"""Searches of AIR-Bench's data sets, written as its package writes them and scored with its metrics.

The encoder is a retriever of the package, for one data set at a time, since each has examples of its own. Only the dev
splits have public judgements; search results of test splits have to be submitted to the benchmark's leaderboard.

    OUTPUT/search_results/NAME/NoReranker/TASK_TYPE/DOMAIN/LANGUAGE_DATASET_SPLIT.json    the package's own
    OUTPUT/runs/NAME/DATASET.json                                                         settings, first query, scores
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bge_icl.air_bench_sets import FAMILY, AirData, AirSet
from common.environment import command_line, environment
from common.errors import InputError
from common.io import write_json
from common.reading import read_json

if TYPE_CHECKING:
    from benchmarks.mteb_adapter import MtebEncoder

logger = logging.getLogger(__name__)

METRICS = {"qa": "ndcg_at_10", "long-doc": "recall_at_10"}
TOP_K = 1000  # documents per query, as in the package's own programs
CHUNK = 16_384  # documents whose vectors are in memory at once; the largest sets have millions


class AirRetriever:
    """The encoder as a retriever of the package: exact search by dot product over the whole corpus.

    Args:
        adapter: encodes the two sides with the prompt of the data set, and keeps and logs the first query as read.
        one: the data set.
        search_top_k: documents per query, at most.
    """

    def __init__(self, adapter: MtebEncoder, one: AirSet, search_top_k: int = TOP_K) -> None:
        self.adapter = adapter
        self.one = one
        self.search_top_k = search_top_k

    def __str__(self) -> str:
        """Model and zero-shot or few-shot; the package names folders by it."""
        name = self.adapter.encoder.info.model
        name = Path(name).name if Path(name).exists() else name.replace("/", "--")
        return f"{name}-{'few' if self.adapter.prompts.of(self.one.metadata).examples else 'zero'}-shot"

    def __call__(
        self, corpus: Mapping[str, Mapping[str, str]], queries: Mapping[str, str], **kwargs: Any
    ) -> dict[str, dict[str, float]]:
        """Query -> document -> score, of the best documents, best first; kwargs (language) are not used."""
        import torch

        if not corpus or not queries:
            raise InputError(f"{self.one.name}: has {len(corpus)} documents and {len(queries)} queries")
        vectors = torch.from_numpy(self._encode(list(queries.values()), "query"))
        documents = list(corpus)
        best = torch.empty((len(queries), 0))
        places = torch.empty((len(queries), 0), dtype=torch.long)
        for start in range(0, len(documents), CHUNK):
            part = documents[start : start + CHUNK]
            encoded = torch.from_numpy(self._encode([corpus[i]["text"] for i in part], "document"))
            scores, found = (vectors @ encoded.T).topk(min(self.search_top_k, len(part)))
            best, places = torch.cat([best, scores], 1), torch.cat([places, found + start], 1)
            best, order = best.topk(min(self.search_top_k, best.shape[1]))
            places = places.gather(1, order)
            if len(documents) > CHUNK:
                logger.info("%s: %d of %d documents", self.one.name, start + len(part), len(documents))
        return {
            query: {documents[p]: score for p, score in zip(row_places, row)}
            for query, row_places, row in zip(queries, places.tolist(), best.tolist())
        }

    def _encode(self, texts: list[str], side: str) -> Any:
        return self.adapter.encode(
            [{"text": texts}],
            task_metadata=self.one.metadata,
            hf_split=self.one.splits[0],
            hf_subset=self.one.language,
            prompt_type=side,
        )


@dataclass(frozen=True)
class Found:
    """The search of one split: queries, the file, the main metric x 100 (None: no public judgements)."""

    one: AirSet
    split: str
    queries: int
    file: Path
    score: float | None


def search_sets(
    sets: Sequence[AirSet], adapter: MtebEncoder, data: AirData, output: Path, *, fresh: bool = False
) -> list[Found]:
    """Search what is not there yet, and score all that has public judgements.

    Args:
        sets: of `find_sets`.
        adapter: the encoder with its prompts.
        data: where the data is.
        output: for the search results and the records of the runs.
        fresh: search all again.

    Raises:
        InputError: data can't be read, or the folder has results of other settings.
    """
    return [found for one in sets for found in _search(one, adapter, data, output, fresh)]


def _search(one: AirSet, adapter: MtebEncoder, data: AirData, output: Path, fresh: bool) -> list[Found]:
    retriever = AirRetriever(adapter, one)
    folder = output / "search_results" / str(retriever) / "NoReranker" / one.task_type / one.domain
    files = {split: folder / f"{one.language}_{one.dataset}_{split}.json" for split in one.splits}
    file = output / "runs" / str(retriever) / f"{one.name}.json"
    settings = _settings(one, adapter, data)
    record = read_json(file) if file.is_file() and not fresh else {"splits": {}}
    if other := [key for key in settings if record["splits"] and record["settings"].get(key) != settings[key]]:
        raise InputError(f"{file}: is of other settings ({', '.join(other)}); give another --output, or --fresh")
    lacking = [split for split in one.splits if split not in record["splits"] or not files[split].is_file()]
    if lacking:
        record |= {"settings": settings, **_search_splits(retriever, data, {split: files[split] for split in lacking})}
        record["splits"] |= record.pop("new")
        write_json(file, record)
    else:
        logger.info("%s: done before", one.name)
    for split in one.splits:
        if scores := _scores(one, split, files[split], data):
            record["splits"][split]["scores"] = scores
    write_json(file, record)
    metric = METRICS[one.task_type]
    return [
        Found(one, split, facts["queries"], files[split], facts.get("scores", {}).get(metric))
        for split in one.splits
        if (facts := record["splits"][split])
    ]


def _search_splits(retriever: AirRetriever, data: AirData, files: Mapping[str, Path]) -> dict[str, Any]:
    """Search for the queries of some splits at once and write the results; for the record."""
    from air_benchmark.evaluation_utils import Evaluator

    one, adapter = retriever.one, retriever.adapter
    corpus = data.corpus(one)
    queries = {split: data.queries(one, split) for split in files}
    adapter.reset()
    tokens = adapter.encoder.usage.tokens
    # Splits might have queries of the same id.
    run = retriever(corpus, {f"{split} {i}": text for split, of in queries.items() for i, text in of.items()})
    for split, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f".{file.name}.part")
        Evaluator.save_search_results(
            model_name=str(retriever),
            reranker_name="NoReranker",
            search_results={i: run[f"{split} {i}"] for i in queries[split]},
            output_path=str(part),
            task_type=one.task_type,
            domain=one.domain,
            language=one.language,
            dataset_name=one.dataset,
            split=split,
            benchmark_version=one.version,
        )
        os.replace(part, file)  # whole or not at all: the package takes any file that is there for done
    return {
        "new": {split: {"queries": len(of)} for split, of in queries.items()},
        "documents": len(corpus),
        "first": adapter.first[one.name],
        "tokens": adapter.encoder.usage.tokens - tokens,
        "seconds": adapter.seconds,
        "encoder": adapter.encoder.info.to_dict(),
        "environment": environment(),
        "command": command_line(),
    }


def _settings(one: AirSet, adapter: MtebEncoder, data: AirData) -> dict[str, Any]:
    """What decides the search results."""
    prompt = adapter.prompts.of(one.metadata)
    local = data.place(one.repository)
    return {
        "benchmark_version": one.version,
        "fingerprint": adapter.encoder.info.fingerprint,
        "instruction": prompt.instruction,
        "examples_sha256": hashlib.sha256(prompt.examples.encode()).hexdigest() if prompt.examples else None,
        "source": str(local.resolve()) if local else f"hub: {FAMILY}/{one.repository}",
        "top_k": TOP_K,
    }


def _scores(one: AirSet, split: str, file: Path, data: AirData) -> dict[str, float] | None:
    """The package's metrics at 10, x 100; None where the judgements are not public, or not at hand."""
    from air_benchmark.evaluation_utils import Evaluator

    if split != "dev":
        return None
    try:
        qrels = data.qrels(one, split)
    except InputError as error:
        logger.warning("%s; no scores", error)
        return None
    _, run = Evaluator.load_search_results(str(file))
    judged = {query: documents for query, documents in run.items() if query in qrels}
    return {name: 100 * value for name, value in Evaluator.compute_metrics(qrels, judged, [10]).items()}


def summary(found: Sequence[Found]) -> str:
    """The searches as a table; means of what is scored; what is left to do."""
    from prettytable import PrettyTable

    table = PrettyTable(["task type", "domain", "language", "data set", "split", "queries", "metric", "score"])
    table.align = "l"
    table.align["score"] = table.align["queries"] = "r"
    scores: dict[str, list[float]] = {}
    for each in found:
        one, metric = each.one, METRICS[each.one.task_type]
        shown = "-" if each.score is None else f"{each.score:.2f}"
        table.add_row([one.task_type, one.domain, one.language, one.dataset, each.split, each.queries, metric, shown])
        if each.score is not None:
            scores.setdefault(f"{one.task_type} {each.split}", []).append(each.score)
    lines = [f"{found[0].one.version}, scores x 100", str(table)]
    means = [f"{kind} ({len(values)}) {sum(values) / len(values):.2f}" for kind, values in scores.items()]
    lines += [f"mean: {', '.join(means)}"] if means else []
    hidden = [each.file for each in found if each.split == "test"]
    if hidden:
        lines.append(f"test: the judgements are not public; {len(hidden)} files of search results have to be submitted "
                     f"to the benchmark's leaderboard; they are in {hidden[0].parents[2]}")  # fmt: skip
    return "\n".join(lines)
