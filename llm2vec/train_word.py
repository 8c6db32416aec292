"""Word-level evaluation: a linear probe for POS, NER and chunking on the frozen states of a model's words."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import cli
from common.errors import InputError
from llm2vec.word_data import TaggedSentences, read_file, read_split
from llm2vec.word_flags import ALIASES, DROPPED, REFUSED
from llm2vec.word_metrics import WordScores, check_seqeval, class_table, floors, score, span_plural, table
from llm2vec.word_recipe import WordConfig, span_kind

if TYPE_CHECKING:
    from common.encoder import Encoder
    from llm2vec.word_probe import LinearProbe, TaggedStates
    from llm2vec.word_states import WordEncoder

logger = logging.getLogger(__name__)

SUITE, PROTOCOL, METRIC = "word-level", "linear-probe", "token_accuracy"
RESULTS, SUMMARY = "results", "result_summary.json"


@dataclass(frozen=True)
class Splits:
    """The data of a run; None where there is none, or none is needed. `total`: test sentences before any limit."""

    train: TaggedSentences | None
    valid: TaggedSentences | None
    test: TaggedSentences
    total: int


@dataclass(frozen=True)
class Tested:
    """A probe, the words of the test split, what it predicts for them, and how good that is.

    `rows`: the scores of the probe and of taggers without any model. `tokens` and `seconds`: what it took, with this
    task's share of the pass over the words' states.
    """

    task: str
    folder: Path
    probe: LinearProbe
    settings: dict[str, Any]
    data: TaggedStates
    predicted: list[list[str]]
    rows: dict[str, WordScores]
    tokens: int
    seconds: dict[str, float]


def main(config: WordConfig) -> None:
    """Read the data, then load the model; train a probe for each task, test it, write and print what was found."""
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    if not config.model_name_or_path:
        raise InputError("missing: --model_name_or_path")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("a linear probe is trained by one process; start it without torchrun")
    # Below the checks of the command line: wrong flags and --help need not wait for torch.
    splits = read_splits(config)
    if any(scheme != "none" for scheme in splits.test.schemes.values()):
        check_seqeval()
    from common.optional_packages import installed_reports

    config.report_to = installed_reports(config.report_to)
    started = time.perf_counter()
    encoder = load_encoder(config)
    words = word_encoder(config, encoder)
    states = compute_states(config, words, splits)
    seconds, tokens = time.perf_counter() - started, words.tokens
    for task in config.task:
        found = run_task(config, encoder, words, states, splits.train, task)
        found = replace(
            found,
            tokens=found.tokens + tokens // len(config.task),
            seconds={"states": seconds / len(config.task), **found.seconds},
        )
        write(config, encoder, words, splits, found)
        print(report(config, splits, found))
    print(f"results: {config.output_dir / RESULTS}")


# ------------------------------------------------------------------------------------------------- what goes in


def read_splits(config: WordConfig) -> Splits:
    """The sentences to train, validate and test on, as far as they are needed.

    Raises:
        InputError: missing or malformed data.
    """

    def read(split: Any, file: Path | None) -> TaggedSentences | None:
        if config.test_file is not None:
            return None if file is None else read_file(file, config.task)
        return read_split(
            config.dataset_name, split, config.task, data_dir=config.data_dir, subset=config.dataset_config_name
        )

    train = read("train", config.train_file)  # in a test the floors are made from it
    if train is None and not config.eval_only:
        raise InputError("missing: --train_file")
    valid = None
    if train is not None and not config.eval_only and config.eval_strategy != "no":
        valid = read("validation", config.validation_file)
        if valid is None:
            train, valid = train.hold_out(config.validation_split_percentage)
    whole = read("test", config.test_file)
    if whole is None:
        raise InputError(f"--dataset_name {config.dataset_name}: has no test split")
    train = None if train is None else train.head(config.max_train_samples)
    valid = None if valid is None else valid.head(config.max_eval_samples)
    return Splits(train, valid, whole.head(config.max_eval_samples), len(whole))


def load_encoder(config: WordConfig) -> Encoder:
    """The model, with the attention that was asked for.

    Raises:
        InputError: no such model.
    """
    from common.attention import check_attention, get_attention, set_attention
    from common.optional_packages import installed_attention
    from common.registry import load

    custom = config.model_class == "custom"
    options: dict[str, Any] = {
        "revision": config.model_revision,
        "attn_implementation": installed_attention(config.attn_implementation),
    }
    encoder = load(
        "llm2vec" if custom else "sentence-transformer",
        config.model_name_or_path,
        adapter=list(config.adapter) or None,
        device=config.device,
        dtype=config.dtype,
        quantize=config.quantize,
        **{name: value for name, value in options.items() if value is not None},
    )
    wanted = "bidirectional" if config.bidirectional else "causal"
    if custom and get_attention(encoder.backbone.model) != wanted:
        set_attention(encoder.backbone.model, wanted)  # type: ignore[arg-type]
        check_attention(encoder.backbone.model)
    return encoder


def word_encoder(config: WordConfig, encoder: Encoder) -> WordEncoder:
    """What gives the states of words, as the recipe wants them."""
    from llm2vec.word_states import WordEncoder

    return WordEncoder(
        encoder.backbone,
        labels=config.retroactive_labels,
        merge_subwords=config.merge_subwords,
        max_length=config.max_length,
        max_tokens=config.max_batch_tokens,
    )


def compute_states(config: WordConfig, words: WordEncoder, splits: Splits) -> dict[str, tuple[Any, TaggedSentences]]:
    """Split -> the states of its words, which all tasks share, and its sentences."""
    from llm2vec.word_states import CachedStates, LiveStates, cache_bytes

    train = splits.train
    if train is not None and config.shuffle_labels:
        train = train.shuffled(config.seed)
    wanted = {"train": None if config.eval_only else train, "validation": splits.valid, "test": splits.test}
    sentences = {name: one for name, one in wanted.items() if one is not None}
    aligned = {name: words.align(one.words) for name, one in sentences.items()}
    kind = config.cache
    if kind == "auto":
        total = sum(one.words for one in aligned.values())
        size = cache_bytes(total, words.backbone.hidden_size, config.cache_dtype)
        kind = "memory" if size <= config.cache_gb * 1e9 else "disk"
        logger.info("states of %s words: %.2f GB, %s", f"{total:,}", size / 1e9, f"--cache {kind}")
    return {
        name: (
            LiveStates(words, one) if kind == "none" else CachedStates(words, one, kind, config.cache_dtype),
            sentences[name],
        )
        for name, one in aligned.items()
    }


# ------------------------------------------------------------------------------------------------- train and test


def run_task(
    config: WordConfig,
    encoder: Encoder,
    words: WordEncoder,
    states: dict[str, tuple[Any, TaggedSentences]],
    train: TaggedSentences | None,
    task: str,
) -> Tested:
    """Train a probe for one task, or take the one that is named, and test it.

    Args:
        config: the recipe.
        encoder, words: where the states are from.
        states: of `compute_states`.
        train: what the floors are made from; None: there are none.
        task: one of the recipe's.
    """
    from llm2vec.word_probe import TaggedStates, predicted_tags

    started, before = time.perf_counter(), words.tokens
    folder = config.output_dir if len(config.task) == 1 else config.output_dir / task
    data = {split: TaggedStates(*one, task) for split, one in states.items()}
    probe, settings = obtain_probe(config, encoder, data, folder, task)
    kind, test = span_kind(task), data["test"]
    predicted = predicted_tags(probe, test.states)
    rows = {"probe": score(test.tags, predicted, kind)}
    if train is not None:
        for name, tags in floors(train, task, test.sentences.words).items():
            rows[name] = score(test.tags, test.scored(tags), kind)
    seconds = {"probe": time.perf_counter() - started}
    return Tested(task, folder, probe, settings, test, predicted, rows, words.tokens - before, seconds)


def obtain_probe(
    config: WordConfig, encoder: Encoder, data: dict[str, TaggedStates], folder: Path, task: str
) -> tuple[LinearProbe, dict[str, Any]]:
    """A trained probe, or the one that is to be tested, and what it was trained on.

    Raises:
        InputError: a classifier of other states or another task than what it is to be tested on.
    """
    from llm2vec.word_probe import fit_probe, load_probe

    settings = probe_settings(config, encoder, task, data)
    if not config.eval_only:
        device, dim = encoder.device, encoder.backbone.hidden_size
        probe = fit_probe(
            data["train"], data.get("validation"), config, folder, dim=dim, device=device, settings=settings
        )
        return probe, settings
    path = config.classifier_path or folder
    path = path / task if (path / task).is_dir() else path
    probe, saved = load_probe(path)
    for name in ("task", "retroactive_labels", "merge_subwords", "dim"):
        if saved.get(name) != settings[name]:
            raise InputError(
                f"{path}: its classifier was trained with {name} {saved.get(name)!r}, not {settings[name]!r}"
            )
    for name in ("model", "adapter", "attention"):
        if saved.get(name) != settings[name]:
            logger.warning("%s: trained on states of %s %s, tested on those of %s", path, name, saved.get(name),
                           settings[name])  # fmt: skip
    return probe.to(encoder.device), saved


def probe_settings(config: WordConfig, encoder: Encoder, task: str, data: dict[str, TaggedStates]) -> dict[str, Any]:
    """What a probe's states and tags are; saved beside its weights."""
    info = encoder.info
    train = data.get("train")
    return {
        "task": task,
        "retroactive_labels": config.retroactive_labels,
        "merge_subwords": config.merge_subwords,
        "dim": encoder.backbone.hidden_size,
        "model": info.model,
        "adapter": list(info.adapter),
        "attention": info.attention,
        "dtype": info.dtype,
        "trained_on": None if train is None else train.sentences.source,
        "train_sentences": None if train is None else len(train),
        "train_tokens": None if train is None else train.aligned.words,
        "shuffled_labels": config.shuffle_labels,
    }


# ------------------------------------------------------------------------------------------------- what comes out


def write(config: WordConfig, encoder: Encoder, words: WordEncoder, splits: Splits, tested: Tested) -> None:
    """`result_summary.json` in the task's folder, and the result file, as of every benchmark, in `results`.

    The summary has the released name `precision` for the token accuracy.
    """
    import numpy as np

    from benchmarks import results
    from benchmarks.result_record import result_record
    from common.io import sha256_of, write_json

    task, data, rows = tested.task, tested.data, tested.rows
    found = rows["probe"].to_dict()
    below = {name: scores.to_dict() for name, scores in rows.items() if name != "probe"}
    short = {name: value for name, value in found.items() if not name.startswith("per_")}
    test_data = f"{splits.test.source} ({len(splits.test):,} of {splits.total:,} sentences)"
    summary = {"precision": found[METRIC], **short, "task": task, "test_data": test_data}
    write_json(tested.folder / SUMMARY, summary)
    predicted, gold = tested.predicted, data.tags
    labels = sorted({tag for side in (predicted, gold) for tags in side for tag in tags})
    index = {label: i for i, label in enumerate(labels)}
    arrays = {
        name: np.array([index[tag] for tags in side for tag in tags], dtype=np.int64)
        for name, side in (("prediction", predicted), ("gold", gold))
    }
    info = encoder.info.to_dict()
    del info["fingerprint"]
    info["word_states"] = {
        "retroactive_labels": config.retroactive_labels,
        "merge_subwords": config.merge_subwords,
        "max_length": words.max_length,
        "cache_dtype": config.cache_dtype,
    }
    info["fingerprint"] = sha256_of(info)[:16]
    limited = len(splits.test) < splits.total
    record = result_record(
        info,
        task=f"{Path(config.test_file or config.dataset_name).name.partition('.')[0]}-{task}",
        suite=SUITE,
        protocol=PROTOCOL,
        metric=METRIC,
        score=100 * found[METRIC],
        scores={**found, "floors": below},
        n=len(arrays["gold"]),
        limit=config.max_eval_samples if limited else None,
        data={
            "source": splits.test.source,
            "sha256": splits.test.fingerprint,
            "scheme_of_source": splits.test.schemes[task],
            "words_without_state": splits.test.tokens - data.aligned.words,
            "complete": not limited,
        },
        seed=config.seed,
        texts=len(splits.test),
        tokens=tested.tokens,
        seconds=sum(tested.seconds.values()),
        seconds_of=tested.seconds,
        probe={**tested.settings, "recipe": cli.describe(config)},
        labels=labels,  # what the numbers in the arrays stand for
    )
    results.write_result(config.output_dir / RESULTS, record, arrays)


TITLES = {
    "probe": "linear probe",
    "majority_tag": "floor: most frequent tag",
    "majority_tag_of_word": "floor: the word's most frequent tag",
}


def report(config: WordConfig, splits: Splits, tested: Tested) -> str:
    """What was measured on how much, the scores beside the floors, and those of each class."""
    rows, settings = tested.rows, tested.settings
    scores = rows["probe"]
    counts = [f"{scores.sentences:,} sentences", f"{scores.tokens:,} words"]
    if scores.spans:
        counts.append(f"{scores.spans.gold:,} {span_plural(scores.spans.kind)}")
    of = "" if len(splits.test) == splits.total else f" (of {splits.total:,})"
    trained = settings.get("train_sentences")
    shuffled = ", TAGS SHUFFLED" if settings.get("shuffled_labels") else ""
    where = (
        "" if trained is None else f"; trained on {trained:,} sentences, {settings['train_tokens']:,} words{shuffled}"
    )
    model = " + ".join([settings["model"], *settings["adapter"]])
    head = f"{tested.task}, {splits.test.source}: {', '.join(counts)}{of}{where}"
    how = f"{model}, attention {settings['attention']}, {config.retroactive_labels}, {len(tested.probe.labels)} classes"
    named = {TITLES[name]: one for name, one in rows.items()}
    return f"{head}\n{how}; x 100\n{table(named)}\n{class_table(scores)}"


# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED}

if __name__ == "__main__":
    cli.run(main, WordConfig, description=__doc__, **OPTIONS)
