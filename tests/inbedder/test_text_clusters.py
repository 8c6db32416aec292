"""inbedder/text_clusters.py: the library call `inbedder.cluster`."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, v_measure_score

import inbedder
from common.errors import InputError
from inbedder import ModeEncoder, cluster, load
from inbedder.decoding import Decoding
from inbedder.text_clusters import entropy_bits, label_counts

TEXTS = [
    "I love cat!",
    "I dislike cat!",
    "The bank froze my card.",
    "My card was declined at the bank.",
    "A black cat is sitting near the window.",
    "Interest rates were raised by a quarter of a point.",
    "Two men are playing chess in the park.",
    "I love cat!",
]
LABELS = ["cat", "cat", "bank", "bank", "cat", "bank", "chess", "cat"]
ANIMAL, FEELING = "What is the animal mentioned here?", "Which feeling, if any, is expressed?"


@pytest.fixture(scope="session")
def llama(folders):
    return load(str(folders["llama"]), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def roberta(folders):
    return load(str(folders["roberta"]), device="cpu", dtype="float32")


@pytest.mark.parametrize("answers", [True, False])
def test_clusters_are_those_of_k_means_on_the_raw_vectors(answers, llama):
    found = cluster(TEXTS, ANIMAL, 3, encoder=llama, answers=answers)
    vectors = llama.encode(TEXTS, instruction=ANIMAL)
    np.testing.assert_allclose(found.vectors, vectors, atol=1e-5)
    want = KMeans(n_clusters=3, n_init=10, random_state=42).fit_predict(vectors)
    assert adjusted_rand_score(want, found.assignment) == 1.0
    assert found.assignment[0] == found.assignment[7]
    assert sorted(i for one in found.clusters for i in one.members) == list(range(8))
    for number, one in enumerate(found.clusters):
        assert np.flatnonzero(found.assignment == number).tolist() == list(one.members)
    sizes = [one.size for one in found.clusters]
    assert sizes == sorted(sizes, reverse=True)
    assert (found.v_measure, found.clusters[0].components, found.clusters[0].entropy) == (None, None, None)


def test_answers_are_those_of_the_model_and_need_be_asked_for(llama, monkeypatch):
    found = cluster(TEXTS, ANIMAL, 2, encoder=llama, top_k=4, decoding=Decoding(max_new_tokens=5))
    modes = ModeEncoder(llama, decoding=Decoding(max_new_tokens=5))
    assert list(found.answers) == [answer.strip() for answer in modes.answers(TEXTS, instruction=ANIMAL)]
    assert all(1 <= len(one.head_words) <= 4 and len(one.text_words) <= 4 for one in found.clusters)

    def never(*_, **__):
        raise AssertionError("something was generated")

    monkeypatch.setattr("inbedder.causal.generate", never)
    without = cluster(TEXTS, ANIMAL, 2, encoder=llama, answers=False)
    assert without.answers is None
    assert all(one.answer_words == () and one.head_words and one.text_words for one in without.clusters)
    with pytest.raises(AssertionError, match="generated"):
        cluster(TEXTS, ANIMAL, 2, encoder=llama)


@pytest.mark.parametrize("options", [{"pooling": "mean"}, {"normalize": True}])
def test_answers_do_not_change_what_is_clustered(options, folders):
    encoder = load(str(folders["llama"]), device="cpu", dtype="float32", **options)
    want = encoder.encode(TEXTS, instruction=ANIMAL)
    for answers in (True, False):
        found = cluster(TEXTS, ANIMAL, 2, encoder=encoder, answers=answers)
        np.testing.assert_allclose(found.vectors, want, atol=1e-5)


def test_representatives_are_nearest_to_the_centre_and_differ(llama):
    found = cluster(TEXTS, ANIMAL, 1, encoder=llama, answers=False)
    (one,) = found.clusters
    distance = np.linalg.norm(found.vectors - found.vectors.mean(axis=0), axis=1)
    assert len({TEXTS[i] for i in one.representatives}) == len(one.representatives) == 5
    assert one.representatives[0] == distance.argmin()
    assert np.all(np.diff(distance[list(one.representatives)]) >= 0)
    assert one.text_words  # with one cluster there is nothing to compare with


@pytest.mark.parametrize("answers", [True, False])
def test_several_instructions_give_what_each_alone_gives(answers, llama):
    both = cluster(TEXTS, [ANIMAL, FEELING], 3, encoder=llama, answers=answers)
    assert [one.instruction for one in both] == [ANIMAL, FEELING]
    assert not np.allclose(both[0].vectors, both[1].vectors, atol=1e-3)
    for one in both:
        alone = cluster(TEXTS, one.instruction, 3, encoder=llama, answers=answers)
        np.testing.assert_allclose(one.vectors, alone.vectors, atol=1e-5)
        assert one.assignment.tolist() == alone.assignment.tolist()
        assert one.clusters == alone.clusters


def test_labels(llama):
    found = cluster(TEXTS, ANIMAL, 3, LABELS, llama, answers=False)
    assert found.v_measure == pytest.approx(100 * v_measure_score(LABELS, found.assignment))
    entropies = [one.entropy for one in found.clusters]
    assert entropies == sorted(entropies)
    for one in found.clusters:
        assert one.components == label_counts([LABELS[i] for i in one.members])
        assert one.entropy == pytest.approx(entropy_bits(list(one.components.values())))
    other = [str(i % 2) for i in range(8)]
    both = cluster(TEXTS, [ANIMAL, FEELING], 3, [LABELS, other], llama, answers=False)
    assert both[0].v_measure == found.v_measure
    assert both[1].v_measure == pytest.approx(100 * v_measure_score(other, both[1].assignment))
    shared = cluster(TEXTS, [ANIMAL, FEELING], 3, LABELS, llama, answers=False)
    assert shared[1].v_measure == pytest.approx(100 * v_measure_score(LABELS, both[1].assignment))
    numbers = cluster(TEXTS, ANIMAL, 3, np.arange(8) % 2, llama, answers=False)
    assert set().union(*(one.components for one in numbers.clusters)) == {"0", "1"}


def test_entropies_are_those_of_the_released_results():
    """Label counts and entropies of propose_results/Llama-2-7b-hf-qa-ml=20_..._feedback-reason_seed=42_gather.json."""
    counts = [(9, 7, 229), (134, 148, 10), (109, 97, 13)]
    want = [0.4127257882205942, 1.179296029485155, 1.2632375005661483]
    np.testing.assert_allclose([entropy_bits(one) for one in counts], want, rtol=1e-12)
    assert str(entropy_bits([5])) == "0.0"
    assert list(label_counts(["b", "a", "a"]).items()) == [("a", 2), ("b", 1)]


def test_a_masked_model(roberta):
    found = cluster(TEXTS, ANIMAL, 2, LABELS, roberta)
    np.testing.assert_allclose(found.vectors, roberta.encode(TEXTS, instruction=ANIMAL), atol=1e-5)
    assert list(found.answers) == [answer.strip() for answer in ModeEncoder(roberta).answers(TEXTS, instruction=ANIMAL)]
    assert all(one.head_words for one in found.clusters)
    assert cluster(TEXTS, ANIMAL, 2, LABELS, roberta, answers=False).assignment.tolist() == found.assignment.tolist()


def test_a_masked_model_asked_in_pairs(folders):
    encoder = load(str(folders["roberta"]), convention="pair", device="cpu", dtype="float32")
    for answers in (True, False):
        found = cluster(TEXTS, [ANIMAL, FEELING], 2, encoder=encoder, answers=answers)
        np.testing.assert_allclose(found[1].vectors, encoder.encode(TEXTS, instruction=FEELING), atol=1e-5)
        assert all(one.head_words for one in found[0].clusters)
        assert (found[0].answers is not None) == answers


def test_other_modes_have_no_head_words_but_those_of_the_last_layer(llama):
    modes = ModeEncoder(llama)
    for mode, layer, reads in (("prompt_mean", -1, True), ("fst_gen_layer_1", -1, False), (None, 1, False)):
        found = cluster(TEXTS, ANIMAL, 2, encoder=llama, mode=mode, layer=layer, answers=False)
        want = modes.encode(TEXTS, mode, layer, instruction=ANIMAL)
        np.testing.assert_allclose(found.vectors, want, atol=1e-5)
        assert all(bool(one.head_words) == reads for one in found.clusters)
    assert not np.allclose(found.vectors, llama.encode(TEXTS, instruction=ANIMAL), atol=1e-3)


def test_a_cache_gives_the_same(llama, tmp_path):
    first = cluster(TEXTS, ANIMAL, 2, encoder=llama, cache_dir=str(tmp_path))
    tokens = llama.usage.tokens
    again = cluster(TEXTS, ANIMAL, 2, encoder=llama, cache_dir=str(tmp_path))
    assert llama.usage.tokens == tokens
    assert (again.answers, again.clusters) == (first.answers, first.clusters)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"texts": []}, "no text to cluster"),
        ({"texts": "one text"}, "one str; give a list"),
        ({"instruction": []}, "at least one question"),
        ({"instruction": [ANIMAL, FEELING, ANIMAL]}, "'What is the animal mentioned here.' stands there twice"),
        ({"n_clusters": 8}, "n_clusters 8: there are only 7 different texts"),
        ({"n_clusters": 0}, "n_clusters 0: must be at least 1"),
        ({"top_k": 0}, "top_k 0: must be at least 1"),
        ({"labels": LABELS[1:]}, "labels: 7 for 8 texts; give one per text"),
        ({"labels": [*LABELS[1:], None]}, r"labels\[7\]: None is no label"),
        ({"instruction": [ANIMAL, FEELING], "labels": [LABELS, LABELS[1:]]}, "labels: 7 for 8 texts"),
        ({"mode": "frist"}, "did you mean 'first'"),
    ],
)
def test_wrong_use_is_one_clear_line(given, message, llama):
    with pytest.raises(InputError, match=message) as caught:
        cluster(**{"texts": TEXTS, "instruction": ANIMAL, "n_clusters": 2, "encoder": llama, **given})
    assert "\n" not in str(caught.value)


def test_a_text_that_stands_there_often_leaves_fewer_clusters_no_empty_ones(llama):
    texts = ["", " ", "\n", "a", "a", "a"]
    found = cluster(texts, ANIMAL, 4, encoder=llama)
    assert all(one.size for one in found.clusters)
    assert sum(one.size for one in found.clusters) == 6


def test_cluster_stays_a_function_whatever_is_imported():
    for module in pkgutil.iter_modules(inbedder.__path__):
        if module.name.startswith(("cluster", "text_clusters", "propose")):
            importlib.import_module(f"inbedder.{module.name}")
    assert callable(inbedder.cluster)
    assert "cluster" not in {module.name for module in pkgutil.iter_modules(inbedder.__path__)}
