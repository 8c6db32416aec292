"""`python -m benchmarks mteb`: results of mteb and of ours, resume, what is refused, and a real model's real score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from small_mteb import write_banking, write_pairs, write_scifact

from benchmarks import mteb_tasks
from benchmarks.mteb_program import MtebConfig, evaluate, main, plan_tasks, run_planned, summary
from benchmarks.mteb_prompts import TaskPrompts
from benchmarks.results import check_one_system, predictions, read_folder
from benchmarks.stats import score as score_of
from common.errors import InputError

if TYPE_CHECKING:
    from common.encoder import Encoder

TASKS = ["STS12", "SciFact", "Banking77Classification"]


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and nothing of mteb in the hub's caches; whatever this machine has."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(mteb_tasks, "hub_reachable", lambda: False)
    monkeypatch.delenv("EMBED_DATA", raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "nothing")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "nothing"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_pairs(folder)
    write_scifact(folder)
    write_banking(folder)
    return folder


def config(data: Path, tmp_path: Path, **changes: Any) -> MtebConfig:
    return MtebConfig(**{"tasks": TASKS, "data_dir": data, "output": tmp_path / "out", **changes})


def run(config: MtebConfig, encoder: Encoder, prompts: TaskPrompts | None = None) -> Any:
    planned, missing = plan_tasks(config)
    assert not missing
    return run_planned(config, planned, encoder, prompts or TaskPrompts())


@pytest.mark.usefixtures("no_hub")
def test_every_task_has_mtebs_result_and_ours(data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("llama", pooling="mean")
    found = run(config(data, tmp_path), encoder)
    assert {name: (r.metric, r.n) for name, r in found.items()} == {
        "STS12": ("cosine_spearman", 12),
        "SciFact": ("ndcg_at_10", 4),
        "Banking77Classification": ("accuracy", 12),
    }
    check_one_system(read_folder(tmp_path / "out"))
    for name, result in found.items():
        (file,) = (tmp_path / "out/mteb/results").glob(f"*/*/{name}.json")
        theirs = json.loads(file.read_text(encoding="utf-8"))
        assert result.score == pytest.approx(100 * theirs["scores"]["test"][0]["main_score"], abs=1e-3)
        assert theirs["dataset_revision"].startswith("local-")
        assert (result.suite, result.protocol) == ("mteb", "mteb")
        assert result.tokens > 0
        assert result.data["first"]
        assert result.data["complete"] is False
    assert found["STS12"].data["differs"] == "12 of mteb's 3,108 items"
    assert found["SciFact"].data["differs"] == "8 of mteb's 5,183 documents"
    told = summary(found)
    assert "STS (1)" in told
    assert "all tasks (3)" in told


@pytest.mark.usefixtures("no_hub")
def test_the_score_of_pairs_is_that_of_our_own_vectors(
    data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]
) -> None:
    encoder = make_encoder("llama", pooling="mean")
    rows = [json.loads(line) for line in (data / "STS12/test.jsonl").read_text(encoding="utf-8").splitlines()]
    sides = [encoder.encode([row[side] for row in rows], normalize_embeddings=True) for side in
             ("sentence1", "sentence2")]  # fmt: skip
    cosines, gold = (sides[0] * sides[1]).sum(axis=1), np.array([row["score"] for row in rows])
    result = run(config(data, tmp_path, tasks=["STS12"]), encoder)["STS12"]
    # The three pairs of equal texts tie only up to rounding.
    stored, stored_gold = predictions(tmp_path / "out", "STS12")
    np.testing.assert_allclose(stored, cosines, atol=1e-5)
    np.testing.assert_array_equal(stored_gold, gold)
    assert result.score == pytest.approx(score_of(stored, stored_gold), abs=1e-6)


@pytest.mark.usefixtures("no_hub")
def test_a_second_run_encodes_nothing_and_a_new_task_only_itself(
    data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]
) -> None:
    encoder = make_encoder("llama", pooling="mean")
    first = run(config(data, tmp_path, tasks=["STS12"]), encoder)
    texts = encoder.usage.texts
    assert run(config(data, tmp_path, tasks=["STS12"]), encoder) == first
    assert encoder.usage.texts == texts
    both = run(config(data, tmp_path, tasks=["STS12", "SciFact"]), encoder)
    assert list(both) == ["STS12", "SciFact"]
    assert encoder.usage.texts == texts + 8 + 4
    run(config(data, tmp_path, tasks=["STS12"], fresh=True), encoder)
    assert encoder.usage.texts == 2 * texts + 8 + 4


@pytest.mark.usefixtures("no_hub")
def test_results_of_another_model_data_or_prompt_are_not_taken_over(
    data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]
) -> None:
    one = config(data, tmp_path, tasks=["STS12"])
    encoder = make_encoder("llama", template=None, pooling="mean")
    run(one, encoder)
    with pytest.raises(InputError, match=r"STS12\.json: is a result of other settings \(fingerprint\)"):
        run(one, make_encoder("llama", pooling="last"))
    with pytest.raises(InputError, match=r"there is one for STS12, but the template '\{text\}' has no place"):
        run(one, encoder, TaskPrompts({"STS12": "x"}))
    rows = (data / "STS12/test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "STS12/test.jsonl").write_text("".join(rows[1:]), encoding="utf-8")
    with pytest.raises(InputError, match=r"other settings \(sha256\)"):
        run(one, encoder)


@pytest.mark.usefixtures("no_hub")
def test_named_tasks_without_data_are_an_error_and_those_of_a_benchmark_are_listed(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"BIOSSES: no data: not in --data_dir .* hub does not answer; give --data_dir"
    ):
        plan_tasks(config(data, tmp_path, tasks=["STS12", "BIOSSES"]))
    planned, missing = plan_tasks(config(data, tmp_path, tasks=[], benchmark="llm2vec-15"))
    assert [one.name for one in planned] == ["SciFact", "Banking77Classification"]
    assert len(missing) == 13
    with pytest.raises(InputError, match="no --data_dir is given, and the hub does not answer"):
        plan_tasks(config(data, tmp_path, tasks=[], benchmark="llm2vec-15", data_dir=None))


def test_what_is_not_local_comes_from_the_hub(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mteb_tasks, "hub_reachable", lambda: True)
    planned, missing = plan_tasks(config(data, tmp_path, tasks=[], benchmark="MTEB(eng, v1)"))
    assert len(planned) == 56
    assert not missing
    places = {one.name: one.place for one in planned}
    assert [name for name, place in places.items() if place == "local"] == [
        "Banking77Classification",
        "STS12",
        "SciFact",
    ]
    quora = next(one for one in planned if one.name == "QuoraRetrieval")
    assert quora.data["source"].startswith("hub: mteb/quora@")
    cqa = next(one for one in planned if one.name == "CQADupstackRetrieval")
    assert len(cqa.parts) == 12


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"tasks": ["STS99"]}, r"--tasks STS99: mteb has no such task; did you mean 'STS"),
        ({"tasks": [], "benchmark": "MTEB(eng, v3)"}, r"--benchmark MTEB\(eng, v3\): .* did you mean 'MTEB\(eng, v"),
        ({"tasks": ["STS12"], "benchmark": "llm2vec-15"}, r"--tasks STS12: is no task of llm2vec-15"),
        ({"data_dir": Path("no/such/folder")}, r"--data_dir no/such/folder: is not a folder"),
    ],
)
def test_wrong_names_are_named(words: dict[str, Any], told: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        plan_tasks(config(data, tmp_path, **words))


def test_without_tasks_or_with_a_wrong_size_it_says_so_at_once() -> None:
    with pytest.raises(InputError, match="missing: --tasks"):
        MtebConfig()
    with pytest.raises(InputError, match="--batch_size 0"):
        MtebConfig(tasks=["STS12"], batch_size=0)


def test_a_dry_run_prints_the_settings_and_loads_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--benchmark", "MTEB(eng, v1)", "--model", "no/such-model", "--dry_run"])
    assert stopped.value.code == 0
    assert "benchmark: MTEB(eng, v1)" in capsys.readouterr().out


@pytest.mark.slow
def test_minilm_has_its_official_score(weights: tuple[str, str], shared_data: Path, tmp_path: Path) -> None:
    found, _ = evaluate(
        MtebConfig(
            model=weights[1], dtype="float32", device="cpu", tasks=["STSBenchmark"], data_dir=shared_data,
            output=tmp_path / "out",
        )
    )  # fmt: skip
    # sentence-transformers/all-MiniLM-L6-v2 in embeddings-benchmark/results, mteb 1.12.75.
    assert found["STSBenchmark"].score == pytest.approx(82.0325, abs=0.01)
