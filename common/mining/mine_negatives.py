"""Give query-positive rows harder negatives, found among the data's own texts by an encoder, with guards."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common import cli
from common.environment import command_line, environment
from common.errors import InputError
from common.flags import flag
from common.io import read_json, sha256_file, write_json
from common.mining.mine import MiningOptions, MiningReport, mine
from common.mining.task import MiningTask, prepare
from common.mining.triplets import check_output, read_nli, write_triplets
from common.reading import read_rows

if TYPE_CHECKING:
    from common.encoder import Encoder

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class MineConfig(MiningOptions):
    """Data in, retriever, reranker, guards, file out."""

    train_name_or_path: str = field(
        metadata={"help": "rows of query, positive and, if there, negative: file, shipped:NAME, hub", "group": "data"}
    )
    output: Path = field(metadata={"help": "the rows, .jsonl or .jsonl.gz; a report goes beside", "group": "data"})
    data_dir: Path | None = flag(None, "folder in which local files are looked up", "data")
    train_subset_name: str | None = flag(None, "configuration of a hub data set", "data")
    train_split_name: str = flag("train", "split of a hub data set", "data")
    limit: int | None = flag(None, "the first rows only (candidates come from them alone)", "data")
    nli: list[Path] = flag((), "NLI files; what a premise entails there is no negative of it", "data")
    corpus: list[Path] = flag((), "files with a column text: further candidates", "data")
    query_column: Literal["query", "text"] = flag("query", "what the first column is called in the output", "data")

    model: str | None = flag(None, "the retriever: folder, short name or hub id; default: the method's", "models")
    method: str | None = flag(None, "its method; default: that of the folder, else sentence-transformer", "models")
    adapter: list[str] = flag((), "LoRA adapters, stacked in order", "models")
    instruction: str | None = flag(None, "for methods whose query template takes one", "models")
    reranker: str | None = flag(None, "scores candidates again: a CrossEncoder, or see --reranker_method", "models")
    reranker_method: str = flag("cross-encoder", "cross-encoder, or the method of a second encoder", "models")
    device: str | None = flag(None, "default: what is there", "models")
    dtype: str = flag("auto", "auto, float32, bfloat16, float16", "models")
    batch_size: int | None = flag(None, "texts or pairs per batch, at most", "models")
    dry_run: bool = field(
        default=False, metadata={"help": "print the resolved settings and stop", "group": "data", "recipe": False}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("limit", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")


def main(config: MineConfig) -> None:
    """Load, mine, write, report."""
    report_file = check_output(config.output, [config.train_name_or_path, *config.nli, *config.corpus])
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    started = time.perf_counter()
    task, source = _task(config)
    logger.info("%d rows, %d queries, %d candidates", len(task.rows), len(task.queries), task.candidates)
    rows, report, models = _mined(config, task)
    if not rows:
        raise InputError(f"{source}: no row has a candidate that passes the guards; loosen them, or raise --range_max")
    write_triplets(config.output, rows, config.query_column)
    names = [f.name for f in fields(MiningOptions)]
    written = {
        **report.to_dict(),
        "texts": {"queries": len(task.queries), "candidates": task.candidates},
        "settings": {name: value for name, value in asdict(config).items() if name in names},
        "models": models,
        "inputs": {str(path): sha256_file(path) for path in (source, *config.nli, *config.corpus) if path.is_file()},
        "output": {config.output.name: sha256_file(config.output)},
        "limit": config.limit,
        "seconds": time.perf_counter() - started,
        "command": command_line(),
        "environment": environment(),
    }
    write_json(report_file, written)
    _show(written, report)
    print(f"{config.output}: {len(rows):,} rows; report: {report_file}")


def _task(config: MineConfig) -> tuple[MiningTask, Path]:
    from common.data import RowList, load_rows

    rows = load_rows(
        config.train_name_or_path,
        data_dir=config.data_dir,
        split=config.train_split_name,
        subset=config.train_subset_name,
        limit=config.limit,
    )
    assert isinstance(rows, RowList)  # nothing is streamed
    entailed = (
        (pair.premise, pair.hypothesis) for path in config.nli for pair in read_nli(path) if pair.label == "entailment"
    )
    corpus = (text for path in config.corpus for text in _texts(path))
    return prepare(rows.rows, pool=config.pool, entailed=entailed, corpus=corpus), Path(rows.source)


def _texts(path: Path) -> list[str]:
    found = []
    for number, row in read_rows(path):
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}:{number}: no text in a column 'text'")
        found.append(text)
    return found


def _mined(config: MineConfig, task: MiningTask) -> tuple[list[dict[str, Any]], MiningReport, dict[str, Any]]:
    from common.mining.scores import CrossScores, VectorScores

    retriever = _encoder(config, config.method, config.model, config.adapter)
    batch = {"batch_size": config.batch_size}
    found = VectorScores(retriever, task.queries, task.texts, instruction=config.instruction, **batch)
    models: dict[str, Any] = {"retriever": retriever.info.to_dict(), "reranker": None}
    judge: VectorScores | CrossScores = found
    if config.reranker and config.reranker_method == "cross-encoder":
        judge = CrossScores(config.reranker, task.queries, task.texts, device=config.device, **batch)
        models["reranker"] = config.reranker
    elif config.reranker:
        second = _encoder(config, config.reranker_method, config.reranker, [])
        judge = VectorScores(second, task.queries, task.texts, instruction=config.instruction, **batch)
        models["reranker"] = second.info.to_dict()
    rows, report = mine(task, found, judge, config, show_progress=True)
    return rows, report, models


def _encoder(config: MineConfig, method: str | None, model: str | None, adapter: list[str]) -> Encoder:
    from common.registry import load

    if method is None:
        settings = Path(model or "") / "encoder.json"
        method = read_json(settings)["method"] if model and settings.is_file() else "sentence-transformer"
    return load(method, model, adapter=list(adapter) or None, device=config.device, dtype=config.dtype)


def _show(written: dict[str, Any], report: MiningReport) -> None:
    rows, candidates, scores = (written[name] for name in ("rows", "candidates", "mean_score"))
    print("rows:", ", ".join(f"{name} {count:,}" for name, count in rows.items()))
    print(f"candidates: looked at {candidates['looked_at']:,}, passed {candidates['passed']:,}; removed by")
    for name, count in candidates["removed"].items():
        if count:
            print(f"  {name:18}{count:>12,}{candidates['removed_share'][name]:>9.2%}")
    print("mean score:", ", ".join(f"{name} {_number(value)}" for name, value in scores.items()))
    for name in ("candidate_harder_than_given", "given_negative_within_margin"):
        if written[name]["share"] is not None:
            print(f"{name}: {written[name]['rows']:,} rows ({written[name]['share']:.1%})")
    if written["given_negative_false"]:
        print(f"given_negative_false: {written['given_negative_false']:,} rows (the query, or known to be alike)")
    print("negatives:", ", ".join(f"{name} {count:,}" for name, count in written["negatives"].items()))
    for example in report.examples():
        print(*(f"{name:>10}: {text}" for name, text in example.items()), sep="\n", end="\n\n")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    cli.run(main, MineConfig, description=__doc__)
