"""What the training tests share: tiny random models with real tokenizers, a data set that can be learned.

The data set pairs English with French sentences of three words. A random model knows nothing of it, word
overlap does not help, and the held-out sentences are new combinations of known words.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import socket
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

NOUNS = {
    "cat": "chat", "dog": "chien", "horse": "cheval", "bird": "oiseau", "fish": "poisson", "wolf": "loup",
    "king": "roi", "child": "enfant", "boy": "garçon", "friend": "ami", "doctor": "médecin",
    "baker": "boulanger",
}  # fmt: skip
VERBS = {
    "sleeps": "dort", "eats": "mange", "runs": "court", "sings": "chante", "falls": "tombe", "laughs": "rit",
    "drinks": "boit", "reads": "lit",
}  # fmt: skip


def sentences() -> list[dict[str, str]]:
    """All 96 triplets, shuffled: query, its translation, and the translation with another verb."""
    verbs = list(VERBS.values())
    rows = [
        {
            "query": f"the {noun} {verb}",
            "positive": f"le {NOUNS[noun]} {VERBS[verb]}",
            "negative": f"le {NOUNS[noun]} {verbs[(verbs.index(VERBS[verb]) + 1) % len(verbs)]}",
        }
        for noun, verb in itertools.product(NOUNS, VERBS)
    ]
    random.Random(0).shuffle(rows)
    return rows


def labelled() -> list[dict[str, Any]]:
    """192 pairs: every query with its positive (1.0) and its negative (0.0)."""
    pairs: list[dict[str, Any]] = []
    for row in sentences():
        pairs.append({"text1": row["query"], "text2": row["positive"], "label": 1.0})
        pairs.append({"text1": row["query"], "text2": row["negative"], "label": 0.0})
    return pairs


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    """Rows as JSON Lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _tokenizer(kind: str) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["the", "le", *NOUNS, *NOUNS.values(), *VERBS, *VERBS.values()]
    words += ["Summarize", "sentence", "in", "one", "word", ":", '"', ':"']
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(special + words))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    if kind == "bert":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
        )
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    else:
        names |= {"eos_token": "[SEP]", "bos_token": "[CLS]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)


def save_tiny(folder: Path, kind: str, **changes: Any) -> Path:
    """A random model of two layers ("bert" or "llama") with its tokenizer, as a local folder."""
    tokenizer = _tokenizer(kind)
    size: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    if kind == "llama":
        size |= {"num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **{**size, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT folder; dropout 0.1, as BERT's default is."""
    return save_tiny(tmp_path_factory.mktemp("bert") / "tiny-bert", "bert")


@pytest.fixture(scope="session")
def tiny_bert_without_dropout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT folder whose forward pass in training mode is that in evaluation mode."""
    folder = tmp_path_factory.mktemp("bert0") / "tiny-bert"
    return save_tiny(folder, "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.fixture(scope="session")
def wide_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama folder wide enough for bitsandbytes, which quantises 4-bit weights in blocks of 64."""
    folder = tmp_path_factory.mktemp("wide") / "tiny-llama"
    return save_tiny(folder, "llama", hidden_size=64, intermediate_size=128)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama folder (no dropout of its own)."""
    return save_tiny(tmp_path_factory.mktemp("llama") / "tiny-llama", "llama")


@pytest.fixture(scope="session")
def triplet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 72 triplets, as JSON Lines."""
    return write_jsonl(tmp_path_factory.mktemp("data") / "triplets.jsonl", sentences()[:72])


# -- other processes --------------------------------------------------------------------------------

_context = multiprocessing.get_context("forkserver")
# The server imports torch and ours once; each process is then a quick fork of it.
_context.set_forkserver_preload(["training_fixtures", "common.training", "angle.train", "peft"])


def _enter(function: Callable[..., None], arguments: tuple[Any, ...], environment: dict[str, str], log: str) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    with open(log, "w", encoding="utf-8") as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
        try:
            function(*arguments)
        except BaseException:
            traceback.print_exc()
            handle.flush()
            os._exit(1)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def run_processes(
    function: Callable[..., None], *arguments: Any, folder: Path, count: int = 1, timeout: float = 240
) -> list[int]:
    """Run a module-level function in processes of their own, which find each other; their exit codes.

    An exit code below 0 is minus the number of the signal that killed the process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    several = [{"RANK": str(r), "LOCAL_RANK": str(r), **shared} for r in range(count)]
    started = []
    for rank in range(count):
        environment = several[rank] if count > 1 else {}
        log = str(folder / f"log-{rank}.txt")
        process = _context.Process(target=_enter, args=(function, arguments, environment, log))
        process.start()
        started.append(process)
    codes = []
    for process in started:
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
        codes.append(process.exitcode)
    for rank, code in enumerate(codes):
        if code not in (0, -signal.SIGKILL):
            pytest.fail(f"process {rank} ended with {code}:\n" + (folder / f"log-{rank}.txt").read_text()[-4000:])
    return codes
