"""Mining negatives: the guards, the choice, the scores, the report; held against sentence-transformers' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_fixtures import sentences

from common.encoder import Encoder
from common.errors import InputError
from common.mining import scores as mining_scores
from common.mining.mine import GUARDS, MiningOptions, MiningReport, mine, score_guard
from common.mining.scores import CrossScores, VectorScores
from common.mining.task import MiningTask, prepare
from common.mining.triplets import text_key
from common.registry import load

Rows = list[dict[str, Any]]


class Table:
    """Scores from a table: (query, text) -> score; what is not there scores 0."""

    def __init__(self, task: MiningTask, scores: dict[tuple[str, str], float]) -> None:
        numbers = {(text_key(q), text_key(t)): score for (q, t), score in scores.items()}
        keys = [text_key(t) for t in task.texts]
        self.scores = np.array([[numbers.get((text_key(q), t), 0.0) for t in keys] for q in task.queries])

    def search(self, depths: Sequence[int], among: int) -> Iterator[list[list[int]]]:
        for row, depth in zip(self.scores, depths):
            yield [np.argsort(-row[:among], kind="stable")[:depth].tolist()]

    def pairs(self, queries: Sequence[int], texts: Sequence[int]) -> np.ndarray:
        return self.scores[list(queries), list(texts)]


def mined(
    rows: Rows,
    scores: dict[tuple[str, str], float],
    *,
    entailed: Sequence[tuple[str, str]] = (),
    corpus: Sequence[str] = (),
    **options: Any,
) -> tuple[Rows, MiningReport]:
    chosen = MiningOptions(**options)
    task = prepare(rows, pool=chosen.pool, entailed=entailed, corpus=corpus)
    table = Table(task, scores)
    return mine(task, table, table, chosen)


def row(query: str, positive: Any, negative: Any = None) -> dict[str, Any]:
    return {"query": query, "positive": positive, **({"negative": negative} if negative else {})}


def only(counter: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counter.items() if count}


# ------------------------------ what must never become a negative

Q = "A cat sleeps."


@pytest.mark.parametrize(
    ("planted", "guard"),
    [
        ([row("x", "a  CAT sleeps")], "same_as_query"),
        ([row("x", "y", "A cat sleeps .")], "same_as_query"),
        ([row("a CAT sleeps.", "It is at rest."), row("x", "it is  AT rest")], "same_as_positive"),
        ([row("It dozes.", Q), row("x", "it dozes")], "entailed"),
        ([row("x", "It slumbers.")], "entailed"),
        ([row("x", "Something lives.")], "entailed"),
    ],
)
def test_a_planted_false_negative_is_removed(planted: Rows, guard: str) -> None:
    rows = [row(Q, "An animal rests.", "A cat runs."), *planted, row("x", "A dog barks.")]
    false = (planted[-1].get("negative") or planted[-1]["positive"],)
    # Below the positive, so that no margin helps, and above all else.
    scores = {(Q, "An animal rests."): 0.9, (Q, "It is at rest."): 0.9, (Q, false[0]): 0.8, (Q, "A dog barks."): 0.5}
    nli = [(Q.lower(), "it slumbers"), ("something LIVES", "a cat sleeps")]
    found, report = mined(rows, scores, entailed=nli)
    assert found[0] == {"query": Q, "positive": "An animal rests.", "negative": "A dog barks."}
    assert all(text_key(r["negative"]) != text_key(false[0]) for r in found if text_key(r["query"]) == text_key(Q))
    assert report.removed[guard] >= 1
    if guard == "entailed" and len(planted) == 1:  # it was the guard that did it
        assert mined(rows, scores)[0][0]["negative"] == false[0]


def test_an_unknown_text_is_removed_by_margin_alone() -> None:
    rows = [row(Q, "An animal rests.", "A cat runs."), row("x", "A feline naps."), row("y", "A dog barks.")]
    scores = {(Q, "An animal rests."): 0.8, (Q, "A feline naps."): 0.77, (Q, "A dog barks."): 0.5}
    found, report = mined(rows, scores)
    assert found[0]["negative"] == "A dog barks."
    assert report.removed["relative_margin"] >= 1
    assert mined(rows, scores, relative_margin=None)[0][0]["negative"] == "A feline naps."
    assert mined(rows, scores, relative_margin=0.03)[0][0]["negative"] == "A feline naps."
    assert mined(rows, scores, relative_margin=None, absolute_margin=0.05)[0][0]["negative"] == "A dog barks."
    assert mined(rows, scores, relative_margin=None, max_score=0.6)[0][0]["negative"] == "A dog barks."
    assert mined(rows, scores, min_score=0.6)[0][0]["negative"] == "A cat runs."


@pytest.mark.parametrize(
    ("score", "positive", "options", "guard"),
    [
        (0.70, 0.8, {"relative_margin": 0.1}, None),
        (0.73, 0.8, {"relative_margin": 0.1}, "relative_margin"),
        (-0.10, -0.1, {"relative_margin": 0.1}, "relative_margin"),  # a factor of 0.9 would let it through
        (-0.12, -0.1, {"relative_margin": 0.1}, None),
        (0.75, 0.8, {"relative_margin": None, "absolute_margin": 0.1}, "absolute_margin"),
        (0.69, 0.8, {"relative_margin": None, "absolute_margin": 0.1}, None),
        (0.81, 0.8, {"relative_margin": None, "absolute_margin": 0.0}, "absolute_margin"),
        (0.99, 0.1, {"relative_margin": None}, None),
        (0.50, 0.8, {"max_score": 0.4}, "max_score"),
        (0.10, 0.8, {"min_score": 0.2}, "min_score"),
    ],
)
def test_guards_of_scores(score: float, positive: float, options: dict[str, Any], guard: str | None) -> None:
    assert score_guard(score, positive, MiningOptions(**options)) == guard


def test_the_margin_is_to_the_lowest_positive_of_the_query() -> None:
    rows = [row("q", "near"), row("Q", ["far", "near"]), row("x", "a"), row("y", "b")]
    scores = {("q", "near"): 0.9, ("q", "far"): 0.6, ("q", "a"): 0.8, ("q", "b"): 0.5}
    found, _ = mined(rows, scores)
    assert [r["negative"] for r in found[:2]] == ["b", "b"]
    assert found[1]["positive"] == ["far", "near"]


def test_a_given_negative_that_is_a_positive_elsewhere_is_dropped() -> None:
    rows = [row("q", "p", "R "), row("q", "r"), row("x", "y")]
    found, report = mined(rows, {("q", "p"): 0.9, ("q", "r"): 0.9})
    assert found[0]["negative"] == "y"
    assert report.given_false == 1
    assert report.before == []
    lonely, report = mined([row("q", "p", "P."), row("q", "r")], {})
    assert lonely == []
    assert report.outcomes == {"dropped": 2}


# ------------------------------ which of the rest

SCORES = {("q", "p"): 1.0, **{("q", f"t{i}"): 0.9 - i / 10 for i in range(8)}}
POOL = [row(f"x{i}", f"t{i}") for i in range(8)]


def negatives_of_q(rows: Rows, scores: dict[tuple[str, str], float] = SCORES, **options: Any) -> list[str]:
    found, _ = mined([*rows, *POOL], scores, **options)
    return [r["negative"] for r in found if r["query"] == "q"]


def test_ranks_and_number() -> None:
    rows = [row("q", "p")]
    assert negatives_of_q(rows) == ["t0"]
    assert negatives_of_q(rows, num_negatives=3) == ["t0", "t1", "t2"]
    assert negatives_of_q(rows, range_min=2) == ["t2"]
    assert negatives_of_q(rows, range_min=2, range_max=4, num_negatives=2, sampling="random") == ["t2", "t3"]
    # The two texts before t2 that are known do not count as ranks.
    known = [row("q", "p"), row("q", "t1")]
    assert negatives_of_q(known, {**SCORES, ("q", "t1"): 1.0}, range_min=1) == ["t2", "t3"]
    assert negatives_of_q(rows, range_max=1, relative_margin=0.15) == []


def test_rows_of_one_query_get_different_negatives_while_there_are_enough() -> None:
    assert negatives_of_q([row("q", "p")] * 3) == ["t0", "t1", "t2"]
    assert negatives_of_q([row("q", "p")] * 3, range_max=2) == ["t0", "t1", "t0"]


def test_sampling_depends_on_seed_and_query_alone() -> None:
    rows = [row("q", "p")]
    drawn = [negatives_of_q(rows, sampling="random", seed=seed)[0] for seed in range(30)]
    assert drawn == [negatives_of_q(rows, sampling="random", seed=seed)[0] for seed in range(30)]
    assert len(set(drawn)) == 8
    before = [row("other", "t0"), *rows]  # another row, the same candidates
    assert drawn == [negatives_of_q(before, sampling="random", seed=seed)[0] for seed in range(30)]
    assert set(negatives_of_q(rows, sampling="random", range_max=3, num_negatives=3)) == {"t0", "t1", "t2"}


def test_a_given_negative_stays_where_it_is_harder() -> None:
    # It scores above the positive even: a contradiction may, and is labelled.
    hard = {**SCORES, ("q", "given"): 1.2}
    found, report = mined([row("q", "p", "given"), *POOL], hard)
    assert found[0]["negative"] == "given"
    assert report.outcomes["kept_harder"] == 1
    assert report.given_within_margin == 1
    assert report.harder == 0
    assert negatives_of_q([row("q", "p", "given")], hard, replace="always") == ["t0"]
    assert negatives_of_q([row("q", "p", "given")], hard, num_negatives=2) == ["given", "t0"]
    assert negatives_of_q([row("q", "p", "given")], {**SCORES, ("q", "given"): 0.9}) == ["given"]
    assert negatives_of_q([row("q", "p", "given")]) == ["t0"]


def test_a_given_negative_is_no_candidate_for_its_own_query_but_for_others() -> None:
    rows = [row("q", "p", "g"), row("x", "y", "h")]
    found, report = mined(rows, {("q", "p"): 1.0, ("q", "h"): 0.5, ("x", "y"): 1.0, ("x", "g"): 0.6, ("x", "h"): 0.9})
    assert [r["negative"] for r in found] == ["h", "h"]
    assert report.outcomes == {"replaced": 1, "kept_harder": 1}


def test_rows_without_a_candidate() -> None:
    near = {("q", "p"): 0.1, ("q", "t"): 0.5}
    rows = [row("q", "p", "g"), row("x", "t")]
    assert mined(rows, near, relative_margin=None)[0][0]["negative"] == "t"
    found, report = mined(rows, {**near, ("x", "p"): 0.5, ("x", "g"): 0.5})
    assert found == [row("q", "p", "g")]
    assert report.outcomes == {"kept_missing": 1, "dropped": 1}
    assert mined(rows, {**near, ("x", "p"): 0.5, ("x", "g"): 0.5}, missing="drop")[0] == []


def test_pool_and_corpus() -> None:
    rows = [row("q", "p", "g"), row("x", "y", "h")]
    best = {("q", "p"): 1.0, ("q", "x"): 0.9, ("q", "y"): 0.8, ("q", "h"): 0.7, ("q", "more"): 0.6}
    pools = {("queries",): "x", ("positives",): "y", ("negatives",): "h", ("positives", "negatives"): "y"}
    for pool, wanted in pools.items():
        assert mined(rows, best, pool=pool)[0][0]["negative"] == wanted
    assert mined(rows, best, pool=(), corpus=["more"])[0][0]["negative"] == "more"
    with pytest.raises(InputError, match="--pool none: there is no text in it"):
        mined(rows, best, pool=())


@pytest.mark.parametrize(
    "options",
    [
        {"range_min": -1},
        {"num_negatives": 0},
        {"range_max": 2, "range_min": 2},
        {"range_max": 2, "num_negatives": 3},
        {"relative_margin": -0.1},
        {"absolute_margin": -1.0},
        {"min_score": 0.5, "max_score": 0.4},
    ],
)
def test_wrong_options_name_the_flag(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^--({'|'.join(options)}) "):
        MiningOptions(**options)


@pytest.mark.parametrize("rows", [[{"text1": "a", "text2": "b", "label": 1.0}], [{"query": ["a"], "positive": "b"}]])
def test_rows_of_other_formats_are_refused(rows: Rows) -> None:
    with pytest.raises(InputError, match=r"row 1: mining needs one query and a positive, .*make_triplets"):
        prepare(rows)


# ------------------------------ any data

texts = st.sampled_from(["a", "A ", "b", "c.", "c", "d", "e", "f"])
any_rows = st.lists(st.builds(row, texts, st.one_of(texts, st.lists(texts, min_size=1, max_size=2)), texts), min_size=1)


@given(
    rows=any_rows,
    seed=st.integers(0, 1000),
    margin=st.sampled_from([None, 0.0, 0.05, 0.5]),
    number=st.integers(1, 3),
    sampling=st.sampled_from(["top", "random"]),
    replace=st.sampled_from(["harder", "always"]),
)
def test_no_negative_is_ever_known_to_be_alike(
    rows: Rows, seed: int, margin: float | None, number: int, sampling: Any, replace: Any
) -> None:
    task = prepare(rows)
    table = Table(task, {})
    table.scores = np.random.default_rng(seed).normal(size=table.scores.shape)
    options = MiningOptions(
        relative_margin=margin, num_negatives=number, sampling=sampling, replace=replace, range_max=5
    )
    found, report = mine(task, table, table, options)
    again, second = mine(task, table, table, options)
    assert (found, report.to_dict()) == (again, second.to_dict())
    alike: dict[str, set[str]] = {}
    labelled: dict[str, set[str]] = {}
    for r in rows:
        query = text_key(r["query"])
        for positive in map(text_key, [r["positive"]] if isinstance(r["positive"], str) else r["positive"]):
            alike.setdefault(query, {query}).add(positive)
            alike.setdefault(positive, {positive}).add(query)
        labelled.setdefault(query, set()).add(text_key(r["negative"]))
    query_of = {text_key(t): i for i, t in enumerate(task.queries)}
    text_of = {text_key(t): i for i, t in enumerate(task.texts)}
    for r in found:
        query, negative = text_key(r["query"]), text_key(r["negative"])
        assert negative not in alike[query]
        if negative not in labelled[query]:
            q = query_of[query]
            positives = [t for i, ts in enumerate(task.positives_of) for t in ts if task.query_of[i] == q]
            lowest = table.scores[q, positives].min()
            assert score_guard(table.scores[q, text_of[negative]], lowest, options) is None
    summary = report.to_dict()
    candidates = summary["candidates"]
    assert candidates["looked_at"] == candidates["passed"] + sum(candidates["removed"].values())
    assert sum(report.outcomes.values()) == len(rows)
    assert set(candidates["removed"]) == set(GUARDS)
    assert summary["rows"]["out"] == len(found) == sum(report.uses.values())


# ------------------------------ the scores

FRENCH = sentences()[:30]


def test_it_is_sentence_transformers_own_mining_where_that_has_the_same_options(
    make_encoder: Callable[..., Encoder],
) -> None:
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    encoder = make_encoder("bert")
    rows = [{"query": r["query"], "positive": r["positive"]} for r in FRENCH]
    margins: list[dict[str, Any]] = [
        {"relative_margin": None},
        {"relative_margin": 0.02},
        {"relative_margin": None, "absolute_margin": 0.02},
        {"relative_margin": 0.01, "max_score": 0.95, "min_score": 0.5},
    ]
    task = prepare(rows)
    scores = VectorScores(encoder, task.queries, task.texts)
    model = encoder.to_sentence_transformer()
    for margin in margins:
        options: dict[str, Any] = {"num_negatives": 3, "range_max": len(rows), **margin}
        found, _ = mine(task, scores, scores, MiningOptions(**options))
        theirs = mine_hard_negatives(Dataset.from_list(rows), model, verbose=False, **options).to_list()
        assert len(theirs) == 90 if margin == margins[0] else 10 < len(theirs) < 90
        assert sorted(found, key=str) == sorted(theirs, key=str)


def test_blocks_do_not_matter(make_encoder: Callable[..., Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    task = prepare(FRENCH)
    scores = VectorScores(make_encoder("bert"), task.queries, task.texts)
    depths = [5] * len(task.queries)
    whole = [near for chunk in scores.search(depths, task.candidates) for near in chunk]
    pairs = ([0, 3, 3, 7], [1, 2, 0, 5])
    values = scores.pairs(*pairs)
    monkeypatch.setattr(mining_scores, "BLOCK", 2 * task.candidates)
    chunks = list(scores.search(depths, task.candidates))
    assert max(map(len, chunks)) == 2
    assert [near for chunk in chunks for near in chunk] == whole
    monkeypatch.setattr(mining_scores, "BLOCK", 33)
    np.testing.assert_allclose(scores.pairs(*pairs), values, atol=1e-6)
    cosines = (scores.queries @ scores.texts.T).numpy()
    np.testing.assert_allclose(values, cosines[pairs], atol=1e-6)
    assert whole == np.argsort(-cosines, axis=1, kind="stable")[:, :5].tolist()
    assert {len(near) for near in next(scores.search([10**6] * len(task.queries), 4))} == {4}
    assert scores.pairs([], []).shape == (0,)


def test_the_two_sides_go_through_their_own_templates(make_encoder: Callable[..., Encoder]) -> None:
    from common.prompts import Template

    encoder = make_encoder("llama", query_template=Template("the sentence {text} in one word"))
    scores = VectorScores(encoder, ["The cat sat"], ["The cat sat"])
    plain = encoder.encode(["The cat sat"], normalize_embeddings=True)
    side = encoder.encode_query(["The cat sat"], normalize_embeddings=True)
    np.testing.assert_allclose(scores.pairs([0], [0]), (plain * side).sum(axis=1), atol=1e-6)
    assert scores.pairs([0], [0])[0] < 0.999


@pytest.fixture(scope="module")
def cross_encoder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """`cross_encoder(outputs)`: the folder of a random one."""

    def make(outputs: int) -> Path:
        import torch
        from sentence_transformers import CrossEncoder

        folder = tmp_path_factory.mktemp("cross") / f"cross-{outputs}"
        torch.manual_seed(3)
        model = CrossEncoder(str(bert_folder), num_labels=outputs, device="cpu")
        torch.nn.init.normal_(model[0].model.classifier.weight, std=2.0)  # random, but not all alike
        model.save_pretrained(str(folder))
        return folder

    return make


def test_a_cross_encoder_scores_candidates_again(
    make_encoder: Callable[..., Encoder], cross_encoder: Callable[[int], Path]
) -> None:
    from sentence_transformers import CrossEncoder

    folder = cross_encoder(1)
    task = prepare(FRENCH)
    near = VectorScores(make_encoder("bert"), task.queries, task.texts)
    judge = CrossScores(str(folder), task.queries, task.texts, device="cpu")
    options = MiningOptions(range_max=5, replace="always", relative_margin=0.0)
    found, report = mine(task, near, judge, options)
    assert found != mine(task, near, near, options)[0]
    model = CrossEncoder(str(folder), device="cpu")
    given = model.predict([(r["query"], r["negative"]) for r in FRENCH])
    np.testing.assert_allclose(report.before, given, atol=1e-5)
    assert report.after  # what was chosen scores below the positive by the cross-encoder, not by the vectors
    positives = dict(zip((r["query"] for r in FRENCH), model.predict([(r["query"], r["positive"]) for r in FRENCH])))
    chosen = [r for r in found if r["negative"] not in {t["negative"] for t in FRENCH if t["query"] == r["query"]}]
    scores = model.predict([(r["query"], r["negative"]) for r in chosen])
    assert all(score <= positives[r["query"]] + 1e-6 for r, score in zip(chosen, scores))


def test_a_cross_encoder_with_several_outputs_is_refused(cross_encoder: Callable[[int], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--reranker .*: has 3 outputs; a reranker has one score"):
        CrossScores(str(cross_encoder(3)), ["q"], ["t"], device="cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="--reranker") as caught:
        CrossScores(str(tmp_path), ["q"], ["t"], device="cpu")
    assert "\n" not in str(caught.value)


# ------------------------------ meaning


@pytest.mark.weights
def test_minilm_finds_harder_negatives_and_no_planted_false_one(weights: tuple[str, str]) -> None:
    from common.data import load_rows

    rows: Rows = load_rows("shipped:triplets", limit=150).rows  # type: ignore[union-attr]
    query, positive = rows[0]["query"], rows[0]["positive"]
    copies = [f"  {query.upper()} ", f"{positive.upper()} "]
    rewritten = f"{query} - so the news."  # a new spelling that says the same, known to nobody
    planted = [row("Nothing of the kind.", text, "Other matters.") for text in (*copies, rewritten)]
    task = prepare([*rows, *planted])
    encoder = load("sentence-transformer", weights[1], dtype="float32", device="cpu")
    scores = VectorScores(encoder, task.queries, task.texts)
    found, report = mine(task, scores, scores, MiningOptions())
    assert {text_key(r["negative"]) for r in found}.isdisjoint({text_key(query), text_key(positive)})
    assert found[0]["negative"] != rewritten
    assert report.removed["relative_margin"] > 0
    summary = report.to_dict()
    assert summary["mean_score"]["negative_after"] >= summary["mean_score"]["negative_before"]
    queries = [task.queries.index(r["query"]) for r in rows]
    chosen, positives = ([r[name] for r in found[: len(rows)]] for name in ("negative", "positive"))
    near, right = (scores.pairs(queries, [task.texts.index(t) for t in side]) for side in (chosen, positives))
    new = [text != r["negative"] for text, r in zip(chosen, rows)]
    assert 10 < sum(new) < len(rows)
    assert (near <= 0.95 * right + 1e-6)[new].all()
    # Without the margin the rewritten query is the hardest "negative" there is.
    loose, _ = mine(task, scores, scores, MiningOptions(relative_margin=None))
    assert loose[0]["negative"] == rewritten
