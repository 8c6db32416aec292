"""Evaluate a BGE-EN-ICL model on MTEB, BEIR and AIR-Bench, zero-shot and few-shot, with the published instructions.

    python -m bge_icl.eval --model BAAI/bge-en-icl --benchmark "MTEB(eng, v1)" --examples FOLDER --output RESULTS
    python -m bge_icl.eval --model smollm2-135m --tasks STSBenchmark --data_dir DATA --examples auto --n_examples 2
    python -m bge_icl.eval --model BAAI/bge-en-icl --benchmark AIR-Bench_24.05 --task_types qa --splits dev

Queries, and all texts of tasks other than retrieval, go in as queries: examples, instruction, text. Classification
vectors are not normalised. The first query of every task is logged, and kept in its result, as the model reads it.
AIR-Bench needs its own package (pip install air-benchmark).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.mteb_adapter import MtebEncoder
from benchmarks.mteb_program import MtebFlags, plan_tasks, run_planned, summary
from benchmarks.mteb_prompts import TaskPrompt, TaskPrompts, load_prompts
from bge_icl.air_bench_sets import FAMILY, AirBenchFlags, AirData, examples_place, find_sets, is_air_bench
from bge_icl.examples import Example, examples_text
from bge_icl.task_instructions import AIR_BENCH
from common import cli
from common.errors import InputError
from common.flags import flag
from common.io import sha256_of
from common.model_flags import ALIASES, DROPPED, ModelFlags

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.mteb_tasks import Planned
    from benchmarks.results import Result
    from bge_icl.air_bench import Found
    from bge_icl.air_bench_sets import AirSet

logger = logging.getLogger(__name__)

NONE, AUTO = "none", "auto"
AUTO_EXAMPLES = 3  # of a task, where --n_examples does not say


_flag = partial(flag, group="examples")


@dataclass(kw_only=True)
class EvalConfig(ModelFlags, MtebFlags, AirBenchFlags):
    """A BGE-ICL model, what it is tested on, and the examples before its queries."""

    METHOD: ClassVar[str] = "bge_icl"
    CHECKPOINTS: ClassVar[Path] = Path(__file__).with_name("checkpoints.yaml")

    examples: str = _flag(
        NONE, "none (zero-shot), a FOLDER of TASK.json files or one file, or auto: made from the training split"
    )
    n_examples: int | None = _flag(None, f"the first so many of a task; default: all (auto: {AUTO_EXAMPLES})")

    def __post_init__(self) -> None:
        ModelFlags.__post_init__(self)
        MtebFlags.__post_init__(self)
        if self.n_examples is not None:
            if self.n_examples < 1:
                raise InputError(f"--n_examples {self.n_examples}: must be at least 1; --examples none is zero-shot")
            if self.examples == NONE:
                raise InputError("--n_examples: of which? give --examples FOLDER, or --examples auto")
        if is_air_bench(self.benchmark):
            if self.tasks:
                raise InputError("--tasks: those of AIR-Bench are chosen by --task_types, --domains and --languages")
            if self.examples == AUTO:
                raise InputError("--examples auto: AIR-Bench has no training split; give --examples FOLDER")
            if self.instructions == "mteb":
                raise InputError("--instructions mteb: mteb has none for AIR-Bench; give method, none or FILE.json")
        elif given := [name for name in ("task_types", "domains", "splits") if getattr(self, name)]:
            raise InputError(f"--{given[0]}: is of --benchmark {FAMILY}")


@dataclass(frozen=True)
class IclPrompts:
    """Instructions and few-shot examples of the planned tasks.

    Attributes:
        base: the instructions.
        examples: task -> its examples; {}: zero-shot. A part of a task has the examples of the whole.
        spec: what was asked for, so that results with different examples never share a cache.
    """

    base: TaskPrompts
    examples: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    spec: str = NONE

    def of(self, metadata: Any) -> TaskPrompt:
        """The prompt of one task.

        Raises:
            InputError: examples were asked for and the task has none, or there is no instruction to put into them.
        """
        prompt = self.base.of(metadata)
        if self.spec == NONE:
            return prompt
        name = str(metadata.name)
        text = examples_text(self.examples.get(name, ()), prompt.instruction)
        if not text:
            raise InputError(f"{name}: --examples {self.spec} gives none; it would be zero-shot")
        return replace(prompt, examples=text)

    @property
    def fingerprint(self) -> str:
        """A hash over all that decides the prompts."""
        shown = {task: [[e.instruct, e.query, e.response] for e in found] for task, found in self.examples.items()}
        return sha256_of([self.base.fingerprint, shown])


class IclMtebEncoder(MtebEncoder):
    """The adapter, with a look whether an example is one of the texts that are tested."""

    def encode(self, inputs: Any, *, task_metadata: Any, hf_split: str, **options: Any) -> np.ndarray:
        """As in `MtebEncoder`.

        Raises:
            InputError: an example that was made here is a text of the evaluated split.
        """
        prompts = self.prompts
        if isinstance(prompts, IclPrompts) and hf_split in task_metadata.eval_splits:
            inputs = list(inputs)
            queries = {e.query.strip() for e in prompts.examples.get(str(task_metadata.name), ())}
            seen = queries & {text.strip() for batch in inputs for text in batch["text"]}
            if seen:
                told = f"{task_metadata.name}: {len(seen)} of its examples are texts of its {hf_split} split"
                if prompts.spec == AUTO:
                    raise InputError(f"{told}, for example {min(seen)!r:.80}; give --examples FOLDER")
                logger.warning("%s, for example %.80r", told, min(seen))
        return super().encode(inputs, task_metadata=task_metadata, hf_split=hf_split, **options)


def read_prompts(config: EvalConfig, planned: Sequence[Planned]) -> IclPrompts:
    """Instructions and examples of all planned tasks; before any model is loaded.

    Raises:
        InputError: a task without examples, or a bad file; names it.
    """
    from bge_icl.example_files import read_examples

    base = load_prompts(config.instructions, config.METHOD)
    if config.examples == NONE:
        return IclPrompts(base)
    folder = _made(config, planned) if config.examples == AUTO else Path(config.examples)
    found: dict[str, Sequence[Example]] = {}
    for one in planned:
        whole = read_examples(folder, one.name, count=config.n_examples)
        found |= {str(part.metadata.name): whole for part in (one.task, *one.parts)}
    prompts = IclPrompts(base, found, config.examples)
    for one in planned:
        for part in one.parts:
            prompts.of(part.metadata)
    return prompts


def _made(config: EvalConfig, planned: Sequence[Planned]) -> Path:
    """Examples from the training splits, made once per output folder."""
    from bge_icl.make_examples import MakeExamplesConfig, make_examples

    count = config.n_examples or AUTO_EXAMPLES
    folder = (config.output or Path("results") / "mteb") / "examples" / f"{count}"
    lacking = [one.name for one in planned if not (folder / f"{one.name}.json").is_file()]
    if lacking:
        make_examples(MakeExamplesConfig(task=lacking, output=folder, n=count, data_dir=config.data_dir))
    return folder


def evaluate(config: EvalConfig) -> tuple[dict[str, Result], list[str]]:
    """Results by task, and the tasks without data.

    Raises:
        InputError: wrong use, missing data or examples, or an output folder with results of another run.
    """
    if is_air_bench(config.benchmark):
        raise InputError(f"--benchmark {config.benchmark}: is evaluated by evaluate_air_bench")
    config.known()
    planned, missing = plan_tasks(config)
    prompts = read_prompts(config, planned)
    encoder = config.load()
    return run_planned(config, planned, encoder, prompts, IclMtebEncoder), missing


def read_air_prompts(config: EvalConfig, sets: Sequence[AirSet]) -> IclPrompts:
    """The instruction of AIR-Bench (or of one of its sets, in a user's file) and the examples of each set.

    Raises:
        InputError: a set without examples, or a bad file; names it.
    """
    from bge_icl.example_files import read_examples

    base = load_prompts(config.instructions, config.METHOD)
    known = {one.name: base.tasks.get(one.name) or base.tasks.get(AIR_BENCH) for one in sets}
    base = replace(base, tasks={name: text for name, text in known.items() if text})
    if config.examples == NONE:
        return IclPrompts(base)
    found = {
        one.name: read_examples(examples_place(config.examples, one), one.examples_name, count=config.n_examples)
        for one in sets
    }
    prompts = IclPrompts(base, found, config.examples)
    for one in sets:
        prompts.of(one.metadata)
    return prompts


def evaluate_air_bench(config: EvalConfig) -> list[Found]:
    """Searches of AIR-Bench's data sets, scored where the judgements are public.

    Raises:
        InputError: the package is missing, wrong use, missing data or examples, or results of another run there.
    """
    sets = find_sets(config.benchmark or FAMILY, config)
    config.known()
    prompts = read_air_prompts(config, sets)
    from benchmarks.result_record import default_output
    from bge_icl.air_bench import search_sets

    data = AirData(sets[0].version, config.data_dir)
    encoder = config.load()
    adapter = IclMtebEncoder(encoder, prompts, **config.encode_options())
    output = config.output or default_output("air-bench", encoder.info)
    return search_sets(sets, adapter, data, output, fresh=config.fresh)


def run(config: EvalConfig) -> int:
    """Evaluate and print the scores."""
    if config.dry_run:
        config.resolve()
        print(cli.describe(config), end="")
        return 0
    # The first queries are logged by modules of these packages; `cli.run` shows only what the shared library says.
    for package in ("benchmarks", "bge_icl"):
        logging.getLogger(package).setLevel(logging.INFO)
    if is_air_bench(config.benchmark):
        from bge_icl import air_bench

        searched = evaluate_air_bench(config)
        print(air_bench.summary(searched))
        print(f"examples: {config.examples}")
        print(f"results: {searched[0].file.parents[5]}")
        return 0
    found, missing = evaluate(config)
    print(summary(found, missing))
    shown = [f"{name} {count}" for name, result in found.items() if (count := _examples_tokens(result))]
    told = f"; tokens of them before each query: {', '.join(shown)}" if shown else ""
    print(f"examples: {config.examples}{told}")
    print(f"results: {next(iter(found.values())).path.parent}")
    return 0


def _examples_tokens(result: Result) -> int:
    """How many tokens of examples stood before the first query; 0 without examples."""
    return max((int(side.get("examples_tokens", 0)) for side in result.data["first"].values()), default=0)


# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": {**ALIASES, "examples_path": "examples"}, "dropped": DROPPED}

if __name__ == "__main__":
    cli.run(run, EvalConfig, description=__doc__, **OPTIONS)
