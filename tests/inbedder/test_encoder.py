"""inbedder/encoder.py: prompt, question, pooling; one forward pass of the trunk and nothing else."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationMixin

from common import registry
from common.checkpoints import known_model
from common.errors import InputError
from inbedder import CausalLMEncoder, load
from inbedder.compat import COMPAT
from inbedder.encoder import CHECKPOINTS
from inbedder.prompts import ALPACA, BY_NAME, DEFAULT_INSTRUCTION, NO_INPUT, PATTERN, template_of

REPO = Path(__file__).resolve().parents[2]
TEXTS = [
    "The cat sat on the mat and watched the rain.",
    "Two men are playing chess in the park.",
    "",
    "é {instruction}",
]
QUESTION = "What is the animal mentioned here?"


def inbedder(folder, **options):
    return load(str(folder), device="cpu", dtype="float32", **options)


def by_hand(text, instruction=QUESTION):
    # In the other order a text with {instruction} in it would be filled in, as in the released code.
    return PATTERN.replace("{instruction}", instruction).replace("{input}", text)


def test_importing_the_package_is_cheap():
    code = "import sys, inbedder; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0
    with pytest.raises(ImportError):
        exec("from inbedder import Inbedder")


def test_prompts_are_the_published_ones():
    assert PATTERN == "### Input:\n{input}\n\n### Instruction:\n{instruction}\n\n### Response:"
    assert ALPACA == "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
    assert NO_INPUT == "### Instruction:\n{instruction}\n\n### Response:"
    assert {name: template_of(name).pattern for name in BY_NAME} == {
        name: pattern.replace("{input}", "{text}") for name, pattern in BY_NAME.items()
    }
    for wrong in ("no place", "{input} and {text}"):
        with pytest.raises(InputError, match="exactly once"):
            template_of(wrong)


def test_the_vector_is_the_last_prompt_tokens_state(llama_folder):
    encoder = inbedder(llama_folder)
    model = AutoModelForCausalLM.from_pretrained(llama_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    with torch.no_grad():
        want = [
            model(**tokenizer(by_hand(t), return_tensors="pt"), output_hidden_states=True).hidden_states[-1][0, -1]
            for t in TEXTS
        ]
    np.testing.assert_allclose(encoder.encode(TEXTS, instruction=QUESTION), torch.stack(want), atol=1e-5)
    info = encoder.info
    assert (info.method, info.pooling, info.attention, info.max_length) == ("inbedder", "last", "causal", 256)


def test_instructions_per_call_per_text_and_by_default(llama_folder):
    encoder = inbedder(llama_folder)
    asked = [QUESTION, "Who is it?", QUESTION, None]
    apart = [encoder.encode(t, instruction=q or DEFAULT_INSTRUCTION) for t, q in zip(TEXTS, asked)]
    np.testing.assert_allclose(encoder.encode(TEXTS, instruction=asked), apart, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS), encoder.encode(TEXTS, instruction=DEFAULT_INSTRUCTION), atol=1e-5)
    assert np.abs(apart[0] - encoder.encode(TEXTS[0])).max() > 1e-2
    bare = inbedder(llama_folder, template="{input}")
    prompts = [by_hand(t) for t in TEXTS]
    np.testing.assert_allclose(bare.encode(prompts), encoder.encode(TEXTS, instruction=QUESTION), atol=1e-5)


def test_a_long_text_is_cut_at_its_end_and_as_released_at_its_start(llama_folder):
    text = " ".join(TEXTS[:2])
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    whole = tokenizer(by_hand(text))["input_ids"]
    most = len(whole) - 9
    encoder = inbedder(llama_folder, max_length=most)
    cut = tokenizer.decode(encoder.tokenize([text], instruction=QUESTION)[0])
    start, end = by_hand("\0").split("\0")
    assert cut.startswith(start + text[:4])
    assert cut.endswith(end)
    released = inbedder(llama_folder, max_length=most, compat="inbedder:left-truncation")
    assert released.tokenize([text], instruction=QUESTION)[0] == whole[9:]
    assert released.backbone.tokenizer.truncation_side == "right"


# ------------------------------ masked models


def test_a_masked_model_reads_its_masks(bert_folder):
    encoder = inbedder(bert_folder, mask_length=2)
    tokenizer = encoder.backbone.tokenizer
    ids = tokenizer(by_hand(TEXTS[0]) + "[MASK][MASK]", return_tensors="pt")
    with torch.no_grad():
        states = encoder.backbone.model(**ids).last_hidden_state[0]
    want = states[ids["input_ids"][0] == tokenizer.mask_token_id].mean(dim=0)
    assert states[-2:].mean(dim=0).sub(want).abs().max() > 1e-3  # the masks are not simply the last tokens
    got = encoder.encode(TEXTS, instruction=QUESTION)
    np.testing.assert_allclose(got[0], want, atol=1e-5)
    np.testing.assert_allclose(np.stack([encoder.encode(t, instruction=QUESTION) for t in TEXTS]), got, atol=1e-5)
    assert inbedder(bert_folder).templates["text"].pattern.endswith("### Response:[MASK][MASK][MASK]")


def test_mask_tokens_survive_a_cut_and_those_of_a_text_are_not_pooled(bert_folder):
    encoder = inbedder(bert_folder)
    encoder.max_length = len(encoder.tokenize([""], instruction=QUESTION)[0]) + 8
    ids = encoder.tokens([" ".join(TEXTS[:2]), "a [MASK] b"], instruction=QUESTION)
    assert [len(ids.ids[0]), ids.truncated] == [encoder.max_length, 1]
    mask = encoder.backbone.tokenizer.mask_token_id
    for sequence, (start, end) in zip(ids.ids, ids.pooled):
        assert sequence[start:end] == [mask] * 3
        assert mask not in sequence[end:]
    assert ids.ids[1].count(mask) == 4


def test_positions_of_roberta_start_behind_its_padding_id(golden):
    assert inbedder(golden / "tiny_roberta").max_length == 256
    assert inbedder(golden / "tiny_roberta", max_length=100).max_length == 100


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("llama", {"mask_length": 3}, "for masked models"),
        ("llama", {"convention": "pair"}, "for masked models"),
        ("bert", {"mask_length": 0}, "at least 1"),
        ("bert", {"convention": "pair"}, "head"),
        ("roberta", {"convention": "pair", "template": "{input}"}, "of its own"),
        ("llama", {"template": "{input} {input}"}, "exactly once"),
    ],
)
def test_wrong_use(kind, options, words, llama_folder, bert_folder, golden):
    folder = {"llama": llama_folder, "bert": bert_folder, "roberta": golden / "tiny_roberta"}[kind]
    with pytest.raises(InputError, match=words):
        inbedder(folder, **options)


def test_the_pair_convention_is_not_saved(golden, tmp_path):
    with pytest.raises(InputError, match="not saved"):
        inbedder(golden / "tiny_roberta", convention="pair").save_pretrained(tmp_path / "saved")


# ------------------------------ released and saved models


@pytest.mark.parametrize(
    ("name", "layer", "pooling"),
    [
        ("llama-2-7b", 32, "last"),
        ("opt-2.7b", 32, "last"),
        ("opt-1.3b", 24, "last"),
        ("roberta-large", 24, "mean"),
    ],
)
def test_released_models_are_known_with_their_layer(name, layer, pooling):
    known = known_model(CHECKPOINTS, f"BrandonZYW/{name}-InBedder", None)
    assert known.base == f"BrandonZYW/{name}-InBedder"
    assert not known.adapter
    assert (known.options["layer"], known.options["pooling"], known.options["template"]) == (layer, pooling, PATTERN)
    assert known.options.get("mask_length") == (3 if name == "roberta-large" else None)


def test_other_weights_under_a_released_id_are_refused(llama_folder, tmp_path, monkeypatch):
    """The embedding's layer is the last; a model with another number of layers is not the released one."""
    file = tmp_path / "checkpoints.yaml"
    monkeypatch.setattr("inbedder.encoder.CHECKPOINTS", file)
    file.write_text(f"org/name:\n  base: {llama_folder}\n  layer: 3\n")
    assert inbedder("org/name").encode("hello").shape == (32,)
    monkeypatch.setattr("inbedder.encoder.CHECKPOINTS", tmp_path / "other.yaml")
    (tmp_path / "other.yaml").write_text(f"org/name:\n  base: {llama_folder}\n  layer: 32\n")
    with pytest.raises(InputError, match="3 layers, the released model has 32"):
        inbedder("org/name")


@pytest.mark.parametrize("kind", ["llama", "bert", "adapter"])
def test_saved_models_come_back(kind, llama_folder, bert_folder, lora_folders, tmp_path):
    folder = bert_folder if kind == "bert" else llama_folder
    adapter = {"adapter": str(lora_folders["headed"])} if kind == "adapter" else {}
    first = inbedder(folder, compat="inbedder:left-truncation", **adapter)
    want = [first.encode(TEXTS), first.encode(TEXTS, instruction=QUESTION)]
    first.save_pretrained(tmp_path / "saved")
    again = registry.load("inbedder", str(tmp_path / "saved"), device="cpu", dtype="float32")
    loaded = [again, inbedder(tmp_path / "saved", compat="inbedder:left-truncation")]
    if kind == "adapter":
        loaded.append(inbedder(folder, adapter=str(tmp_path / "saved"), compat="inbedder:left-truncation"))
    for encoder in loaded:
        assert encoder.templates["text"] == first.templates["text"]
        np.testing.assert_allclose(encoder.encode(TEXTS), want[0], atol=1e-6)
        np.testing.assert_allclose(encoder.encode(TEXTS, instruction=QUESTION), want[1], atol=1e-6)


def test_every_quirk_in_the_code_is_described():
    named = set()
    for folder in ("common", "inbedder", "benchmarks"):
        for file in (REPO / folder).rglob("*.py"):
            if file != REPO / "inbedder" / "compat.py":
                named |= set(re.findall(r'"(inbedder:[a-z0-9-]+)"', file.read_text("utf-8")))
    assert named == set(COMPAT)


# ------------------------------ what a vector costs


class Watch:
    """Counts the calls of modules while it is open, and sees what is kept between the calls of a trunk."""

    def __init__(self, trunk: nn.Module) -> None:
        self.trunk, self.vocabulary = trunk, trunk.config.vocab_size
        self.batches: list[tuple[int, int]] = []
        self.logits = 0
        self.kept: list[int] = []

    def __enter__(self) -> Watch:
        self._before = self._bytes()
        self._handles = [
            register_module_forward_hook(self._after),
            self.trunk.register_forward_pre_hook(self._at_start, with_kwargs=True),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _after(self, module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.shape[-1] == self.vocabulary:
            self.logits += 1

    def _at_start(self, _: nn.Module, __: tuple, inputs: dict) -> None:
        self.batches.append(tuple(inputs["input_ids"].shape))
        self.kept.append(self._bytes() - self._before)

    @staticmethod
    def _bytes() -> int:
        gc.collect()
        tensors = [x for x in gc.get_objects() if type(x) in (torch.Tensor, nn.Parameter)]
        return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("how", ["encode", "face"])
def test_a_vector_is_one_forward_of_the_trunk_and_keeps_nothing_else(how, llama_folder, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("generate was called")

    monkeypatch.setattr(GenerationMixin, "generate", refuse)
    texts = [f"{TEXTS[i % 2]} {i}" for i in range(48)]
    if how == "encode":
        encoder = inbedder(llama_folder)
        run = lambda: encoder.encode(texts, instruction=QUESTION, batch_size=6)  # noqa: E731
    else:
        model = CausalLMEncoder(str(llama_folder), device="cpu", max_new_tokens=3, do_sample=True)
        encoder = model.encoder
        run = lambda: model.encode([by_hand(t) for t in texts], batch_size=6)  # noqa: E731
    run()  # what is made once (the choice of a kernel, masks) is there by now
    tokens, padded = encoder.usage.tokens, encoder.usage.padded_tokens
    with Watch(encoder.backbone.model) as watch:
        vectors = run()
    assert watch.logits == 0
    assert len(watch.batches) == 8
    assert sum(rows * width for rows, width in watch.batches) == encoder.usage.padded_tokens - padded
    assert encoder.usage.tokens - tokens == tokens  # each text once
    one_batch = 4 * 6 * max(width for _, width in watch.batches) * 8  # ids and masks, 8 bytes each
    assert max(watch.kept) <= vectors.nbytes + one_batch
    # One layer's states of all tokens, were they kept:
    assert tokens * 32 * 4 > 10 * (vectors.nbytes + one_batch)


def test_the_watch_sees_a_head_and_further_passes(llama_folder):
    model = CausalLMEncoder(str(llama_folder), device="cpu", max_new_tokens=3)
    with Watch(model.model) as watch:
        model.encode([by_hand(t) for t in TEXTS], return_generations=True)
    assert watch.logits == len(watch.batches) == 3
    assert watch.batches[1:] == [(4, 1), (4, 1)]


@pytest.mark.weights
@pytest.mark.slow
def test_the_question_decides_what_is_alike(weights):
    """With a real model: by animal, and by feeling, other sentences are alike."""
    encoder = load(weights[0], device="cpu", dtype="float32")
    texts = ["I love my cat.", "I hate my cat.", "I love my dog.", "I hate my dog."]
    animal, feeling = (
        encoder.encode(texts, instruction=q, normalize_embeddings=True)
        for q in ("Which animal is mentioned? Answer in one word.", "Which emotion is expressed? Answer in one word.")
    )
    same_animal = [(v[0] @ v[1] + v[2] @ v[3]) - (v[0] @ v[2] + v[1] @ v[3]) for v in (animal, feeling)]
    assert same_animal[0] > same_animal[1]
