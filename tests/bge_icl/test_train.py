"""bge_icl/train.py: the released command, the configurations, errors, and a training from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bge_icl.compat import COMPAT
from bge_icl.recipe import IclConfig
from bge_icl.train import OPTIONS
from common import cli
from common.encoder import Encoder
from common.errors import InputError
from common.io import read_json

CONFIGS = Path(__file__).resolve().parents[2] / "bge_icl" / "configs"
# The command of the released README (research/llm_dense_retriever), after `torchrun --nproc_per_node 8 run.py`.
RELEASED = """\
--output_dir ./test --model_name_or_path mistralai/Mistral-7B-v0.1 --train_data cfli/bge-e5data
--learning_rate 1e-4 --num_train_epochs 1 --per_device_train_batch_size 16 --lora_alpha 64 --lora_rank 32
--dataloader_drop_last True --normlized True --temperature 0.02 --query_max_len 2048 --passage_max_len 512
--example_query_max_len 256 --example_passage_max_len 256 --train_group_size 8 --logging_steps 1 --save_steps 250
--save_total_limit 20 --ddp_find_unused_parameters False --negatives_cross_device --gradient_checkpointing
--deepspeed ../../LLARA/stage1.json --warmup_steps 100 --fp16 --cache_dir ./cache/model_cache --token ...
--cache_path ./cache/data_cache --sub_batch_size 64 --target_modules q_proj k_proj v_proj o_proj down_proj up_proj
gate_proj --use_special_tokens --symmetric_batch_size 256 --symmetric_train_group_size 8 --max_class_neg 7
--save_merged_lora_model True"""


def parse(*words: object) -> IclConfig:
    return cli.parse(IclConfig, [str(w) for w in words], **OPTIONS)


def settings(config: IclConfig) -> dict[str, Any]:
    return yaml.safe_load(cli.describe(config))


def test_the_released_command_is_the_released_configuration() -> None:
    given = settings(parse(*RELEASED.split()))
    shipped = settings(parse("--config", CONFIGS / "released_command.yaml", "--output_dir", "test"))
    different = {name for name in given if given[name] != shipped[name]}
    assert different == {"deepspeed", "filter_duplicate"}
    assert (given["lora_r"], given["lora_alpha"], given["merge"], given["normalize"]) == (32, 64, True, True)
    assert given["grad_cache_tokens"] == 64 * 512


def test_the_two_published_recipes_differ_where_they_do() -> None:
    paper, released = (
        settings(parse("--config", CONFIGS / f"{name}.yaml", "--output_dir", "x"))
        for name in ("paper", "released_command")
    )
    assert (paper["lora_r"], paper["lora_alpha"], paper["batch_size"]) == (64, 32, 64)
    assert (released["lora_r"], released["lora_alpha"], released["batch_size"]) == (32, 64, 16)
    ours = {"logging_steps", "save_steps", "save_total_limit", "merge", "sub_batch_size"}
    assert {n for n in paper if paper[n] != released[n]} == {"lora_r", "lora_alpha", "batch_size", *ours}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_examples", "-1"], "--max_examples -1: must be at least 0"),
        (["--temperature", "0"], "--temperature 0.0: must be above 0"),
        (["--train_group_size", "0"], "--train_group_size 0"),
        (["--streaming", "--max_steps", "3"], "--streaming"),
        (["--raw_peft", "x"], "raw_peft is not supported: merge"),
        (["--special_tokens", "half"], "special_tokens"),
        (["--passage_max_length", "3"], "did you mean --passage_max_len"),
    ],
)
def test_wrong_flags(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse("--output_dir", "x", *words)


def test_dead_flags_are_accepted_and_old_names_understood(caplog: pytest.LogCaptureFixture) -> None:
    words = ["--nli_all_prompt", "True", "--cache_chunk_size", "-1", "--peft_model_path", "x", "--use_flash_attn", "0"]
    made = parse("--output", "x", "--model", "m", *words, "--max_example_num_per_dataset", "1e10", "--from_peft", "a")
    assert (made.limit, made.attn_implementation, made.pretrained_lora_path) == (None, None, "a")
    assert "--nli_all_prompt has no effect: it was never read" in caplog.text


def test_compat_names_are_known() -> None:
    from common.registry import check_compat

    assert check_compat(list(COMPAT)) == frozenset(COMPAT)
    assert all(name.startswith("bge_icl:") for name in COMPAT)


def test_missing_things_are_named(program: Any, tmp_path: Path) -> None:
    done = program("bge_icl/train.py", "--output_dir", tmp_path, "--train_data", "x.jsonl")
    assert (done.code, "missing: --model_name_or_path" in done.err) == (2, True)
    done = program("bge_icl/train.py", "--output_dir", tmp_path, "--model_name_or_path", "smollm2-135m")
    assert (done.code, "missing: --train_data" in done.err) == (2, True)


@pytest.mark.slow
def test_a_training_from_the_command_line(program: Any, llama_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    rows = [{"query": f"question {i}", "pos": [f"answer {i}"], "neg": [], "prompt": "find"} for i in range(24)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model", llama_folder, "--train_data", data, "--output", tmp_path / "out", "--max_train_tokens", 1500,
             "--batch_size", 8, "--query_max_len", 128, "--logging_steps", 1, "--lora_rank", 4,
             "--target_modules", "q_proj", "v_proj", "--save_merged_lora_model", "True", "--load_kbit", 32]  # fmt: skip
    done = program("bge_icl/train.py", *words)
    assert done.code == 0, done.err
    log = read_json(tmp_path / "out" / "training.json")
    assert log["finished"]
    assert log["tokens"] >= 1500
    # merged: whole weights, the three rows among them
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()
    encoder = Encoder.from_pretrained(tmp_path / "out", device="cpu", dtype="float32")
    ids = encoder.tokens(["x"], instruction="find").ids[0]
    assert encoder.backbone.tokenizer.convert_ids_to_tokens(ids)[1] == "<instruct>"
    assert max(ids) < len(encoder.backbone.model.get_input_embeddings().weight)
    assert encoder.encode(["x"], instruction="find").shape == (1, encoder.dim)
    # run again: it is finished
    assert program("bge_icl/train.py", *words).code == 0
