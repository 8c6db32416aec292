"""Cluster texts once per instruction and say what each cluster is about: a CSV and a map each, and a summary.

python -m inbedder.propose --texts FILE --instruction "What is it about?" --instruction "Who wrote it?" --clusters 5

A released propose configuration (JSON) is taken as first argument.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common import cli
from common.errors import InputError
from common.flags import flag
from common.io import write_text
from inbedder.defaults import MODEL
from inbedder.model_flags import ALIASES as MODEL_ALIASES
from inbedder.model_flags import DROPPED as MODEL_DROPPED
from inbedder.model_flags import ModeFlags
from inbedder.prompts import check_asks

if TYPE_CHECKING:
    from inbedder.cluster_data import Data
    from inbedder.text_clusters import Clustering

SUMMARY = "summary.md"
FLAG = "--instruction"


_flag = partial(flag, group="clustering")


@dataclass(kw_only=True)
class ProposeConfig(ModeFlags):
    """Texts, questions about them, and a model that answers."""

    texts: str = field(
        metadata={
            "help": "a .txt (one text per line), .jsonl, .json, .csv, .tsv, .parquet; .gz allowed; or a hub data set",
            "group": "clustering",
        }
    )
    instruction: str | list[str] = field(
        metadata={"help": "a question about each text; give the flag several times for several", "group": "clustering"}
    )
    clusters: int = field(metadata={"help": "clusters per instruction", "group": "clustering"})
    text_column: str = _flag("text", "the column of the file that holds the text")
    labels: list[str] = _flag((), "compare with these: a column, or a file with one label per text; one for each "
                                  "instruction, or one for all")  # fmt: skip
    output: Path = _flag(Path("clusters"), "folder to write to")
    name: str | None = _flag(None, "of the files, in place of the instruction's words")
    limit: int | None = _flag(None, "a seeded sample of so many texts")
    top_k: int = _flag(20, "words per cluster")
    seed: int = _flag(42, "of k-means, the map, the sample and answers that are sampled")
    map: Literal["auto", "tsne", "pca"] = _flag("auto", "of the picture; auto: tsne up to 5,000 texts")

    answers: bool = _flag(
        True, "let the model answer for every text; 0: about half the time, the words then come from texts and head"
    )
    max_new_tokens: int | None = _flag(None, "tokens of an answer; default: 3")
    filter_words: list[str] = _flag((), "words that count as no answer")
    model_type: Literal["causal", "masked"] | None = _flag(None, "checked against the model")
    cache_dir: Path | None = _flag(None, "keep vectors and answers there for the next run")
    batch_size: int | None = _flag(None, "texts per batch, at most; default: by tokens")
    dry_run: bool = field(default=False, metadata={"help": "print the resolved settings and stop", "recipe": False})

    def __post_init__(self) -> None:
        for name in ("clusters", "top_k", "limit", "batch_size", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")
        if self.max_new_tokens is not None:
            self.generation_configs = {**(self.generation_configs or {}), "max_new_tokens": self.max_new_tokens}
        super().__post_init__()
        if self.mode == "re_encode":
            raise InputError(f"--mode re_encode: {REFUSED['reencoder']}")
        if self.prompt is not None:
            check_asks(self.prompt, "--prompt")
        if isinstance(self.instruction, str):
            self.instruction = _listed(self.instruction)
        count = len(self.instruction)
        if not count or not all(one.strip() for one in self.instruction):
            raise InputError(f"{FLAG}: is empty; ask a question about the texts")
        if len(set(self.instruction)) < count:
            raise InputError(f"{FLAG}: one is given twice; it would give the same clusters")
        if len(self.labels) not in (0, 1, count):
            raise InputError(f"--labels: {len(self.labels)} for {count} instruction(s); give one, or one for each")
        if self.output.exists() and not self.output.is_dir():
            raise InputError(f"--output {self.output}: is a file; a folder is written to")
        if not (self.model_name_or_path or self.pretrained_model_path or self.lora_name_or_path):
            self.model_name_or_path = MODEL

    @property
    def questions(self) -> list[str]:
        """The instructions."""
        return list(self.instruction)

    @property
    def label_of_each(self) -> list[str]:
        """The name of the labels that each instruction's clusters are compared with; empty without labels."""
        return list(self.labels) * (len(self.instruction) if len(self.labels) == 1 else 1)


def propose(config: ProposeConfig) -> None:
    """Read the texts, then the model; cluster, explain, write."""
    if config.dry_run:
        config.resolve()
        print(cli.describe(config), end="")
        return
    from inbedder.cluster_data import read_data

    data = read_data(config.texts, config.text_column, list(dict.fromkeys(config.labels)))
    kept = _sample(len(data.texts), config.limit, config.seed)
    texts = [data.texts[i] for i in kept]
    if config.clusters > len(set(texts)):
        raise InputError(f"--clusters {config.clusters}: {config.texts} has only {len(set(texts))} different texts")
    config.resolve()
    encoder = config.load()
    if config.model_type and (config.model_type == "masked") == encoder.backbone.is_decoder:
        raise InputError(f"--model_type {config.model_type}: {encoder.backbone.source.name} is of the other kind")

    from inbedder.mode_encoder import ModeEncoder
    from inbedder.text_clusters import cluster

    found = cluster(
        texts,
        config.questions,
        config.clusters,
        labels=_labels(config, data, kept),
        encoder=ModeEncoder(encoder, decoding=config.decoding()),
        top_k=config.top_k,
        seed=config.seed,
        mode=config.mode,
        layer=config.layer,
        answers=config.answers,
        filter_words=list(config.filter_words) or None,
        cache_dir=None if config.cache_dir is None else str(config.cache_dir),
        batch_size=config.batch_size,
        show_progress_bar=True,
    )
    _write(config, texts, found, encoder.backbone.source.name)


def join_instructions(words: Sequence[str]) -> list[str]:
    """A command line whose --instruction flags are one, with a JSON list: a question may hold commas."""
    rest: list[str] = []
    asked: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word.startswith(f"{FLAG}="):
            asked.append(word.removeprefix(f"{FLAG}="))
        elif word == FLAG and queue and not queue[0].startswith("--"):
            while queue and not queue[0].startswith("--"):
                asked.append(queue.pop(0))
        else:
            rest.append(word)
    return rest + ([f"{FLAG}={json.dumps(asked)}"] if asked else [])


def _listed(instruction: str) -> list[str]:
    """One instruction, or those of a JSON list."""
    try:
        found = json.loads(instruction) if instruction.startswith("[") else None
    except json.JSONDecodeError:
        found = None
    return [str(one) for one in found] if isinstance(found, list) else [instruction]


def _sample(count: int, limit: int | None, seed: int) -> list[int]:
    """The places of the texts that are clustered, in order."""
    if limit is None or limit >= count:
        return list(range(count))
    import numpy as np

    return sorted(np.random.default_rng(seed).choice(count, limit, replace=False).tolist())


def _labels(config: ProposeConfig, data: Data, kept: Sequence[int]) -> list[list[str]] | None:
    names = config.label_of_each
    return [[data.labels[name][i] for i in kept] for name in names] if names else None


def _write(config: ProposeConfig, texts: list[str], found: list[Clustering], model: str) -> None:
    """Pictures and CSV files, and behind them the summary, so that it stands for a finished run."""
    from tqdm import tqdm

    from inbedder.cluster_plot import map_texts, plot_clusters, save_plot
    from inbedder.cluster_report import agreement, file_names, summary, write_csv

    names = file_names(config.questions, config.name)
    labels: list[str | None] = [*config.label_of_each] or [None] * len(found)
    settings = {
        "texts": config.texts,
        "model": model,
        "mode": config.mode or "the model's own vector",
        "answers": "generated" if config.answers else "not asked for",
        "clusters": f"{config.clusters}, k-means with 10 starts, seed {config.seed}",
    }
    for one, name, label in tqdm(list(zip(found, names, labels)), desc="maps", unit="map", leave=False):
        places = map_texts(one.vectors, config.map, config.seed)
        note = f"{len(texts)} texts of {Path(config.texts).name}, {model}"
        if one.v_measure is not None:
            note += f"; V-measure against {label}: {one.v_measure:.1f}"
        write_csv(config.output / f"{name}.csv", texts, one, places)
        save_plot(plot_clusters(one, places, note), config.output / f"{name}.png")
    write_text(config.output / SUMMARY, summary(found, texts, names, settings, labels))
    print(_printed(found, labels))
    for i, j, value in agreement(found):
        print(f"instructions {i + 1} and {j + 1}: adjusted Rand index {value:.3f}")
    print(config.output / SUMMARY)


def _printed(found: Sequence[Clustering], labels: Sequence[str | None]) -> str:
    """The clusters as they fit on a screen."""
    lines: list[str] = []
    for number, (one, label) in enumerate(zip(found, labels), 1):
        score = "" if one.v_measure is None else f"  (V-measure against {label}: {one.v_measure:.1f})"
        lines.append(f"{number}. {one.instruction}{score}")
        for place, part in enumerate(one.clusters, 1):
            lines.append(f"   {place:>3}  {part.size:>6}  {', '.join(part.words[:8])}")
    return "\n".join(lines)


# What the command line understands besides the fields.
ALIASES = {
    **MODEL_ALIASES,
    "data_path": "texts",
    "hf_dataset": "texts",
    "column": "text_column",
    "n_clusters": "clusters",
    "instruct_id": "name",
    "output_value": "mode",
    "pattern": "prompt",
    "max_input_length": "max_length",
}
DROPPED = {
    **MODEL_DROPPED,
    "model_id": "files are named by instruct_id or the instruction",
    "tokenizer_path": "the model's own tokenizer is used",
    "use_flash_attention_2": "the fastest attention of the device is used",
    "disable_instruction": "clustering is by instruction",
    "truncate_to_length": "texts are shortened to max_length",
    "last_layer_only": "no other layer is kept",
    "use_cache": "give --cache_dir",
}
REFUSED = {
    "reencoder": "re-encoded answers are a mode of the library call: inbedder.ModeEncoder(..., reencoder=...)",
    "use_whitening": "vectors are clustered as they are",
    "ppl_filtering": "all texts are clustered",
}
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED}

if __name__ == "__main__":
    cli.run(propose, ProposeConfig, join_instructions(sys.argv[1:]), description=__doc__, **OPTIONS)
