"""Few-shot queries: FlagEmbedding's encode_queries against ours, and our prefix cache against our plain path.

    bash scripts/bge_icl/compare_speed.sh            makes an environment for FlagEmbedding 1.4.2, then runs this

Same model folder (smollm2-135m with the three special tokens, BOS and EOS), texts, fp32, threads and batch size, in
turns, after a warm-up; two examples of about 250 tokens in all, and none. Ratios are medians over the turns of this
contender's time by the other's in the same turn, on the clock and in CPU seconds of all threads: where other programs
use the machine, the second is the one to read. The token bound is what the prefix cache would gain if time were
proportional to tokens: n (P + s) / (P + n s) for n queries of s tokens behind P common ones, the instruction included.
"""

from __future__ import annotations

import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from common import cli
from common.errors import InputError
from common.io import command_line, environment, write_json

logger = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("flagembedding_worker.py")
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query."
EXAMPLES = [
    {
        "instruct": INSTRUCTION,
        "query": "why does bread dough rise",
        "response": "Dough rises because yeast feeds on the sugars in flour and gives off carbon dioxide. The gas is "
        "caught in a net of gluten, the protein that kneading stretches into sheets, and blows up thousands of small "
        "bubbles in it. In the oven the gas expands once more before the heat kills the yeast and sets the crumb. "
        "A warm kitchen makes dough rise quickly, a cold one slowly and with more flavour.",
    },
    {
        "instruct": INSTRUCTION,
        "query": "how to stop a door from squeaking",
        "response": "A squeak comes from dry metal that rubs in the hinge. Close the door, knock out the pin of one "
        "hinge at a time with a nail, wipe off rust and old grease, rub the pin with petroleum jelly or a drop of "
        "oil, and push it back. Open and close the door a few times. If it still squeaks, the hinge may be bent or "
        "its screws loose: tighten them first, then look whether the two leaves are in line.",
    },
]
ASKED = ["what is", "how to clean", "history of", "cost of", "best way to store", "who invented", "uses of", "buy"]
THINGS = ["a violin", "solar panels", "green tea", "the bicycle", "wool", "olive oil", "paper", "a kayak", "concrete"]
THINGS += ["maple syrup", "a telescope", "rubber boots", "clay pots", "the zip fastener", "honey", "glass"]
OURS, PLAIN, THEIRS = "ours", "ours, plain", "FlagEmbedding"


@dataclass(kw_only=True)
class CompareConfig:
    """What is compared, and where FlagEmbedding is."""

    flag_python: Path | None = field(default=None, metadata={"help": "Python of an environment with FlagEmbedding; "
                                                                     "none: our two paths alone"})  # fmt: skip
    model: str = field(default="smollm2-135m", metadata={"help": "folder, short name or hub id"})
    queries: int = field(default=64, metadata={"help": f"short queries, {len(ASKED) * len(THINGS)} at most"})
    repeats: int = field(default=5, metadata={"help": "turns"})
    threads: int = field(default=2, metadata={"help": "CPU threads of each side"})
    batch_size: int = field(default=256, metadata={"help": "texts per batch, at most; FlagEmbedding's default"})
    output: Path | None = field(default=None, metadata={"help": "JSON file for the numbers"})

    def __post_init__(self) -> None:
        for name in ("queries", "repeats", "threads", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: must be at least 1")
        if self.queries > len(ASKED) * len(THINGS):
            raise InputError(f"--queries {self.queries}: there are {len(ASKED) * len(THINGS)}")
        if self.flag_python is not None and not self.flag_python.is_file():
            raise InputError(f"--flag_python {self.flag_python}: no such file; compare_speed.sh makes the environment")


def prepared(model: str, folder: Path) -> Path:
    """The model as a folder that both sides load: three special tokens, BOS and EOS around every text, fp32."""
    from bge_icl.encoder import load
    from bge_icl.special_tokens import add_special_tokens

    encoder = load(model, device="cpu", dtype="float32")
    add_special_tokens(encoder, seed=0)
    backbone = encoder.backbone
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return folder


class FlagEmbedding:
    """The other side, in a process of its own."""

    def __init__(self, config: CompareConfig, folder: Path, scratch: Path) -> None:
        words = [str(config.flag_python), str(WORKER), str(folder), INSTRUCTION, str(config.threads)]
        self._log = open(scratch / "flagembedding.log", "w+", encoding="utf-8")  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            [*words, str(config.batch_size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self._out = scratch / "vectors.npy"
        self._answer()

    def __call__(self, examples: list[dict[str, str]], queries: list[str]) -> tuple[float, float, Any]:
        """Seconds, CPU seconds, vectors."""
        import numpy as np

        assert self._process.stdin is not None
        job = {"examples": examples, "queries": queries, "out": str(self._out)}
        print(json.dumps(job), file=self._process.stdin, flush=True)
        answer = json.loads(self._answer())
        return answer["seconds"], answer["cpu_seconds"], np.load(self._out)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["no message"])[-1]
            raise InputError(f"FlagEmbedding ended: {last}")
        return line

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None and self._process.poll() is None:
            print("", file=self._process.stdin, flush=True)
        self._process.wait(timeout=60)
        self._log.close()


class Ours:
    """Our side: with the prefix cache, or without."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        from bge_icl.encoder import load

        self.encoder = load(str(folder), device="cpu", dtype="float32")
        self.batch_size = batch_size

    def __call__(self, examples: list[dict[str, str]], queries: list[str], *, plain: bool) -> tuple[float, float, Any]:
        """Seconds, CPU seconds, vectors. The model is told its examples anew, so nothing is kept from turn to turn."""
        from torch.nn.functional import normalize

        from common.tokenization import Tokenized

        clock, cpu = time.perf_counter(), time.process_time()
        flag = self.flag(examples)
        if plain:
            tokens = Tokenized(flag.query_ids(queries), 0)
            found = flag.encoder.encode_tokens(tokens, batch_size=self.batch_size, prefix_cache="off")
            vectors = normalize(found, dim=1).numpy()
        else:
            vectors = flag.encode_queries(queries)
        return time.perf_counter() - clock, time.process_time() - cpu, vectors

    def flag(self, examples: list[dict[str, str]]) -> Any:
        """The model with these examples."""
        from bge_icl.face import FlagICLModel

        return FlagICLModel(
            self.encoder,
            devices="cpu",
            batch_size=self.batch_size,
            query_instruction_for_retrieval=INSTRUCTION,
            examples_for_task=examples,
        )

    def bound(self, examples: list[dict[str, str]], queries: list[str]) -> tuple[float, int, float]:
        """The token-count bound of sharing, the tokens of the common prefix, and the mean of those behind it."""
        from common.prefix_cache import common_prefix

        ids = self.flag(examples).query_ids(queries)
        shared = common_prefix(self.encoder.embedder, ids)
        rest = sum(len(one) - shared for one in ids)
        return sum(map(len, ids)) / (shared + rest), shared, rest / len(ids)


def compare(config: CompareConfig) -> dict[str, Any]:
    """All turns of all contenders with two examples and with none; JSON."""
    import numpy as np
    import torch

    torch.set_num_threads(config.threads)
    queries = [f"{asked} {thing}" for thing, asked in product(THINGS, ASKED)][: config.queries]
    document: dict[str, Any] = {"kind": "fewshot-speed", "environment": environment(), "command": command_line()}
    document |= {"model": config.model, "queries": len(queries), "threads": config.threads, "dtype": "float32"}
    document |= {"batch_size": config.batch_size, "repeats": config.repeats, "cases": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepared(config.model, Path(scratch) / "model")
        ours = Ours(folder, config.batch_size)
        theirs = FlagEmbedding(config, folder, Path(scratch)) if config.flag_python else None
        contenders = {OURS: lambda e, q: ours(e, q, plain=False), PLAIN: lambda e, q: ours(e, q, plain=True)}
        if theirs is not None:
            contenders[THEIRS] = theirs
        try:
            for examples in (EXAMPLES, []):
                bound, shared, rest = ours.bound(examples, queries)
                for run in contenders.values():
                    run(examples, queries[:4])  # loads, and takes all paths once
                turns: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
                vectors = {}
                for turn in range(config.repeats):
                    for name, run in contenders.items():
                        seconds, cpu_seconds, vectors[name] = run(examples, queries)
                        turns[name].append((seconds, cpu_seconds))
                        logger.info("%d examples, turn %d, %s: %.2f s, CPU %.2f s",
                                    len(examples), turn + 1, name, seconds, cpu_seconds)  # fmt: skip
                case = {"examples": len(examples), "prefix_tokens": shared, "rest_tokens": rest, "bound": bound}
                case["contenders"] = {
                    name: {
                        "seconds": [wall for wall, _ in turns[name]],
                        "cpu_seconds": [cpu for _, cpu in turns[name]],
                        "queries_per_second": len(queries) / statistics.median(wall for wall, _ in turns[name]),
                        "times_ours": _ratio(turns[name], turns[OURS], 0),
                        "times_ours_cpu": _ratio(turns[name], turns[OURS], 1),
                        "max_difference": float(np.abs(vectors[name] - vectors[OURS]).max()),
                    }
                    for name in contenders
                }
                document["cases"].append(case)
        finally:
            if theirs is not None:
                theirs.close()
    return document


def _ratio(those: list[tuple[float, float]], ours: list[tuple[float, float]], which: int) -> float:
    """Median over the turns of their time by ours."""
    return statistics.median(a[which] / b[which] for a, b in zip(those, ours))


def report(document: dict[str, Any]) -> str:
    """The numbers as a table, and what they are to be held against."""
    from prettytable import PrettyTable

    columns = ["examples", "", "queries/s", "times ours", "CPU s", "times ours (CPU)", "max difference"]
    table, lines = PrettyTable(columns, align="r"), []
    for case in document["cases"]:
        for name, found in case["contenders"].items():
            table.add_row([
                *(case["examples"], name, f"{found['queries_per_second']:.2f}", f"{found['times_ours']:.2f}"),
                *(f"{statistics.median(found['cpu_seconds']):.2f}", f"{found['times_ours_cpu']:.2f}"),
                f"{found['max_difference']:.1e}",
            ])  # fmt: skip
        plain = case["contenders"][PLAIN]
        lines.append(
            f"{case['examples']} examples: {case['prefix_tokens']} common tokens, then {case['rest_tokens']:.1f} on "
            f"average; token bound {case['bound']:.2f}, reached to {100 * plain['times_ours'] / case['bound']:.0f}% "
            f"({100 * plain['times_ours_cpu'] / case['bound']:.0f}% in CPU time)"
        )
    head = (
        f"{document['model']}, {document['queries']} queries, {document['dtype']}, {document['threads']} threads, "
        f"median of {document['repeats']} turns"
    )
    return "\n".join([head, table.get_string(), *lines])


def main(config: CompareConfig) -> int:
    """Compare, print, write."""
    document = compare(config)
    print(report(document))
    if config.output is not None:
        write_json(config.output, document)
        print(f"results: {config.output}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    cli.run(main, CompareConfig, description=__doc__)
