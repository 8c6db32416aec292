"""Train AnglE: all formats, all loss weights, BERT and LLM, full weights, LoRA or QLoRA."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from angle.recipe import AngleConfig
from common import angle_recipe, cli
from common.errors import InputError
from common.registry import check_compat

logger = logging.getLogger(__name__)


def main(config: AngleConfig) -> None:
    """Load, train, save."""
    config.compat = sorted(check_compat(config.compat))
    if config.dry_run:
        print(cli.describe(config), end="")
        return
    if not config.train_name_or_path:
        raise InputError("missing: --train_name_or_path (a file, shipped:triplets, or a hub data set)")
    if not config.model_name_or_path:
        raise InputError("missing: --model_name_or_path")
    # Below the checks of the command line: wrong flags and --help need not wait for torch.
    from angle.encoder import load
    from angle.fit import fit
    from angle.prompts import prompt_text
    from common.model_flags import check_is_llm
    from common.prompts import Template
    from common.train_program import backbone_options, training_rows

    rows, valid = training_rows(config)
    encoder = load(
        config.model_name_or_path,
        template=config.text_prompt,
        pooling=config.pooling_strategy,
        max_length=config.max_length,
        **backbone_options(config),
    )
    check_is_llm(encoder, config.is_llm)
    for role, prompt in (("query", config.query_prompt), ("document", config.doc_prompt)):
        if prompt:
            encoder.templates[role] = Template(prompt_text(prompt))  # type: ignore[index]
    fit(encoder, rows, config, valid=valid)


CONFIG = AngleConfig
PAPER_ERA = Path(__file__).with_name("paper_era.yaml")
ALIASES = {
    **angle_recipe.ALIASES,
    "prompt_template": "text_prompt",
    "task": "train_name_or_path",
    "do_eval": "eval_strategy",
    "debug_sample_size": "limit",
}
_SAME = "vectors do not depend on it here"
DROPPED = {
    **angle_recipe.DROPPED,
    "mode": "this program trains; angle/eval.py evaluates",
    "compute_similar_matrix": "equal texts of a batch are masked (--filter_duplicate)",
    "fix_data": "the released package dropped it too",
    "coword_random_mask_rate": "the released package dropped it too",
    "tokenizer_padding": _SAME,
    "tokenizer_padding_side": _SAME,
    "use_reentrant": "gradient checkpointing is the non-reentrant one",
}
_ESE = "Espresso (ESE) is left out for now"
_BELLM = "bidirectional layers are bellm/train.py's"
REFUSED = {
    **angle_recipe.REFUSED,
    **dict.fromkeys(("apply_ese", "ese_kl_temperature", "ese_compression_size"), _ESE),
    **dict.fromkeys(("apply_billm", "billm_model_class", "start_bilayer_index"), _BELLM),
    "tokenizer_name_or_path": "the model's own tokenizer is used",
    "load_mlm_model": "the released package never trains with it",
}
TASKS = {"NLI-STS": "data/AllNLI.tsv.gz", "STS-B": "mteb/stsbenchmark-sts"}


def task_data(task: str) -> str:
    """The training data that the released `--task` stands for."""
    if task not in TASKS:
        raise InputError(f"--task {task}: known are {', '.join(TASKS)}; for other data give --train_name_or_path")
    return TASKS[task]


VALUES = {"task": task_data, "do_eval": {"1": "steps", "0": "no"}}


def paper_era(argv: list[str]) -> list[str]:
    """The command line, over the defaults of the released `train_angle.py` where it is one of that script.

    Only that script has `--task`; its defaults differ (all weights and the angle scale 1, Llama-2-7b), and a
    command that relies on them would else train something else without a word.
    """
    if not any(word.partition("=")[0] == "--task" for word in argv):
        return argv
    logger.warning("--task: a command of train_angle.py (2023); its defaults are taken, from %s", PAPER_ERA.name)
    return ["--config", str(PAPER_ERA), *argv]


# What the command line understands besides the fields.
OPTIONS: dict[str, Any] = {"aliases": ALIASES, "dropped": DROPPED, "refused": REFUSED, "values": VALUES}

if __name__ == "__main__":
    cli.run(main, AngleConfig, paper_era(sys.argv[1:]), description=__doc__, **OPTIONS)
