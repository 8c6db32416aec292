"""The settings of the few-shot study (`bge_icl.study`): which models, sets and numbers of examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.retrieval_sets import SETS
from bge_icl.make_examples import LIMIT
from common.errors import InputError
from common.flags import flag


@dataclass(kw_only=True)
class StudyConfig:
    """Which models, sets and numbers of examples."""

    output: Path = field(metadata={"help": "folder of the results; one folder per model in it", "group": "output"})
    fresh: bool = flag(False, "forget what is there of these models", "output")

    model: list[str] = flag((), "folders, short names or hub ids; none: draw table and plot of --output anew", "model")
    adapter: list[str] = flag((), "LoRA adapters on top, stacked in order (with one --model)", "model")
    label: list[str] = flag((), "what tables call the models, in order; default: folder or name", "model")
    dtype: str = flag("auto", "auto, float32, bfloat16, float16", "model")
    device: str | None = flag(None, "cpu, cuda, ...; default: what is there", "model")
    threads: int | None = flag(None, "CPU threads; default: as torch has it", "model")

    sets: list[str] = flag(tuple(SETS), f"of {', '.join(SETS)}", "data")
    data_dir: Path | None = flag(None, "folder with the data; default: EMBED_DATA", "data")
    limit_queries: int | None = flag(None, "so many queries of a set, drawn by --limit_seed", "data")
    limit_passages: int | None = flag(
        None, "so many passages, all relevant ones among them (scores are then higher than on the whole set)", "data"
    )
    limit_seed: int = flag(0, "of the limits and of the sample of --plain_too", "data")
    max_query_tokens: int = flag(512, "of a query with its instruction, without the examples", "data")
    max_passage_tokens: int = flag(512, "of a passage", "data")
    train: Path | None = flag(None, ".jsonl of {query, pos, neg}: count what the sets share with it", "data")

    examples: str = flag("auto", "auto: from the training split; else a folder of TASK.json files", "examples")
    shots: list[int] = flag((0, 1, 3, 5), "numbers of examples", "examples")
    seeds: list[int] = flag((0,), "of the draws of examples", "examples")
    example_query_max_len: int = flag(LIMIT, "tokens of an example's query", "examples")
    example_passage_max_len: int = flag(LIMIT, "tokens of an example's response", "examples")

    batch_size: int = flag(256, "texts per batch, at most; batches are planned by tokens", "speed")
    plain_too: bool = flag(
        False, "time the queries of new cells without the prefix cache, too, and compare the vectors", "speed"
    )
    plain_queries: int = flag(64, "on so many queries", "speed")

    def __post_init__(self) -> None:
        for name in ("limit_queries", "limit_passages", "batch_size", "plain_queries", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")
        unknown = [name for name in self.sets if name not in SETS]
        if unknown or not self.sets:
            raise InputError(f"--sets {' '.join(unknown)}: known are {', '.join(SETS)}")
        if not self.shots or min(self.shots) < 0 or not self.seeds:
            raise InputError("--shots and --seeds: give at least one of each, none negative")
        if self.adapter and len(self.model) != 1:
            raise InputError("--adapter: give one --model with it")
        if self.label and len(self.label) != len(self.model):
            raise InputError(f"--label: {len(self.label)} for {len(self.model)} models")
        self.sets, self.shots = list(dict.fromkeys(self.sets)), sorted(set(self.shots))
        self.seeds = list(dict.fromkeys(self.seeds))

    def cells(self) -> list[tuple[int, int]]:
        """(shots, seed) of every cell of a set; without examples there is nothing to draw, so one seed."""
        return [(n, seed) for n in self.shots for seed in (self.seeds if n else self.seeds[:1])]
