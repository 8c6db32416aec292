"""The probe: what it learns and what it can't, cached and live states, checkpoints, files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from word_fixtures import frozen, split_of, word_trunk, write_data

from common.errors import InputError
from llm2vec.word_data import TaggedSentences
from llm2vec.word_metrics import floors, score
from llm2vec.word_probe import LinearProbe, TaggedStates, fit_probe, load_probe, predicted_tags, save_probe, scores_of
from llm2vec.word_recipe import WordConfig
from llm2vec.word_states import CachedStates, LiveStates, WordEncoder


@pytest.fixture(scope="module")
def encoder(llama_folder: Path) -> WordEncoder:
    return WordEncoder(word_trunk(llama_folder), labels="same_token", max_tokens=256)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def recipe(out: Path, **changes: Any) -> WordConfig:
    settings: dict[str, Any] = {
        "learning_rate": 2e-2, "epochs": 4, "logging_steps": 5, "save_strategy": "no", "eval_strategy": "no",
        "retroactive_labels": "same_token",
    }  # fmt: skip
    return WordConfig(output_dir=out, **{**settings, **changes})


def cached(encoder: WordEncoder, sentences: TaggedSentences, task: str = "pos_tags") -> TaggedStates:
    return TaggedStates(CachedStates(encoder, encoder.align(sentences.words), "memory"), sentences, task)


def fitted(config: WordConfig, train: TaggedStates, valid: TaggedStates | None = None) -> LinearProbe:
    return fit_probe(train, valid, config, config.output_dir, dim=32, device=torch.device("cpu"),
                     settings={"task": train.task})  # fmt: skip


def test_it_learns_what_words_decide(encoder: WordEncoder, folder: Path, tmp_path: Path) -> None:
    probe = fitted(recipe(tmp_path, epochs=12), cached(encoder, split_of(folder, "train")))
    assert probe.labels == ["DT", "JJ", "NN", "VB"]
    assert scores_of(probe, cached(encoder, split_of(folder, "test"))).token_accuracy > 0.97


def test_of_shuffled_tags_it_learns_nothing(encoder: WordEncoder, folder: Path, tmp_path: Path) -> None:
    """Not more than to say the most frequent tag always; with the true ones it finds the entities."""
    train, test = split_of(folder, "train", "ner_tags"), split_of(folder, "test", "ner_tags")
    data = cached(encoder, test, "ner_tags")
    floor = score(test.tags["ner_tags"], floors(train, "ner_tags", test.words)["majority_tag"])
    found = {}
    for name, sentences in {"true": train, "mixed": train.shuffled(0)}.items():
        probe = fitted(recipe(tmp_path / name, epochs=12), cached(encoder, sentences, "ner_tags"))
        found[name] = scores_of(probe, data)
    assert probe.labels == ["B-LOC", "B-PER", "O"]
    true, mixed = found["true"].spans, found["mixed"].spans
    assert true is not None
    assert mixed is not None
    assert true.kind == "entity"
    assert true.f1 > 0.95
    assert mixed.f1 < 0.05
    assert found["true"].token_accuracy > 0.97 > floor.token_accuracy + 0.1
    assert found["mixed"].token_accuracy <= floor.token_accuracy + 0.01


def test_live_states_train_the_same_probe(encoder: WordEncoder, folder: Path, tmp_path: Path) -> None:
    """Same first weights, order, and dropout; the states differ by rounding only."""
    train = split_of(folder, "train").head(40)
    one = cached(encoder, train)
    two = TaggedStates(LiveStates(encoder, one.aligned), train, "pos_tags")
    before = encoder.tokens
    found = fitted(recipe(tmp_path / "cached", epochs=2), one).classifier.weight
    assert encoder.tokens == before
    other = fitted(recipe(tmp_path / "live", epochs=2), two).classifier.weight
    assert encoder.tokens == before + 2 * sum(one.aligned.lengths)
    assert torch.allclose(found, other, atol=1e-4)
    assert not torch.allclose(
        found, fitted(recipe(tmp_path / "seed", epochs=2, seed=1), one).classifier.weight, atol=1e-2
    )


def test_the_trunk_stays_as_it_is(llama_folder: Path, folder: Path, tmp_path: Path) -> None:
    encoder = WordEncoder(frozen(llama_folder), labels="same_token")
    before = {name: value.clone() for name, value in encoder.backbone.model.state_dict().items()}
    train = split_of(folder, "train").head(16)
    fitted(recipe(tmp_path, epochs=1), TaggedStates(LiveStates(encoder, encoder.align(train.words)), train, "pos_tags"))
    assert not encoder.backbone.model.training
    for name, value in encoder.backbone.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_loss_is_the_mean_over_words() -> None:
    torch.manual_seed(0)
    probe = LinearProbe(4, ["a", "b", "c"], dropout=0.5).eval()
    states, labels = torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])
    logits = states @ probe.classifier.weight.T + probe.classifier.bias
    expected = -torch.log_softmax(logits, dim=1)[torch.arange(5), labels].mean()
    assert torch.allclose(probe(states, labels)["loss"], expected)
    assert torch.equal(probe(states)["logits"], logits)
    probe.train()
    assert (probe(torch.ones(200, 4))["logits"].std(dim=0) > 0).all()  # dropout is on


def test_predictions_stand_in_the_order_of_the_sentences(encoder: WordEncoder, folder: Path) -> None:
    """Batches are planned by length; each sentence must get its own words' tags back."""
    test = split_of(folder, "test")
    data = cached(encoder, test)
    torch.manual_seed(0)
    probe = LinearProbe(32, ["a", "b", "c", "d"])
    found = predicted_tags(probe, data.states)
    for i, tags in enumerate(found):
        best = probe.eval()(data.states.batch([i]))["logits"].argmax(dim=1)
        assert tags == [probe.labels[j] for j in best]


def test_the_learning_rate_is_planned_for_all_epochs(encoder: WordEncoder, folder: Path, tmp_path: Path) -> None:
    """Stopped after 10 of 100 steps, it has hardly fallen; checkpoint and validation come when asked for."""
    train, valid = (cached(encoder, split_of(folder, split)) for split in ("train", "validation"))
    config = recipe(tmp_path, stop_after_n_steps=10, save_strategy="steps", save_steps=5, eval_strategy="steps",
                    eval_steps=5, test_step=5)  # fmt: skip
    probe = fitted(config, train, valid)
    assert sorted(p.name for p in tmp_path.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-5"]
    state = json.loads((tmp_path / "checkpoint-10" / "trainer_state.json").read_text())
    assert [entry["learning_rate"] for entry in state["log_history"] if "learning_rate" in entry][-1] > 0.9 * 2e-2
    measured = [entry for entry in state["log_history"] if "eval_token_accuracy" in entry]
    assert [entry["step"] for entry in measured] == [5, 10]
    early, late = (load_probe(tmp_path / f"checkpoint-{step}")[0] for step in (5, 10))
    assert torch.equal(probe.classifier.weight, early.classifier.weight)
    assert not torch.equal(early.classifier.weight, late.classifier.weight)
    last, settings = load_probe(tmp_path)
    assert torch.equal(last.classifier.weight, late.classifier.weight)
    assert settings["steps"] == 10
    assert measured[1]["eval_token_accuracy"] == scores_of(late, valid).token_accuracy


def test_a_test_step_that_never_came(encoder: WordEncoder, folder: Path, tmp_path: Path) -> None:
    train = cached(encoder, split_of(folder, "train").head(16))
    with pytest.raises(InputError, match=r"--test_step 50: no .*checkpoint-50: training ended after 2"):
        fitted(recipe(tmp_path, epochs=1, save_strategy="steps", save_steps=1, test_step=50), train)
    with pytest.raises(InputError, match="--test_step 3: no checkpoint is kept there"):
        recipe(tmp_path, save_strategy="steps", save_steps=2, test_step=3)


def test_a_probe_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    probe = LinearProbe(8, ["O", "B-PER"], dropout=0.3)
    save_probe(probe, tmp_path / "p", {"task": "ner_tags"})
    found, settings = load_probe(tmp_path / "p")
    states = torch.randn(3, 8)
    assert torch.equal(found(states)["logits"], probe.eval()(states)["logits"])
    assert (found.labels, found.dropout.p, settings) == (["O", "B-PER"], 0.3, {"task": "ner_tags"})


def test_only_probes_make_room_for_probes(encoder: WordEncoder, folder: Path, tmp_path: Path) -> None:
    train = cached(encoder, split_of(folder, "train").head(8))
    save_probe(LinearProbe(2, ["a"]), tmp_path / "checkpoint-7", {})
    (tmp_path / "checkpoint-8").mkdir()
    (tmp_path / "checkpoint-8" / "model.safetensors").write_bytes(b"")
    fitted(recipe(tmp_path, epochs=1), train)
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-8"]
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="holds a model; give the classifier an --output_dir of its own"):
        fitted(recipe(tmp_path, epochs=1), train)


def test_what_is_no_probe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--cls_addr .*: no classifier\.safetensors"):
        load_probe(tmp_path)
    (tmp_path / "classifier.pt").write_bytes(b"")
    with pytest.raises(InputError, match="a pickled classifier of the released code is not opened"):
        load_probe(tmp_path)


def test_sentences_without_states_are_left_out(encoder: WordEncoder, folder: Path) -> None:
    train = split_of(folder, "train").head(3)
    data = cached(encoder, train)
    data.aligned.kept[1] = np.zeros(0, dtype=np.int64)
    again = TaggedStates(data.states, train, "pos_tags")
    assert [again[i] for i in range(len(again))] == [0, 2]
    assert again.tags[1] == []
