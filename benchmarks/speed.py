"""`python -m benchmarks speed`: our encode against sentence-transformers' on the same texts, in turns.

With `--instructions N` what is measured is N questions about the same texts (`benchmarks.instruction_speed`).
"""

from __future__ import annotations

import datetime
import functools
import logging
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks import instruction_speed, suites
from benchmarks.matmul import limit_shape, matmul_limit, working_parameters
from benchmarks.turns import in_turns
from common import cli, io, registry
from common.encoder import Encoder
from common.errors import InputError
from common.flags import flag
from common.reading import data_root
from senteval import PairTask, evaluate_pairs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

PLAIN = "sentence-transformer"
ASKING_METHOD = "inbedder"  # of --instructions
LLM_METHOD = "angle"  # for models that are no sentence-transformers model: prompt, last token
TOLERANCE = 1e-5  # between L2-normalised vectors of two fp32 encoders (docs/architecture.md)
WARM_UP = 64  # texts of the warm-up: all code paths, a fraction of the time

Key = tuple[str, str]  # whose encode, and the precision
BASE: Key = ("sentence-transformers", "float32")
COLUMNS = [
    *("", "dtype", "seconds", "tokens/s", "times ST", "from - to"),
    *("GFLOP/s", "of limit", "max diff", "Spearman"),
]


@dataclass(kw_only=True)
class SpeedConfig:
    """Measure the speed of encode against sentence-transformers."""

    model: list[str] = flag(("smollm2-135m", "minilm"), "folders, short names or hub ids", "model")
    method: str | None = flag(
        None, "default: sentence-transformer for its own models, else angle; with --instructions inbedder", "model"
    )

    data_dir: Path | None = flag(None, "folder with the data, for STS-B; default: EMBED_DATA", "data")
    texts: int = flag(600, "so many distinct texts, drawn at random", "data")
    limit: int | None = flag(None, "so many pairs for the score drift; default: all", "data")
    seed: int = flag(0, "of the draws", "data")

    instructions: int | None = flag(None, "measure so many questions about the same texts instead", "instructions")
    text_tokens: int = flag(200, "tokens per text under --instructions", "instructions")
    dtype: str | None = flag(None, "precision under --instructions; default: auto", "instructions")

    repeats: int = flag(5, "turns of each contender", "speed")
    threads: int | None = flag(None, "CPU threads; default: as torch has it", "speed")
    device: str | None = flag(None, "default: what is there", "speed")

    output: Path | None = flag(None, "JSON file for the numbers", "output")

    def __post_init__(self) -> None:
        for name in ("texts", "limit", "repeats", "threads", "instructions", "text_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name} {value}: must be at least 1")
        if not self.model:
            raise InputError("--model: needs at least one model")
        if self.dtype and not self.instructions:
            raise InputError("--dtype: needs --instructions; without it fp32 and the own precision are run")


@dataclass(frozen=True)
class Contender:
    """One way to encode the texts, and what came of it.

    Attributes:
        name: "sentence-transformers" or "ours".
        dtype: precision of the weights.
        seconds: wall-clock time of every turn.
        tokens_per_second: real (not padded) tokens over the median of `seconds`.
        ratio: median over the turns of sentence-transformers' seconds by this one's; 1 for itself.
        ratios: lowest and highest of them.
        gflops: 2 x parameters outside the embedding tables x tokens per second, / 1e9.
        limit_share: `gflops` by what a lone matrix product reaches here in this precision; None: not known.
        difference: largest absolute difference of a normalised vector to sentence-transformers'.
        spearman: x 100, on the pairs of the report; only for ours.
    """

    name: str
    dtype: str
    seconds: list[float]
    tokens_per_second: float
    ratio: float
    ratios: tuple[float, float]
    gflops: float
    limit_share: float | None
    difference: float
    spearman: float | None


@dataclass(frozen=True)
class Report:
    """All numbers of one model.

    Attributes:
        model, method, template, pooling: what was run.
        texts, tokens: how many were encoded per turn.
        source: where the texts, and the pairs behind `spearman`, came from.
        pairs: how many pairs `spearman` was taken on.
        parameters: those outside the embedding tables, which do the multiplying.
        limits: precision -> GFLOP/s of one matrix product of the model's shape `limit_shape` (rows, in, out).
        contenders: sentence-transformers first.
    """

    model: str
    method: str
    template: str
    pooling: str
    texts: int
    tokens: int
    source: str
    pairs: int
    parameters: int
    limits: dict[str, float]
    limit_shape: tuple[int, int, int] | None
    contenders: list[Contender]

    @property
    def equal(self) -> bool:
        """Whether our fp32 vectors are sentence-transformers' within the tolerance."""
        return all(c.difference <= TOLERANCE for c in self.contenders if c.dtype == "float32")

    @property
    def drift(self) -> float | None:
        """Points of Spearman by which our other precision departs from our fp32; None if there is none."""
        ours = {c.dtype: c.spearman for c in self.contenders if c.spearman is not None}
        reference = ours.pop("float32", None)
        return next((score - reference for score in ours.values() if reference is not None), None)


def measure(model: str, config: SpeedConfig, task: PairTask) -> Report:
    """Encode in turns and compare.

    Args:
        model: folder, short name or hub id.
        config: the rest of the settings.
        task: pairs; their texts are encoded for time, their grades tell the drift of the score.

    Raises:
        InputError: unknown model, or one that plain sentence-transformers can't express.
    """
    method = config.method or _method_for(model)
    ours = {"float32": registry.load(method, model, dtype="float32", device=config.device)}
    fast = registry.load(method, model, dtype="auto", device=config.device)
    if fast.info.dtype != "float32":
        ours[fast.info.dtype] = fast
    reference = ours["float32"]
    theirs = plain_sentence_transformer(reference)
    texts = draw_texts(task, config.texts, config.seed)

    quietly: dict[str, Any] = {"show_progress_bar": False}
    encoders: dict[Key, Callable[[list[str]], np.ndarray]] = {BASE: functools.partial(theirs.encode, **quietly)}
    for dtype, encoder in ours.items():
        encoders["ours", dtype] = functools.partial(encoder.encode, **quietly)
    for encode in encoders.values():
        encode(texts[:WARM_UP])
    runs = {key: functools.partial(encode, texts) for key, encode in encoders.items()}
    seconds, vectors = in_turns(runs, config.repeats, label=model)

    tokens = sum(map(len, reference.tokenize(texts)))
    parameters = working_parameters(reference.embedder)
    shape = limit_shape(reference.embedder)
    limits = {d: matmul_limit(shape, getattr(torch, d), reference.device) for d in ours} if shape else {}
    base = seconds[BASE]
    expected = _normalised(vectors[BASE])
    pairs = task.sample(config.limit, config.seed)
    contenders = []
    for (name, dtype), times in seconds.items():
        ratios = [theirs_took / took for theirs_took, took in zip(base, times)]
        speed = tokens / statistics.median(times)
        gflops = 2 * parameters * speed / 1e9
        score = evaluate_pairs(ours[dtype].encode, pairs, geometry=False)[0] if name == "ours" else None
        contenders.append(
            Contender(
                name=name,
                dtype=dtype,
                seconds=times,
                tokens_per_second=speed,
                ratio=statistics.median(ratios),
                ratios=(min(ratios), max(ratios)),
                gflops=gflops,
                limit_share=gflops / limits[dtype] if dtype in limits else None,
                difference=float(np.abs(_normalised(vectors[name, dtype]) - expected).max()),
                spearman=None if score is None else score["spearman"],
            )
        )
    info = reference.info
    return Report(
        model=info.title,
        method=method,
        template=info.template,
        pooling=info.pooling,
        texts=len(texts),
        tokens=tokens,
        source="the shipped pairs (no benchmark)" if task.protocol == "shipped" else "STSBenchmark, test",
        pairs=len(pairs),
        parameters=parameters,
        limits=limits,
        limit_shape=shape,
        contenders=contenders,
    )


def load_pairs(data_dir: Path | None) -> PairTask:
    """The test pairs of STS-B where the user names a folder with them, else the shipped pairs.

    Raises:
        InputError: a folder is named and has no STS-B.
    """
    where = data_root(data_dir)
    suite = suites.get_suite("sts-mteb" if where else "sts-shipped")
    name = "STSBenchmark" if where else suite.tasks[0]
    return suites.load(suite, name, where, compat=frozenset())


def draw_texts(task: PairTask, count: int, seed: int) -> list[str]:
    """`count` distinct texts of a task in random order (all, if it has fewer)."""
    texts = list(dict.fromkeys(task.text1 + task.text2))
    if count > len(texts):
        logger.warning("--texts %d: there are only %d distinct texts; going on with those", count, len(texts))
    return [texts[i] for i in np.random.default_rng(seed).permutation(len(texts))[:count]]


def plain_sentence_transformer(encoder: Encoder) -> SentenceTransformer:
    """The model as a user of sentence-transformers has it: the folder as it is, or our export of it."""
    from sentence_transformers import SentenceTransformer

    source = encoder.backbone.source
    if encoder.method == PLAIN and source.is_local and (Path(source.path) / "modules.json").is_file():
        return SentenceTransformer(
            source.path, device=str(encoder.device), model_kwargs={"dtype": encoder.backbone.dtype}
        )
    return encoder.to_sentence_transformer()


def table(report: Report, facts: Mapping[str, Any]) -> str:
    """The report as text; `facts` as from `common.io.environment`."""
    from prettytable import PrettyTable

    cpu, libraries = facts["cpu"], facts["libraries"]
    cuda = facts.get("cuda")
    machine = ", ".join(cuda["devices"]) if cuda else cpu["model"] or "CPU"
    lines = [
        f"{report.model} ({report.method}, {report.pooling}): encode of {report.texts} texts, "
        f"{report.tokens} tokens, from {report.source}",
        f"{machine}, {cpu['threads']} threads, torch {libraries['torch']}, "
        f"sentence-transformers (ST) {libraries['sentence-transformers']}; "
        f"medians of {len(report.contenders[0].seconds)} turns",
    ]
    grid = PrettyTable(COLUMNS)
    grid.align = "r"
    grid.align[""] = grid.align["dtype"] = "l"
    for c in report.contenders:
        grid.add_row(
            [
                c.name,
                c.dtype,
                f"{statistics.median(c.seconds):.2f}",
                f"{c.tokens_per_second:,.0f}",
                f"{c.ratio:.2f}",
                f"{c.ratios[0]:.2f} - {c.ratios[1]:.2f}",
                f"{c.gflops:,.0f}",
                "-" if c.limit_share is None else f"{c.limit_share:.0%}",
                f"{c.difference:.1e}",
                "-" if c.spearman is None else f"{c.spearman:.2f}",
            ]
        )
    lines.append(str(grid))
    if report.limit_shape:
        rows, inner, outer = report.limit_shape
        reached = ", ".join(f"{dtype} {gflops:,.0f} GFLOP/s" for dtype, gflops in report.limits.items())
        lines.append(f"limit: one matrix product, {rows} x {inner} by {inner} x {outer}, reaches {reached}")
    drift = "" if report.drift is None else f"; drift of the score against float32: {report.drift:+.2f}"
    lines.append(f"Spearman x 100 on {report.pairs} pairs of {report.source}{drift}")
    return "\n".join(lines)


def run(config: SpeedConfig) -> int:
    """Measure all models, print, write; 1 if the fp32 vectors of a model are not the same."""
    task = load_pairs(config.data_dir)
    if config.instructions:
        return _run_instructions(config, task)
    reports = []
    with _threads(config.threads):
        facts = io.environment()
        for model in config.model:
            reports.append(measure(model, config, task))
            print(table(reports[-1], facts), end="\n\n")
    _write(config, task, "speed", [asdict(r) | {"equal": r.equal, "drift": r.drift} for r in reports], facts)
    unequal = [r.model for r in reports if not r.equal]
    for name in unequal:
        logger.error("%s: fp32 vectors differ by more than %g from sentence-transformers'", name, TOLERANCE)
    return cli.FAILED if unequal else cli.GOOD


def _run_instructions(config: SpeedConfig, task: PairTask) -> int:
    """Several questions about the same texts; 1 if sharing changes the fp32 vectors of a model."""
    assert config.instructions is not None
    texts = draw_texts(task, config.texts, config.seed)
    reports = []
    with _threads(config.threads):
        facts = io.environment()
        for model in config.model:
            reports.append(
                instruction_speed.measure(
                    model,
                    config.method or ASKING_METHOD,
                    texts,
                    instructions=config.instructions,
                    text_tokens=config.text_tokens,
                    repeats=config.repeats,
                    dtype=config.dtype or "auto",
                    device=config.device,
                )
            )
            print(instruction_speed.table(reports[-1]), end="\n\n")
    _write(config, task, "instruction-speed", [asdict(r) | r.summary() for r in reports], facts)
    unequal = [r.model for r in reports if not r.equal]
    for name in unequal:
        logger.error("%s: sharing the text moves fp32 vectors by more than %g", name, TOLERANCE)
    return cli.FAILED if unequal else cli.GOOD


def _write(
    config: SpeedConfig, task: PairTask, kind: str, reports: list[dict[str, Any]], facts: Mapping[str, Any]
) -> None:
    """The numbers as JSON, where --output names a file."""
    if not config.output:
        return
    payload = {
        "schema": 1,
        "kind": kind,
        "reports": reports,
        "data": {"source": task.source, "sha256": task.fingerprint},
        "seed": config.seed,
        "environment": facts,
        "command": io.command_line(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    io.write_json(config.output, payload)
    print(f"numbers: {config.output}")


def _method_for(model: str) -> str:
    from common.model_names import resolve

    if (Path(model) / "encoder.json").is_file():
        return str(io.read_json(Path(model) / "encoder.json")["method"])
    source = resolve(model)
    return PLAIN if source.is_local and (Path(source.path) / "modules.json").is_file() else LLM_METHOD


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def main(argv: list[str] | None = None) -> None:
    """Our encode against sentence-transformers', in turns; equality, drift, the machine's limit."""
    cli.run(run, SpeedConfig, argv=argv, prog="python -m benchmarks speed", description=SpeedConfig.__doc__)
