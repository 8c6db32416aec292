"""`python -m common.mining.mine_negatives`: from a file to a file, with its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_fixtures import sentences, write_jsonl

from common import cli
from common.data import load_rows
from common.encoder import Encoder
from common.errors import InputError
from common.io import sha256_file
from common.mining import mine_negatives
from common.mining.mine_negatives import MineConfig, main

FRENCH = sentences()[:40]
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def encoder_folder(make_encoder: Callable[..., Encoder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of ours, as training leaves it: it says itself that its method is angle."""
    folder = tmp_path_factory.mktemp("encoders") / "trained"
    make_encoder("bert", pooling="cls").save_pretrained(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, encoder_folder: Path) -> Run:
    """`run(name, **settings)`: the report of a run that writes `name`."""
    source = write_jsonl(tmp_path / "in.jsonl", FRENCH)

    def start(name: str = "out.jsonl.gz", **settings: Any) -> dict[str, Any]:
        given = {"train_name_or_path": str(source), "model": str(encoder_folder), "device": "cpu", **settings}
        main(MineConfig(output=tmp_path / name, **given))
        return json.loads((tmp_path / f"{name.partition('.')[0]}.report.json").read_text())

    return start


def mined_rows(path: Path) -> list[dict[str, Any]]:
    return load_rows(str(path)).rows  # type: ignore[union-attr]


def test_the_output_is_format_c_with_a_report_beside(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(relative_margin=None)
    rows = load_rows(str(tmp_path / "out.jsonl.gz"))
    assert rows.columns == ("query", "positive", "negative")
    mined = mined_rows(tmp_path / "out.jsonl.gz")
    assert [(r["query"], r["positive"]) for r in mined] == [(r["query"], r["positive"]) for r in FRENCH]
    changed = [r["negative"] != before["negative"] for r, before in zip(mined, FRENCH)]
    assert report["rows"]["replaced"] == sum(changed) > 10
    assert report["rows"]["in"] == report["rows"]["out"] == 40
    assert report["mean_score"]["negative_after"] > report["mean_score"]["negative_before"]
    assert report["candidate_harder_than_given"]["rows"] == sum(changed)
    assert report["models"]["retriever"]["method"] == "angle"  # read from the folder
    assert report["settings"]["relative_margin"] is None
    assert report["inputs"] == {str(tmp_path / "in.jsonl"): sha256_file(tmp_path / "in.jsonl")}
    assert report["output"] == {"out.jsonl.gz": sha256_file(tmp_path / "out.jsonl.gz")}
    shown = capsys.readouterr().out
    assert shown.count("     query: ") == 3
    assert "same_as_positive" in shown
    assert not any(r["query"] in json.dumps(report) for r in FRENCH)


def test_equal_runs_write_equal_bytes(run: Run, tmp_path: Path) -> None:
    for sampling in ("top", "random"):
        first, second = (run(f"{sampling}-{i}.jsonl.gz", sampling=sampling, relative_margin=None) for i in "12")
        assert list(first["output"].values()) == list(second["output"].values())
        assert first["rows"] == second["rows"]
    other = run("other.jsonl.gz", sampling="random", relative_margin=None, seed=1)
    assert list(other["output"].values()) != list(second["output"].values())


def test_limit_query_column_and_rows_without_negatives(run: Run, tmp_path: Path) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [{"text": r["query"], "pos": r["positive"]} for r in FRENCH])
    report = run("out.jsonl", train_name_or_path=str(pairs), limit=12, query_column="text", relative_margin=None)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [list(r) for r in rows] == [["text", "positive", "negative"]] * 12
    assert report["rows"] == {"in": 12, "out": 12, "mined": 12}
    assert report["texts"] == {"queries": 12, "candidates": 12}
    assert report["mean_score"]["negative_before"] is None


def test_entailed_texts_of_nli_files_and_a_corpus(run: Run, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"relative_margin": None, "replace": "always", "range_max": 100}
    run("free.jsonl", **settings)
    first = mined_rows(tmp_path / "free.jsonl")[0]
    pair = {"premise": first["query"].upper(), "hypothesis": f" {first['negative']}", "label": "entailment"}
    nli = write_jsonl(tmp_path / "nli.jsonl", [pair, {**pair, "hypothesis": "le loup", "label": "neutral"}])
    report = run("guarded.jsonl", nli=[nli], **settings)
    assert mined_rows(tmp_path / "guarded.jsonl")[0]["negative"] != first["negative"]
    assert report["candidates"]["removed"]["entailed"] == 1
    corpus = write_jsonl(tmp_path / "more.jsonl", [{"text": "the wolf reads"}, {"text": "the king runs"}])
    run("corpus.jsonl", corpus=[corpus], pool=[], **settings)
    assert {r["negative"] for r in mined_rows(tmp_path / "corpus.jsonl")} <= {"the wolf reads", "the king runs"}
    with pytest.raises(InputError, match=r"nli\.jsonl:1: no text in a column 'text'"):
        run("x.jsonl", corpus=[nli], **settings)


def test_a_second_encoder_reranks(run: Run, tmp_path: Path, llama_folder: Path) -> None:
    settings: dict[str, Any] = {"relative_margin": None, "replace": "always", "range_max": 10}
    plain = run("plain.jsonl", **settings)
    second = run("second.jsonl", reranker=str(llama_folder), reranker_method="sentence-transformer", **settings)
    assert second["models"]["retriever"] == plain["models"]["retriever"]
    assert second["models"]["reranker"]["model"] == str(llama_folder)
    assert second["mean_score"]["positive"] != plain["mean_score"]["positive"]
    assert mined_rows(tmp_path / "second.jsonl") != mined_rows(tmp_path / "plain.jsonl")


def test_the_instruction_reaches_the_retriever(run: Run) -> None:
    with pytest.raises(InputError, match="instruction"):
        run(instruction="find the opposite")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_name_or_path": "shipped:pairs"}, r"mining needs one query and a positive, not text1"),
        ({"min_score": 2.0, "missing": "drop"}, "no row has a candidate that passes the guards"),
        ({"model": "minlm"}, "did you mean 'minilm'"),
        ({"method": "angel"}, "did you mean 'angle'"),
        ({"name": "in.jsonl"}, "is also an input"),
    ],
)
def test_failures_are_one_line_and_leave_nothing(
    run: Run, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run(**settings)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_interrupted_run_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mine_negatives, "mine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--train_name_or_path", "shipped:triplets", "--output", str(tmp_path / "out.jsonl"), "--pool", "negatives"]
    words += ["--relative_margin", "none", "--model_name_or_path", "minilm"]
    with pytest.raises(SystemExit) as stop:
        cli.run(main, MineConfig, [*words, "--dry_run"])
    assert stop.value.code == 0
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(capsys.readouterr().out)
    config = cli.parse(MineConfig, ["--config", str(recipe)])
    assert cli.describe(config) == cli.describe(cli.parse(MineConfig, words)) == recipe.read_text()
    assert (config.model, config.pool, config.relative_margin) == ("minilm", ["negatives"], None)
    for wrong, message in [
        (["--limit", "0"], "--limit 0: must be at least 1"),
        (["--batch_size", "-1"], "--batch_size -1: must be at least 1"),
        (["--range_max", "0"], "--range_max 0: leaves less"),
        (["--pool", "texts"], "--pool: "),
        (["--range_mx", "5"], "did you mean --range_max?"),
        (["--output", "out.csv"], "--output out.csv: the name must end"),
    ]:
        with pytest.raises(SystemExit) as stop:
            cli.run(main, MineConfig, [*words, *wrong])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.strip().count("\n") == (1 if "is the old name" in error else 0)
