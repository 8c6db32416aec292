"""`python -m benchmarks transfer`: result files, resuming, and published figures beside ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_transfer import write_transfer

from benchmarks import published
from benchmarks.judgement import judge
from benchmarks.results import check_one_system, predictions, read_folder
from benchmarks.transfer import COMPARABLE, TransferConfig, evaluate, main, published_rows, summary
from common.encoder import Encoder
from common.errors import InputError
from common.prompts import Template
from common.registry import methods
from senteval.transfer_tasks import OFFICIAL_TEXTS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transfer(tmp_path_factory.mktemp("data"))


def config(data: Path, folder: Path, **changes: Any) -> TransferConfig:
    return TransferConfig(
        **{"tasks": ["MR"], "data_dir": data, "output": folder / "out", "classifier": "sklearn"} | changes
    )


def test_every_task_has_a_result_with_its_times_apart(
    data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]
) -> None:
    encoder = make_encoder("llama", pooling="mean")
    found = evaluate(config(data, tmp_path, tasks=["MRPC", "mr", "TREC"], classifier="senteval"), encoder=encoder)
    assert list(found) == ["MR", "TREC", "MRPC"]
    check_one_system(read_folder(tmp_path / "out"))
    assert {(r.suite, r.protocol, r.metric) for r in found.values()} == {("transfer", "senteval", "accuracy")}
    assert {name: (r.n, r.texts) for name, r in found.items()} == {
        "MR": (110, 110),
        "TREC": (100, 230),
        "MRPC": (100, 440),
    }
    for name, result in found.items():
        prediction, gold = predictions(tmp_path / "out", name)
        if name != "MR":  # of cross-validation the mean over folds, some of which have a text more
            assert result.score == pytest.approx(100 * np.mean(prediction == gold))
        assert result.seconds == result.scores["encoding_seconds"] > 0
        assert result.scores["classifier_seconds"] > 0
        assert result.tokens > 0
        assert not result.data["complete"]
    assert found["MR"].score > 60  # how long a text is, from its mean vector
    told = summary(found)
    assert "NOT the whole data of MR, TREC, MRPC, comparable with no paper" in told
    assert "published" not in told
    assert f"{found['MRPC'].scores['f1']:.2f}" in told


def test_a_second_run_encodes_nothing(data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder("llama", pooling="mean")
    first = evaluate(config(data, tmp_path), encoder=encoder)
    assert encoder.usage.texts == 110
    assert evaluate(config(data, tmp_path), encoder=encoder) == first
    assert encoder.usage.texts == 110
    evaluate(config(data, tmp_path, tasks=["MR", "MRPC"]), encoder=encoder)
    assert encoder.usage.texts == 550
    evaluate(config(data, tmp_path, fresh=True), encoder=encoder)
    assert encoder.usage.texts == 660


def test_results_of_other_settings_are_not_taken_over(
    data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]
) -> None:
    encoder = make_encoder("llama", pooling="mean")
    evaluate(config(data, tmp_path), encoder=encoder)
    for changes, told in (
        ({"classifier": "senteval"}, "classifier"),
        ({"text_edits": "end-marks"}, "text_edits"),
        ({"limit": 105}, "data"),
    ):
        with pytest.raises(InputError, match=rf"MR\.json: is a result of other settings \({told}\)"):
            evaluate(config(data, tmp_path, **changes), encoder=encoder)
    with pytest.raises(InputError, match=r"other settings \(model\)"):
        evaluate(config(data, tmp_path), encoder=make_encoder("llama", pooling="last"))


def test_the_edits_of_released_evaluations_reach_the_model(
    data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make_encoder("llama", pooling="mean", template=Template('"{text}" means:"'))
    seen: list[str] = []
    real = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts, **options: (seen.extend(texts), real(texts, **options))[1])
    evaluate(config(data, tmp_path, text_edits="one-word-prompt"), encoder=encoder)
    assert len(seen) == 110
    assert all(text[-1] in ".'" for text in seen)


def test_a_sample_is_named_in_the_result(data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]) -> None:
    result = evaluate(config(data, tmp_path, limit=105, seed=3), encoder=make_encoder("llama", pooling="mean"))["MR"]
    assert (result.n, result.limit, len(result.index or ()), result.seed) == (105, 105, 105, 3)
    with pytest.raises(InputError, match=r"MR: 50 texts in all; .* need 100 or more"):
        evaluate(config(data, tmp_path / "few", limit=50), encoder=make_encoder("llama", pooling="mean"))


def whole(found: dict[str, Any], folder: Path, **changes: Any) -> dict[str, Any]:
    """The results as if they were of the whole data."""
    for name in found:
        file = folder / "out" / f"{name}.json"
        payload = json.loads(file.read_text(encoding="utf-8"))
        size = OFFICIAL_TEXTS[name].get("test", sum(OFFICIAL_TEXTS[name].values()))
        payload |= {"n": size, "limit": None, "index": None, **changes}
        payload["data"]["complete"] = True
        file.write_text(json.dumps(payload), encoding="utf-8")
    return read_folder(folder / "out")


def test_published_figures_of_comparable_models_stand_beside_ours(
    data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]
) -> None:
    found = evaluate(
        config(data, tmp_path, classifier="senteval", tasks=["MRPC"]), encoder=make_encoder("llama", pooling="mean")
    )
    told = summary(whole(found, tmp_path, method="sentence-transformer"))
    assert re.search(r"published: SBERT, bert-base \(baseline\) +\| +76\.00 \|", told)
    assert re.search(r"published: SimCSE, bert-base \(baseline\) +\| +73\.51 \|", told)
    assert "of other models" in told
    told = summary(whole(found, tmp_path, method="angle"))
    assert "published: PromptEOL, llama-2-7b (third-party)" in told


def test_angle_and_bellm_have_their_papers_own_figures() -> None:
    angle, bellm = published_rows("angle"), published_rows("bellm")
    assert angle[0] == ("AnglE-LLaMA-7B", "secondary", {"MR": 91.09, "CR": 93.54, "Avg": 91.38})
    assert bellm[0] == ("BeLLM transfer", "secondary", {"Avg": 91.35})
    for method in methods():
        assert published_rows(method)
    assert set(COMPARABLE) <= set(methods())


def test_the_published_table_judges_our_result(
    data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]
) -> None:
    row = "baselines-transfer/sbert-base"
    found = evaluate(
        config(data, tmp_path, classifier="senteval", tasks=["MRPC"], output=tmp_path / "out"),
        encoder=make_encoder("llama", pooling="mean"),
    )
    whole(found, tmp_path, score=75.9)
    (tmp_path / row).parent.mkdir(parents=True)
    (tmp_path / "out").rename(tmp_path / row)
    judged = {j.row.id: j for j in judge(published.load("baselines-transfer"), tmp_path)}["sbert-base"]
    assert judged.ours["MRPC"] == 75.9
    assert judged.differences["MRPC"] == pytest.approx(-0.1)


def test_the_probe_says_that_it_is_not_the_protocol(
    data: Path, tmp_path: Path, make_encoder: Callable[..., Encoder]
) -> None:
    found = evaluate(config(data, tmp_path), encoder=make_encoder("llama", pooling="mean"))
    assert (found["MR"].suite, found["MR"].protocol) == ("transfer-sklearn", "sklearn-probe")
    told = summary(whole(found, tmp_path))
    assert "quick scikit-learn probe, NOT SentEval's protocol" in told
    assert "published" not in told


def test_wrong_words_are_told_before_a_model_is_loaded(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["--tasks", "MRR"], "unknown transfer task 'MRR'; did you mean MR?"),
        (["--data_dir", "no/such"], "--data_dir no/such is not a folder"),
        (["--classifier", "svm"], "--classifier"),
        (["--limit", "0"], "--limit 0: must be at least 1"),
        (["--tasks", "CR"], "CR is missing"),
    ):
        place = [] if "--data_dir" in words else ["--data_dir", str(data)]
        with pytest.raises(SystemExit) as stopped:
            main([*place, *words, "--model", "no/such-model"])
        assert stopped.value.code == 2
        assert told in capsys.readouterr().err


def test_a_dry_run_prints_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--model", "no/such-model", "--dry_run"])
    assert stopped.value.code == 0
    assert "classifier: senteval" in capsys.readouterr().out
