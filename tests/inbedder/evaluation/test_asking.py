"""How instructions get into a model, and that one encoding for many tasks is that of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import InputError
from common.prompts import Template
from inbedder.encoder import load
from inbedder.evaluation import asking
from inbedder.evaluation.asking import make_asker
from inbedder.evaluation.baselines import baseline_template
from inbedder.evaluation.clustering import assign, v_measure
from inbedder.evaluation.groups import KMeansSettings, groups_of, score_group
from inbedder.evaluation.task_data import Clustering, TaskData
from inbedder.evaluation.tasks import Task
from inbedder.mode_encoder import ModeEncoder

TEXTS = ["The cat sat on the mat.", "Interest rates were raised.", "Two men are playing chess.", "Rain in the park."]
ASKED = ["What is it about?", "Who is in it?", "Where is it?"]


def test_all_instructions_at_once_are_those_one_by_one(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(str(llama_folder), dtype="float32")
    asker = make_asker(encoder)
    assert asker.form == "own"
    expected = [encoder.encode(TEXTS, instruction=one) for one in ASKED]
    # So little memory that two instructions are encoded at a time, then the last.
    monkeypatch.setattr(asking, "HELD_BYTES", 2 * 4 * encoder.dim * len(TEXTS))
    for (name, vectors), one, alone in zip(asker.many(TEXTS, ASKED), ASKED, expected, strict=True):
        assert name == one
        np.testing.assert_allclose(vectors, alone, rtol=0, atol=1e-5 * np.abs(alone).max())
    per_text = asker.each(TEXTS[:3], ASKED)
    np.testing.assert_allclose(per_text, [expected[i][i] for i in range(3)], rtol=0, atol=1e-4)


def test_the_forms_of_a_baseline(make_encoder: Callable[..., Any]) -> None:
    plain = make_asker(make_encoder("bert"), "plain")
    (_, first), (_, second) = plain.many(TEXTS, ASKED[:2])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, make_encoder("bert").encode(TEXTS))

    string = make_asker(make_encoder("bert"))
    assert string.form == "string", "the default where the template has no place for an instruction"
    ((_, asked),) = string.many(TEXTS, ASKED[:1])
    pasted = make_encoder("bert").encode([f"{ASKED[0]}: {text}" for text in TEXTS])
    np.testing.assert_allclose(asked, pasted, atol=1e-6)

    ((_, unpooled),) = make_asker(make_encoder("bert"), "prefix").many(TEXTS, ASKED[:1])
    assert np.abs(unpooled - asked).max() > 1e-3, "the instruction is not pooled"
    assert np.abs(unpooled - first).max() > 1e-3, "but it is read"


def test_a_form_that_does_not_fit_is_refused(make_encoder: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"form own.*no place for an instruction"):
        make_asker(make_encoder("bert"), "own")
    with pytest.raises(InputError, match=r"form string.*a place of its own"):
        make_asker(make_encoder("bert", template=Template("{instruction} {text}")), "string")


def test_modes(llama_folder: Path) -> None:
    encoder = load(str(llama_folder), dtype="float32")
    modes = ModeEncoder(encoder)
    default = make_asker(encoder)
    same = make_asker(encoder, modes=modes, mode="fst_gen_layer_3")
    ((_, a),), ((_, b),) = default.many(TEXTS, ASKED[:1]), same.many(TEXTS, ASKED[:1])
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max())
    other = make_asker(encoder, modes=modes, mode="prompt_mean", layer=1)
    ((_, c),) = other.many(TEXTS, ASKED[:1])
    assert np.abs(a - c).max() > 1e-3


def test_a_mode_counts_without_an_instruction_too(llama_folder: Path) -> None:
    encoder = load(str(llama_folder), dtype="float32", template="{text}")
    modes = ModeEncoder(encoder)
    plain = make_asker(encoder, "plain", modes, "prompt_mean", 1)
    expected = modes.encode(TEXTS, "prompt_mean", 1)
    ((_, vectors),) = plain.many(TEXTS, ASKED[:1])
    np.testing.assert_array_equal(vectors, expected)
    np.testing.assert_array_equal(plain.each(TEXTS[:3], ASKED), modes.encode(TEXTS[:3], "prompt_mean", 1))


def test_e5_has_its_prefix_unless_the_released_quirk_is_asked_for() -> None:
    assert baseline_template("intfloat/e5-large-v2", None, False) == {"template": "query: {text}"}
    assert baseline_template("intfloat/e5-large-v2", None, True) == {}
    assert baseline_template("minilm", None, False) == {}
    assert baseline_template("intfloat/e5-large-v2", "{instruction}: {input}", False) == {
        "template": "{instruction}: {text}"
    }


def test_tasks_on_the_same_texts_share_one_encoding(llama_folder: Path) -> None:
    encoder = load(str(llama_folder), dtype="float32")
    texts = [f"{text} {i}" for i in range(6) for text in TEXTS]
    aspects = {"what": [t[:3] for t in texts], "which": [t[-1] for t in texts]}
    items = {
        name: (
            Task(name, "clustering", "v_measure", (ASKED[i],), (ASKED[i],), (ASKED[2],), (ASKED[1 - i],)),
            TaskData([Clustering(texts, labels)], "here", "ours", len(texts)),
        )
        for i, (name, labels) in enumerate(aspects.items())
    }
    other = TaskData([Clustering(texts[:5], texts[:5])], "here", "ours", 5)
    assert groups_of({**items, "other": (items["what"][0], other)}) == [["what", "which"], ["other"]]
    settings = KMeansSettings(seeds=(0, 1), n_init=2, robustness=True)
    found = score_group(make_asker(encoder), items, settings)
    assert encoder.usage.sequences == len(texts), "one sequence per text, whatever is asked"
    for name, (task, data) in items.items():
        vectors = encoder.encode(texts, instruction=task.wrong[0])
        labels = data.parts[0].labels  # type: ignore[union-attr]
        expected = [v_measure(labels, assign(vectors, len(set(labels)), seed, n_init=2)) for seed in (0, 1)]
        assert found[name]["per_instruction"][task.wrong[0]] == pytest.approx(expected)
        assert found[name]["robustness"]["wrong_mean"] == pytest.approx(np.mean(expected))
        assert found[name]["score"] == pytest.approx(np.mean(found[name]["per_instruction"][task.instruction[0]]))


def test_sets_of_a_task_are_averaged(llama_folder: Path) -> None:
    task = Task("t", "clustering", "v_measure", (ASKED[0],))
    sets = [Clustering(TEXTS, list("aabb")), Clustering([f"{t} again" for t in TEXTS], list("abcd"))]

    def score(*parts: Clustering) -> float:
        data = TaskData(list(parts), "here", "ours", 4)
        return score_group(make_asker(encoder), {"t": (task, data)}, KMeansSettings(seeds=(0,)))["t"]["score"]

    encoder = load(str(llama_folder), dtype="float32")
    assert score(*sets) == pytest.approx((score(sets[0]) + score(sets[1])) / 2)
