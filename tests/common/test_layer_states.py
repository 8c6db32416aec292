"""All layers' states from one pass, held against transformers' own `output_hidden_states` and against cut models."""

from __future__ import annotations

import copy
import itertools
import resource
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attention_families import FAMILIES, tiny_model
from core_texts import PROMPT, TEXTS, distance
from torch import nn

from common.attention import set_attention
from common.attention_parts import find_parts
from common.backbone import Backbone
from common.encoder import Encoder
from common.errors import InputError
from common.layer_states import LayerEncoder, find_layers
from common.model_names import ResolvedModel
from common.pooling import pool

Make = Callable[..., Encoder]
ALL = [*FAMILIES, "gpt2"]


def all_layers(encoder: Encoder, texts: list[str] = TEXTS, *, final_norm: bool = False, **options: Any) -> np.ndarray:
    """(L + 1, n, D) of what is tested."""
    with LayerEncoder(encoder, final_norm=final_norm).encode(texts, **options) as vectors:
        return np.stack([vectors.layer(entry) for entry in range(vectors.layers + 1)])


def hidden_states(encoder: Encoder, texts: list[str] = TEXTS) -> np.ndarray:
    """The same from transformers: each text alone, all hidden states, pooled one by one."""
    found = []
    for ids in encoder.tokenize(texts):
        row = torch.tensor([ids])
        with torch.no_grad():
            states = encoder.backbone.model(input_ids=row, output_hidden_states=True).hidden_states
        found.append([pool(state, torch.ones_like(row), encoder.pooling)[0].numpy() for state in states])
    return np.array(found).transpose(1, 0, 2)


@pytest.fixture
def family_encoder(make_encoder: Make) -> Callable[..., Encoder]:
    """An encoder around a tiny random model of any decoder family."""

    def make(family: str, **changes: Any) -> Encoder:
        tokenizer = make_encoder("llama").backbone.tokenizer
        how = "eager" if family == "gemma2" else "sdpa"
        size = {"vocab_size": len(tokenizer), "max_position_embeddings": 256}
        if family == "gpt2":
            size = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 3, "n_head": 4}
        source = ResolvedModel(family, family, family, is_local=True)
        model = tiny_model(family, how, **size, **changes)
        return Encoder(Backbone(model, tokenizer, source, is_decoder=True), method="angle", pooling="mean")

    return make


# ------------------------------ the states are those of transformers


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("pooling", ["mean", "last", "cls", "weighted_mean"])
def test_every_entry_is_the_pooled_hidden_state_of_transformers(make_encoder: Make, kind: str, pooling: str) -> None:
    encoder = make_encoder(kind, pooling=pooling)
    expected = hidden_states(encoder)
    found = all_layers(encoder)
    assert found.shape == expected.shape == ({"llama": 4, "bert": 3}[kind], len(TEXTS), 32)
    assert found.dtype == np.float32
    for entry, (ours, theirs) in enumerate(zip(found, expected)):
        assert distance(ours, theirs) < 1e-5, entry
    for a, b in itertools.pairwise(found):
        assert distance(a, b) > 1e-3, "entries of different layers differ"


@pytest.mark.parametrize("family", ALL)
def test_every_family_gives_its_layers(family_encoder: Callable[..., Encoder], family: str) -> None:
    encoder = family_encoder(family)
    assert distance(all_layers(encoder), hidden_states(encoder)) < 1e-5


@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"pooling": "last"}], ids=str)
def test_the_last_entry_is_the_encoders_vector_to_the_last_bit(make_encoder: Make, options: dict[str, Any]) -> None:
    from common.prompts import Template

    encoder = make_encoder("llama", template=Template(PROMPT), **options)
    for batching in ({}, {"batch_size": 3}, {"max_batch_tokens": 60}):
        for final_norm in (False, True):
            found = all_layers(encoder, final_norm=final_norm, **batching)
            np.testing.assert_array_equal(found[-1], encoder.encode(TEXTS, **batching))
    if encoder.normalize:
        np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-6)


@pytest.mark.parametrize("adapter", ["headed", "trunk"])
def test_layers_are_found_through_an_adapter(make_encoder: Make, lora_folders: dict[str, Path], adapter: str) -> None:
    encoder = make_encoder("llama", backbone={"adapter": str(lora_folders[adapter])})
    found = all_layers(encoder)
    assert distance(found, hidden_states(encoder)) < 1e-5
    assert distance(found[1], all_layers(make_encoder("llama"))[1]) > 1e-3, "the adapter is at work"


def test_layers_below_a_bidirectional_one_are_causal_and_those_above_are_not(make_encoder: Make) -> None:
    encoder = make_encoder("llama")
    layers = LayerEncoder(encoder)

    def entries() -> np.ndarray:
        with layers.encode(TEXTS) as vectors:
            return np.stack([vectors.layer(entry) for entry in range(4)])

    causal = entries()
    set_attention(encoder.backbone.model, {"bidirectional_from": 1})
    mixed = entries()
    np.testing.assert_array_equal(mixed[:2], causal[:2])
    assert distance(mixed[2], causal[2]) > 1e-3
    assert distance(mixed, hidden_states(encoder)) < 1e-5
    set_attention(encoder.backbone.model, "causal")
    np.testing.assert_array_equal(entries(), causal)


def test_only_the_chosen_tokens_are_pooled_in_every_layer(make_encoder: Make) -> None:
    from common.prompts import Template

    template = Template('Summarize sentence "{text}" in one word:"')
    part = make_encoder("llama", template=template, pooled="text")
    everything = make_encoder("llama", template=template)
    for entry, (a, b) in enumerate(zip(all_layers(part), all_layers(everything))):
        assert distance(a, b) > 1e-3, entry
    # Token embeddings know no context: those of the text alone are those of the text in the prompt.
    assert distance(all_layers(part, ["rain"])[0], all_layers(make_encoder("llama"), ["rain"])[0]) < 1e-5


# ------------------------------ the first n layers


@pytest.mark.parametrize("family", ALL)
def test_with_the_final_norm_entry_n_is_the_model_cut_after_n_layers(
    family_encoder: Callable[..., Encoder], family: str
) -> None:
    encoder = family_encoder(family)
    found = all_layers(encoder, final_norm=True)
    for count in (1, 2, 3):
        cut = copy.deepcopy(encoder)
        parts = find_parts(cut.backbone.model)
        name = next(name for name, child in parts.trunk.named_children() if isinstance(child, nn.ModuleList))
        setattr(parts.trunk, name, getattr(parts.trunk, name)[:count])
        parts.config.num_hidden_layers = count
        assert distance(found[count], cut.encode(TEXTS)) < 1e-5, count
    assert distance(found[1], all_layers(encoder)[1]) > 1e-3, "the norm is at work"


# ------------------------------ one pass, little memory, nothing left behind


def test_there_is_one_pass_per_batch(make_encoder: Make) -> None:
    encoder, plain = make_encoder("llama"), make_encoder("llama")
    calls: list[int] = []
    encoder.backbone.model.register_forward_hook(lambda *_: calls.append(1))
    all_layers(encoder, [*TEXTS, *TEXTS], batch_size=2)
    plain.encode([*TEXTS, *TEXTS], batch_size=2)
    assert len(calls) == len(TEXTS) / 2, "each distinct text runs once"
    assert encoder.usage == plain.usage


def test_no_more_than_two_layers_states_are_alive_at_once(make_encoder: Make) -> None:
    encoder = make_encoder("llama")
    states: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        states.append(weakref.ref(output))
        alive.append(sum(ref() is not None for ref in states))

    for layer in find_layers(encoder.backbone.model):
        layer.register_forward_hook(note)
    with LayerEncoder(encoder).encode(TEXTS, batch_size=len(TEXTS)):
        pass
    assert len(states) == 3
    assert max(alive) <= 2
    assert not any(ref() is not None for ref in states)


def test_the_model_is_left_as_it_was_even_after_an_error(make_encoder: Make) -> None:
    encoder = make_encoder("llama")
    model = encoder.backbone.model

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    before, embedder = encoder.encode(TEXTS), encoder.embedder
    layers = LayerEncoder(encoder)
    layers.encode(TEXTS).close()
    assert hooks() == 0
    model.norm.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        layers.encode(TEXTS)
    assert hooks() == 1, "the test's own"
    model.norm._forward_pre_hooks.clear()
    assert encoder.embedder is embedder
    np.testing.assert_array_equal(encoder.encode(TEXTS), before)


def test_a_batch_too_large_for_memory_is_halved_and_its_rows_stay_in_place(make_encoder: Make) -> None:
    encoder = make_encoder("llama")
    expected = all_layers(encoder)
    failed: list[int] = []

    def small_device(_: nn.Module, __: Any, output: Any) -> None:
        if output.shape[0] > 2:  # late: two layers of the batch have been pooled by then
            failed.append(len(output))
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = find_layers(encoder.backbone.model)[2].register_forward_hook(small_device)
    found = all_layers(encoder, max_batch_tokens=500)
    handle.remove()
    assert failed
    assert distance(found, expected) < 1e-5


def test_several_devices_give_the_same(make_encoder: Make) -> None:
    encoder = make_encoder("llama")
    texts = [f"{text} {i}" for i in range(6) for text in TEXTS]
    expected = all_layers(encoder, texts, batch_size=2)
    found = all_layers(encoder, texts, batch_size=2, devices=["cpu", "cpu"])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not show a process's open files")
def test_the_space_is_given_back(make_encoder: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    vectors = LayerEncoder(make_encoder("llama")).encode(TEXTS)
    assert list(tmp_path.iterdir()) == [], "a killed process leaves nothing"
    descriptor = vectors._rows._file.fileno()
    assert Path(f"/proc/self/fd/{descriptor}").resolve().parent == tmp_path
    vectors.close()
    assert vectors._rows._file is None


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_that_says_what_to_do(make_encoder: Make) -> None:
    layers = LayerEncoder(make_encoder("llama"))
    with files_of_at_most(100), pytest.raises(InputError, match="TMPDIR"):
        layers.encode(TEXTS)


# ------------------------------ use


def test_order_repetitions_and_sizes(make_encoder: Make) -> None:
    layers = LayerEncoder(make_encoder("bert"))
    with layers.encode([*TEXTS, TEXTS[3]]) as vectors:
        assert (len(vectors), vectors.layers, vectors.dim) == (9, 2, 32)
        np.testing.assert_array_equal(vectors.layer(1)[8], vectors.layer(1)[3])
        with pytest.raises(IndexError, match="0 to 2"):
            vectors.layer(3)
        with layers.encode(TEXTS[3]) as one:
            assert distance(one.layer(1), vectors.layer(1)[3:4]) < 1e-5, "a second call leaves the first's alone"
    with layers.encode([]) as none:
        assert none.layer(2).shape == (0, 32)


def test_what_has_no_meaning_for_inner_layers_is_refused(
    make_encoder: Make, family_encoder: Callable[..., Encoder]
) -> None:
    with pytest.raises(InputError, match=r"pooler.*--pooling"):
        LayerEncoder(make_encoder("bert", pooling="pooler"))
    with pytest.raises(InputError, match=r"--final_norm.*BertModel"):
        LayerEncoder(make_encoder("bert"), final_norm=True)
    # OPT-350m projects its last states to half the width.
    narrow = family_encoder("opt", word_embed_proj_dim=16)
    with pytest.raises(InputError, match=r"OPTModel.*\[16, 32\]"):
        LayerEncoder(narrow).encode(TEXTS)


def test_a_model_that_runs_one_layer_several_times_is_refused() -> None:
    from transformers import AlbertConfig, AlbertModel

    sizes = {"hidden_size": 16, "embedding_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    with pytest.raises(InputError, match=r"AlbertModel.*3 layers in no list"):
        find_layers(AlbertModel(AlbertConfig(vocab_size=20, num_hidden_layers=3, **sizes)))


@pytest.mark.parametrize("name", ["distilbert", "roberta", "modernbert", "deberta-v2", "mpnet", "electra"])
def test_encoders_of_other_kinds_have_their_layers(name: str) -> None:
    from transformers import AutoConfig, AutoModel

    sizes: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    ids: dict[str, Any] = {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    }
    config = AutoConfig.for_model(name, vocab_size=20, num_hidden_layers=3, **sizes, **ids)
    layers = find_layers(AutoModel.from_config(config))
    assert len(layers) == 3
    assert all("Layer" in type(layer).__name__ or "Block" in type(layer).__name__ for layer in layers)
