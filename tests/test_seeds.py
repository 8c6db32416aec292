"""The commands and Python blocks of the released READMEs work here, as their users type them.

The extracts and their sources: `seed_extracts.py`. What is changed before it runs: the script's path, the import line,
the model ids (a tiny random Llama stands in for 7B weights), and, since there is no GPU here, `.bfloat16()`
and `.cuda()` of plain transformers.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import logging
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from seed_extracts import (
    ANGLE_EVAL,
    ANGLE_PACKAGE,
    ANGLE_TRAIN,
    ANGLE_TRANSFORMERS,
    BELLM_EVAL,
    BELLM_HUB,
    BELLM_PACKAGE,
    BELLM_TRAIN,
    BELLM_TRAIN_2,
    BGE_FLAG,
    BGE_TRAIN,
    BGE_TRANSFORMERS,
    INBEDDER_ENCODE,
    INBEDDER_EVALUATION,
    INBEDDER_LOAD,
    INBEDDER_OUTPUT_VALUE,
    INBEDDER_PATTERN,
    INBEDDER_PROPOSE,
    INBEDDER_TRAIN,
    LLM2VEC_MNTP,
    LLM2VEC_PACKAGE,
    LLM2VEC_SIMCSE,
)

from angle.eval import EvalConfig
from angle.recipe import AngleConfig
from bellm.eval import EvalConfig as BellmEvalConfig
from bellm.recipe import BellmConfig
from common.reading import SHIPPED, read_rows

REPO = Path(__file__).resolve().parents[1]


def words_of(command: str) -> list[str]:
    """The flags of a command line: what follows the script's name."""
    words = shlex.split(command)
    return words[next(i for i, word in enumerate(words) if word.endswith(".py")) + 1 :]


def run_script(path: str, words: list[str]) -> str:
    """Run one of our programs in this process; what it printed. It must exit with 0."""
    before, sys.argv = sys.argv, [str(REPO / path), *words]
    printed, errors = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as stopped,
        ):
            runpy.run_path(str(REPO / path), run_name="__main__")
    finally:
        sys.argv = before
    assert not stopped.value.code, errors.getvalue()
    return printed.getvalue()


def run_block(block: str, changes: dict[str, str]) -> dict[str, Any]:
    """Run a Python block after the changes, each of which must have something to change; its variables."""
    for old, new in changes.items():
        assert old in block, old
        block = block.replace(old, new)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(block, "<README>", "exec"), names)
    return names | {"printed": printed.getvalue()}


def recipe(text: str, kind: type) -> Any:
    return kind(**yaml.safe_load(text))


# ------------------------------------------------------------------------------------------------- AnglE


def test_angle_training_command(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        printed = run_script("angle/train.py", [*words_of(ANGLE_TRAIN), "--dry_run"])
    config = recipe(printed, AngleConfig)
    # What the command says ...
    assert config.train_name_or_path == "data/AllNLI.tsv.gz"
    assert str(config.output_dir) == "ckpts/NLI-STS-angle-llama-7b"
    assert (config.ibn_w, config.learning_rate, config.max_length) == (35, 2e-4, 45)
    assert (config.lora_r, config.lora_alpha, config.lora_dropout) == (32, 32, 0.1)
    assert (config.save_steps, config.batch_size, config.seed, config.load_kbit) == (200, 160, 42, 4)
    assert (config.gradient_accumulation_steps, config.epochs, config.eval_strategy) == (4, 1, "no")
    # ... and what that script took where it says nothing.
    assert config.model_name_or_path == "NousResearch/Llama-2-7b-hf"
    assert (config.cosine_w, config.angle_w, config.angle_tau, config.warmup_steps) == (1, 1, 1, 100)
    notices = [record.getMessage() for record in caplog.records]
    for old in ("--task", "--save_dir", "--w2", "--maxlen", "--do_eval"):
        assert any(old in line for line in notices), old
    assert not any("\n" in line for line in notices)


def test_angle_flags_of_today_keep_todays_defaults(tmp_path):
    words = ["--train_name_or_path", "x.jsonl", "--output_dir", str(tmp_path), "--model_name_or_path", "m"]
    config = recipe(run_script("angle/train.py", [*words, "--w2", "35", "--dry_run"]), AngleConfig)
    assert (config.ibn_w, config.cosine_w, config.angle_w, config.angle_tau) == (35, 0, 0.02, 20)


def test_angle_training_command_trains(llama_folder, tmp_path, monkeypatch):
    """The same command line, on real sentences in the file's own layout; smaller, and in fp32."""
    rows = [row for _, row in read_rows(SHIPPED / "triplets.jsonl")][:8]
    lines = ["split\tdataset\tfilename\tsentence1\tsentence2\tlabel"]
    for row in rows:
        for column, label in (("positive", "entailment"), ("negative", "contradiction")):
            lines.append(f"train\tSNLI\tx\t{row['query']}\t{row[column]}\t{label}")
    lines.append(f"train\tSNLI\tx\t{rows[0]['query']}\t{rows[1]['positive']}\tneutral")
    lines += [f"dev\tSNLI\tx\t{row['query']}\t{row['positive']}\tentailment" for row in rows]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with gzip.open("data/AllNLI.tsv.gz", "wt", encoding="utf-8") as handle:
        handle.write("\n".join(lines) + "\n")
    smaller = ["--model_name", str(llama_folder), "--batch_size", "8", "--load_kbit", "32", "--maxlen", "96"]
    smaller += [
        "--gradient_accumulation_steps",
        "1",
        "--logging_steps",
        "1",
        "--warmup_steps",
        "0",
        "--device",
        "cpu",
    ]
    run_script("angle/train.py", [*words_of(ANGLE_TRAIN), *smaller, "--bf16", "0"])
    folder = tmp_path / "ckpts" / "NLI-STS-angle-llama-7b"
    assert (folder / "adapter_model.safetensors").is_file()
    import json

    summary = json.loads((folder / "training.json").read_text())
    assert summary["steps"] == 2  # 16 pairs: no neutral one, none of another split
    vectors = [run_encode(str(llama_folder), lora) for lora in (None, str(folder))]
    assert np.abs(vectors[0] - vectors[1]).max() > 0


def run_encode(model: str, lora: str | None) -> np.ndarray:
    from angle import AnglE, Prompts

    angle = AnglE.from_pretrained(model, pretrained_lora_path=lora, torch_dtype="float32", device="cpu")
    return np.asarray(angle.encode("hello world!", prompt=Prompts.A))


def test_angle_evaluation_command(llama_folder, lora_folders, tmp_path):
    words = words_of(ANGLE_EVAL)
    config = recipe(run_script("angle/eval.py", [*words, "--dry_run"]), EvalConfig)
    assert config.model_name_or_path == "NousResearch/Llama-2-7b-hf"
    assert config.lora_name_or_path == ["SeanLee97/angle-llama-7b-nli-20231027"]
    assert (config.load_kbit, config.prompt) == (16, 'Summarize sentence "{text}" in one word:"')
    assert (config.pooling_strategy, config.text_edits) == ("last", "one-word-prompt")
    words = [w.replace("NousResearch/Llama-2-7b-hf", str(llama_folder)) for w in words]
    words = [w.replace("SeanLee97/angle-llama-7b-nli-20231027", str(lora_folders["headed"])) for w in words]
    more = ["--suite", "sts-shipped", "--limit", "20", "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert "Avg." in run_script("angle/eval.py", [*words, *more])


def test_angle_python_blocks_give_the_same_vectors(llama_folder, lora_folders):
    adapter = str(lora_folders["headed"])
    ours = run_block(
        ANGLE_PACKAGE,
        {
            "from angle_emb import": "from angle import",
            "NousResearch/Llama-2-7b-hf": str(llama_folder),
            "SeanLee97/angle-llama-7b-nli-v2": adapter,
        },
    )
    assert ours["printed"].startswith('prompt: Summarize sentence "{text}" in one word:"\n')
    for name, shape in (("vec", (1, 32)), ("vecs", (2, 32))):
        assert isinstance(ours[name], np.ndarray)
        assert ours[name].dtype == np.float32
        assert ours[name].shape == shape
    changes = {"SeanLee97/angle-llama-7b-nli-v2": adapter, ".bfloat16()": "", ".cuda()": ""}
    plain = run_block(ANGLE_TRANSFORMERS, changes)["vec"]
    from angle import AnglE

    angle = AnglE.from_pretrained(str(llama_folder), pretrained_lora_path=adapter, torch_dtype="float32", device="cpu")
    angle.set_prompt()
    vec = angle.encode({"text": "hello world!"}, to_numpy=True)
    unit = [v / np.linalg.norm(v) for v in (vec, plain)]
    np.testing.assert_allclose(*unit, atol=1e-5)
    np.testing.assert_allclose(vec, plain, rtol=1e-4, atol=1e-4)
    bare = AnglE.from_pretrained(str(llama_folder), torch_dtype="float32", device="cpu")
    bare.set_prompt()
    assert np.abs(bare.encode({"text": "hello world!"}) - plain).max() > 1e-2  # the adapter counts


# ------------------------------------------------------------------------------------------------- BeLLM

BELLM_PROMPT = 'The representative word for sentence {text} is:"'


def environment_of(command: str) -> dict[str, str]:
    """The variables that stand before a command."""
    words = shlex.split(command)
    return dict(w.split("=", 1) for w in itertools.takewhile(lambda w: "=" in w, words))


def test_bellm_training_commands(monkeypatch):
    assert environment_of(BELLM_TRAIN)["BiLLM_START_INDEX"] == "31"
    monkeypatch.setenv("BiLLM_START_INDEX", "31")
    first = recipe(run_script("bellm/train.py", [*words_of(BELLM_TRAIN), "--dry_run"]), BellmConfig)
    assert first.bidirectional_from == 31
    assert (first.prompt, first.max_length, first.pooling_strategy) == (BELLM_PROMPT, 60, "avg")
    assert (first.ibn_w, first.cosine_w, first.angle_w) == (20, 0, 1)
    assert (first.lora_r, first.lora_alpha, first.lora_dropout, first.load_kbit) == (64, 128, 0.1, 4)
    assert (first.batch_size, first.gradient_accumulation_steps, first.epochs, first.warmup_steps) == (256, 32, 3, 80)
    assert (first.is_llm, first.apply_billm, first.billm_model_class) == (True, True, "LlamaForCausalLM")
    second = recipe(run_script("bellm/train.py", [*words_of(BELLM_TRAIN_2), "--dry_run"]), BellmConfig)
    assert second.pretrained_lora_path == "ckpts/bellm-llama-7b-nli"
    assert (second.ibn_w, second.cosine_w, second.angle_w, second.prompt) == (1, 0, 0, BELLM_PROMPT)
    hub = recipe(
        run_script("bellm/train.py", [*words_of(BELLM_TRAIN), *shlex.split(BELLM_HUB), "--dry_run"]), BellmConfig
    )
    assert (hub.push_to_hub, hub.hub_model_id, hub.hub_private_repo) == (True, "{YOUR_MODEL_ID}", True)


def test_bellm_training_commands_train(llama_folder, tmp_path, monkeypatch):
    """Both stages as typed, smaller and in fp32: the second goes on from the first's adapter, with its layer."""
    monkeypatch.setenv("BiLLM_START_INDEX", "2")  # the last of three layers
    monkeypatch.chdir(tmp_path)
    smaller = ["--train_name_or_path", "shipped:triplets", "--limit", "8", "--batch_size", "4", "--load_kbit", "32"]
    smaller += ["--gradient_accumulation_steps", "1", "--epochs", "1", "--fp16", "0", "--bf16", "0", "--device", "cpu"]
    smaller += ["--model_name", str(llama_folder)]
    for command in (BELLM_TRAIN, BELLM_TRAIN_2):
        run_script("bellm/train.py", [*words_of(command), *smaller])
    from common.encoder import Encoder

    for name in ("bellm-llama-7b-nli", "bellm-llama-7b-nli-2"):
        encoder = Encoder.from_pretrained(tmp_path / "ckpts" / name)
        assert encoder.info.attention == "{'bidirectional_from': 2}"
        assert encoder.info.template == BELLM_PROMPT


def test_bellm_evaluation_command(llama_folder, lora_folders, tmp_path, monkeypatch):
    monkeypatch.setenv("BiLLM_START_INDEX", "31")
    words = words_of(BELLM_EVAL)
    config = recipe(run_script("bellm/eval.py", [*words, "--dry_run"]), BellmEvalConfig)
    assert config.model_name_or_path == "NousResearch/Llama-2-7b-hf"
    assert config.lora_name_or_path == ["SeanLee97/bellm-llama-7b-nli"]
    assert (config.dtype, config.prompt, config.pooling_strategy) == ("float16", BELLM_PROMPT, "last")
    assert (config.suite, config.text_edits) == ("sts", "end-marks")
    monkeypatch.setenv("BiLLM_START_INDEX", "2")
    words = [w.replace("NousResearch/Llama-2-7b-hf", str(llama_folder)) for w in words]
    words = [w.replace("SeanLee97/bellm-llama-7b-nli", str(lora_folders["headed"])) for w in words]
    more = ["--suite", "sts-shipped", "--limit", "20", "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert "Avg." in run_script("bellm/eval.py", [*words, *more])


def test_bellm_python_block(llama_folder, lora_folders, monkeypatch):
    monkeypatch.setenv("BiLLM_START_INDEX", "0")  # the block sets its own, after our import
    changes = {
        "from model import AnglE": "from bellm import BeLLM as AnglE",
        "'31'": "'2'",
        "NousResearch/Llama-2-7b-hf": str(llama_folder),
        "SeanLee97/bellm-llama-7b-nli": str(lora_folders["headed"]),
    }
    ours = run_block(BELLM_PACKAGE, changes)
    assert ours["vecs"].shape == (3, 32)
    assert ours["vecs"].dtype == np.float32
    assert ours["printed"].count("cos sim") == 3
    assert ours["docs"] == ["I like apples", "I like fruit", "i am hiking."]  # left as they were
    from common.registry import load

    encoder = load("bellm", str(llama_folder), adapter=str(lora_folders["headed"]), bidirectional_from=2)
    assert encoder.info.template == BELLM_PROMPT
    np.testing.assert_array_equal(encoder.encode(ours["docs"]), ours["vecs"])
    other = load("bellm", str(llama_folder), adapter=str(lora_folders["headed"]), bidirectional_from=0)
    assert np.abs(other.encode(ours["docs"]) - ours["vecs"]).max() > 1e-3


# ----------------------------------------------------------------------------------------------- LLM2Vec


def words_with(command: str, **places: str) -> list[str]:
    """The flags of a command of the README, what stands in brackets replaced."""
    for place, value in places.items():
        assert f"[{place.replace('_', ' ')}]" in command
        command = command.replace(f"[{place.replace('_', ' ')}]", shlex.quote(value))
    return words_of(command)


def test_llm2vec_commands_alone_have_a_default_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = words_with(LLM2VEC_MNTP, model_name_or_path="mistralai/Mistral-7B-v0.3")
    mntp = yaml.safe_load(run_script("llm2vec/train_mntp.py", [*words, "--dry_run"]))
    assert mntp["model_name_or_path"] == "mistralai/Mistral-7B-v0.3"
    assert mntp["train_name_or_path"] == "Salesforce/wikitext"
    assert mntp["train_subset_name"] == "wikitext-103-raw-v1"
    assert mntp["report_to"] == ["tensorboard"]
    places = {"model_name_or_path": "mistralai/Mistral-7B-v0.3", "peft_name_or_ath": "ckpts/mntp"}
    simcse = yaml.safe_load(run_script("llm2vec/train_simcse.py", [*words_with(LLM2VEC_SIMCSE, **places), "--dry_run"]))
    assert simcse["model_name_or_path"] == "mistralai/Mistral-7B-v0.3"
    assert simcse["peft_model_name_or_path"] == ["ckpts/mntp"]
    assert list(tmp_path.iterdir()) == []


def test_llm2vec_commands_and_python_block(llama_folder, tmp_path, monkeypatch):
    """Step 2, step 3 on its adapter, and the block on both: what the seed's user does in one afternoon."""
    monkeypatch.chdir(tmp_path)
    small = ["--max_steps", "2", "--batch_size", "4", "--load_kbit", "32", "--bf16", "0", "--device", "cpu"]
    small += ["--shipped", "--logging_steps", "1", "--lora_r", "4", "--learning_rate", "1e-2"]
    words = words_with(LLM2VEC_MNTP, model_name_or_path=str(llama_folder))
    run_script("llm2vec/train_mntp.py", [*words, *small, "--max_length", "32", "--output_dir", "mntp"])
    assert list(Path("mntp").rglob("events.out.tfevents*")), "TensorBoard logs, as the seed writes them"
    places = {"model_name_or_path": str(llama_folder), "peft_name_or_ath": "mntp"}
    run_script("llm2vec/train_simcse.py", [*words_with(LLM2VEC_SIMCSE, **places), *small, "--output_dir", "simcse"])
    base = "markim/BioLLM2VEC-Mistral-7B-v0.3-mntp"
    changes = {
        "from models import": "from llm2vec import",
        # The seed's first folder holds model and adapter; ours hold the adapter alone.
        **{f'{kind}.from_pretrained("{base}"': f'{kind}.from_pretrained("{llama_folder}"'
           for kind in ("AutoTokenizer", "AutoConfig", "AutoModel")},
        f'"{base}"': '"mntp"',
        '"markim/BioLLM2VEC-Mistral-7B-v0.3-simcse"': '"simcse"',
        "torch.bfloat16": "torch.float32",
        ', device_map="cuda"': "",
    }  # fmt: skip
    ours = run_block(LLM2VEC_PACKAGE, changes)
    for name in ("q_reps", "d_reps"):
        assert ours[name].shape == (2, 32)
        assert ours[name].dtype == torch.float32
        assert ours[name].device.type == "cpu"
    assert ours["cos_sim"].shape == (2, 2)
    from llm2vec.encoder import load

    encoder = load(str(llama_folder), adapter=["mntp", "simcse"], template="{instruction} {text}", dtype="float32")
    queries = encoder.encode([text for _, text in ours["queries"]], instruction=ours["instruction"])
    np.testing.assert_allclose(ours["q_reps"].numpy(), queries, atol=1e-5)
    bare = load(str(llama_folder), dtype="float32")
    assert np.abs(bare.encode(ours["documents"]) - ours["d_reps"].numpy()).max() > 1e-3  # the adapters count


# ------------------------------------------------------------------------------------------------- InBedder

GOLDEN = REPO / "tests" / "golden"
# The seed's script -> ours, one per model.
INBEDDER_SCRIPTS = {
    "train.sh": ["train-qa-roberta-large", "train-qa-opt-1.3b"],
    "train_2.7b.sh": ["train-qa-opt-2.7b"],
    "train_7b.sh": ["train-qa-llama-2-7b"],
    "propose.sh": ["propose"],
    "evaluation.sh": ["llama-2-7b-inbedder", "opt-2.7b-inbedder", "opt-1.3b-inbedder", "roberta-large-inbedder"],
}


def test_inbedder_python_blocks():
    """Load, output value, prompts and encode, one after the other, as in the README."""
    tiny = {name: str(GOLDEN / "inbedder" / f"tiny_{name}") for name in ("llama", "roberta")}
    asked = "corpus, instruction = ['A cat slept.', 'It rained all day in Rome.', 'Yes!'], 'What animal is it?'"
    blocks = [INBEDDER_LOAD, asked, INBEDDER_OUTPUT_VALUE, INBEDDER_PATTERN, INBEDDER_ENCODE]
    changes = {
        "from lm_encoders_hf import": "from inbedder import",
        "BrandonZYW/llama-2-7b-InBedder": tiny["llama"],
        "BrandonZYW/roberta-large-InBedder": tiny["roberta"],
        "model = MaskedLMEncoder": "masked = MaskedLMEncoder",
        "fst_gen_layer_32": "fst_gen_layer_3",  # the last of the small model
    }
    ours = run_block("\n".join(blocks), changes)
    assert ours["embeddings"].shape == (3, 32)
    assert ours["embeddings"].dtype == np.float32
    assert [text.startswith("### Input") for text in ours["generations"]] == [True] * 3
    from common.registry import load

    texts = ["A cat slept.", "It rained all day in Rome.", "Yes!"]
    for model, vectors in (("llama", ours["embeddings"]), ("roberta", ours["masked"].encode(ours["corpus"]))):
        encoder = load("inbedder", tiny[model], dtype="float32")
        np.testing.assert_allclose(vectors, encoder.encode(texts, instruction="What animal is it?"), atol=5e-5)


def test_inbedder_models_of_the_list():
    """Each loads by its id alone: base, prompt and layer come from checkpoints.yaml."""
    from common.checkpoints import lookup
    from inbedder.encoder import CHECKPOINTS

    layers = {"llama-2-7b": 32, "opt-2.7b": 32, "opt-1.3b": 24, "roberta-large": 24}
    for name, layer in layers.items():
        known = lookup(CHECKPOINTS, f"BrandonZYW/{name}-InBedder", None)
        assert known.options["layer"] == layer
        assert known.options["template"] == "### Input:\n{input}\n\n### Instruction:\n{instruction}\n\n### Response:"


@pytest.mark.parametrize("line", [*INBEDDER_TRAIN.split("\n")[1:-1], INBEDDER_PROPOSE, INBEDDER_EVALUATION])
def test_inbedder_scripts(line):
    """What the seed's scripts run resolves to a recipe of ours, with its backbone and its data."""
    seed = line.split()[1].removeprefix("scripts/")
    env = {**os.environ, "PYTHON": sys.executable}
    for name in INBEDDER_SCRIPTS[seed]:
        script = REPO / "scripts" / "inbedder" / f"{name}.sh"
        done = subprocess.run(["bash", str(script), "--dry_run"], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        resolved = yaml.safe_load(done.stdout)
        if seed.startswith("train"):
            assert resolved["train_name_or_path"] == "KomeijiForce/Inbedder-Pretrain-Data"
            assert resolved["learning_rate"] == 2e-5
            assert name.removeprefix("train-qa-") in resolved["model_name_or_path"].lower()
        elif seed == "propose.sh":
            assert resolved["instruction"]
            assert resolved["model_name_or_path"].startswith("BrandonZYW/")
        else:
            assert resolved["model_name_or_path"].lower().endswith(name)


# ------------------------------------------------------------------------------------------------- BGE-EN-ICL


def test_bge_python_blocks_give_the_same_vectors():
    """`FlagICLModel`, and the block that uses transformers alone."""
    tiny = str(GOLDEN / "bge_icl" / "tiny_mistral")
    ours = run_block(BGE_FLAG, {"from FlagEmbedding import": "from bge_icl import", "BAAI/bge-en-icl": tiny})
    plain = run_block(BGE_TRANSFORMERS, {"BAAI/bge-en-icl": tiny})
    assert ours["similarity"].shape == (2, 2)
    for mine, theirs in (("embeddings_1", "query_embeddings"), ("embeddings_2", "doc_embeddings")):
        assert ours[mine].dtype == np.float32
        np.testing.assert_allclose(ours[mine], plain[theirs].numpy(), atol=1e-5)
    zero_shot = run_block(
        BGE_FLAG,
        {
            "from FlagEmbedding import": "from bge_icl import",
            "BAAI/bge-en-icl": tiny,
            "examples_for_task=examples": "examples_for_task=None",
        },
    )
    assert np.abs(zero_shot["embeddings_1"] - ours["embeddings_1"]).max() > 1e-3  # the examples count


def test_bge_training_command():
    """The seed's torchrun command resolves to its recipe."""
    resolved = yaml.safe_load(run_script("bge_icl/train.py", [*words_of(BGE_TRAIN), "--dry_run"]))
    expected = {
        "model_name_or_path": "mistralai/Mistral-7B-v0.1",
        "learning_rate": 1e-4,
        "lora_r": 32,
        "lora_alpha": 64,
        "batch_size": 16,
        "temperature": 0.02,
        "warmup_steps": 100,
        "query_max_len": 2048,
        "passage_max_len": 512,
        "example_query_max_len": 256,
        "example_passage_max_len": 256,
        "train_group_size": 8,
        "symmetric_batch_size": 256,
        "symmetric_train_group_size": 8,
        "max_class_neg": 7,
        "gradient_checkpointing": True,
        "save_total_limit": 20,
        "fp16": True,
    }
    assert {name: resolved[name] for name in expected} == expected


def test_bge_training_command_trains(llama_folder, tmp_path, monkeypatch):
    """One step of it, with what a laptop lacks taken out and a small local file in place of the hub's."""
    monkeypatch.chdir(tmp_path)
    row = {"neg": ["It is not.", "No."], "prompt": "Find the answer.", "type": "normal"}
    with open("data.jsonl", "w", encoding="utf-8") as file:
        for i in range(8):
            file.write(json.dumps({"query": f"what is {i}?", "pos": [f"It is {i}."], **row}))
            file.write("\n")
    words = without(without(words_of(BGE_TRAIN), "--deepspeed", 1), "--fp16", 0)
    local = ["--model_name_or_path", str(llama_folder), "--train_data", "data.jsonl", "--output_dir", "out"]
    small = ["--max_steps", "1", "--per_device_train_batch_size", "4", "--query_max_len", "128", "--lora_rank", "4"]
    run_script("bge_icl/train.py", [*words, *local, *small, "--device", "cpu", "--load_kbit", "32", "--bf16", "0"])
    from common.registry import load

    vectors = load("bge_icl", "out").encode(["what is 3?"], instruction="Find the answer.")
    assert np.isfinite(vectors).all()


def without(words, flag, values):
    """The words without a flag and its values."""
    at = words.index(flag)
    return words[:at] + words[at + 1 + values :]
