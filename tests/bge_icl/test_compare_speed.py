"""scripts/bge_icl/compare_speed.py: the folder for both sides, the token bound, the comparison itself."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from common.errors import InputError

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bge_icl" / "compare_speed.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    import sys

    spec = importlib.util.spec_from_file_location("compare_speed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compare_speed"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_two_paths_of_ours(script: ModuleType, golden: Any, tmp_path: Path) -> None:
    config = script.CompareConfig(model=str(golden.model), queries=12, repeats=2, threads=1, output=tmp_path / "s.json")
    assert script.main(config) == 0
    document = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    two, none = document["cases"]
    assert (two["examples"], none["examples"]) == (2, 0)
    assert two["bound"] > none["bound"] > 1
    for case in (two, none):
        assert set(case["contenders"]) == {"ours", "ours, plain"}
        assert case["contenders"]["ours, plain"]["max_difference"] < 1e-5
        assert len(case["contenders"]["ours"]["seconds"]) == 2


def test_the_bound_counts_tokens(script: ModuleType, golden: Any) -> None:
    ours = script.Ours(golden.model, 8)
    queries = ["what is rain", "buy a kayak", "who invented glass"]
    ids = ours.flag(script.EXAMPLES).query_ids(queries)
    bound, shared, rest = ours.bound(script.EXAMPLES, queries)
    prompt = ours.flag(script.EXAMPLES).prefix + f"<instruct>{script.INSTRUCTION}\n<query>"
    assert shared >= len(ours.encoder.backbone.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    total = sum(map(len, ids))
    assert rest == pytest.approx(total / 3 - shared)
    assert bound == pytest.approx(total / (shared + total - 3 * shared))


def test_ratios_are_of_the_same_turn(script: ModuleType) -> None:
    ours = [(1.0, 1.0), (10.0, 1.0), (1.0, 1.0)]  # the machine was busy in the second turn
    theirs = [(8.0, 5.0), (80.0, 6.0), (9.0, 7.0)]
    assert script._ratio(theirs, ours, 0) == 8.0
    assert script._ratio(theirs, ours, 1) == 6.0


def test_the_folder_has_what_both_sides_need(script: ModuleType, llama_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = script.prepared(str(llama_folder), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "<instruct>a\n<query>b\n<response>"
    ids = tokenizer(text)["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.convert_ids_to_tokens([ids[1], ids[-2]]) == ["<instruct>", "<response>"]
    assert AutoModel.from_pretrained(folder).get_input_embeddings().weight.shape[0] >= len(tokenizer)


def test_the_examples_are_as_long_as_said(script: ModuleType, weights: tuple[str, str]) -> None:
    from transformers import AutoTokenizer

    from common.model_names import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve(weights[0]).path)
    texts = [f"<instruct>{e['instruct']}\n<query>{e['query']}\n<response>{e['response']}\n\n" for e in script.EXAMPLES]
    assert 200 < len(tokenizer("".join(texts))["input_ids"]) < 280


def test_wrong_use(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--queries 129: there are 128"):
        script.CompareConfig(queries=129)
    with pytest.raises(InputError, match="--repeats 0"):
        script.CompareConfig(repeats=0)
    with pytest.raises(InputError, match=r"no such file; compare_speed\.sh makes the environment"):
        script.CompareConfig(flag_python=tmp_path / "python")


def test_against_flagembedding(script: ModuleType, golden: Any) -> None:
    """Where FLAG_ENV names an environment with FlagEmbedding, as compare_speed.sh makes it."""
    python = Path(os.environ.get("FLAG_ENV", "")) / "bin" / "python"
    if not python.is_file():
        pytest.skip("no environment with FlagEmbedding; set FLAG_ENV (scripts/bge_icl/compare_speed.sh makes one)")
    config = script.CompareConfig(model=str(golden.model), queries=6, repeats=1, threads=1, flag_python=python)
    for case in script.compare(config)["cases"]:
        assert case["contenders"]["FlagEmbedding"]["max_difference"] < 2e-5


def test_what_the_other_side_says_in_its_end(script: ModuleType, golden: Any, tmp_path: Path) -> None:
    import sys

    # This Python has no FlagEmbedding, unless somebody installed it.
    if importlib.util.find_spec("FlagEmbedding"):
        pytest.skip("FlagEmbedding is installed here")
    config = script.CompareConfig(model=str(golden.model), flag_python=Path(sys.executable))
    with pytest.raises(InputError, match="FlagEmbedding ended: ModuleNotFoundError"):
        script.FlagEmbedding(config, golden.model, tmp_path)
