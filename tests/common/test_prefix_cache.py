"""common/prefix_cache.py: the shared way equals the plain one, is taken where it can be, and runs each token once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attention_families import CASES, FAMILIES, tiny_model
from core_texts import SEARCH, TEXTS, distance
from torch import Tensor, nn

from common import prefix_attention
from common.attention import set_attention
from common.batching import pad, span_mask
from common.embedder import Embedder
from common.encoder import Encoder
from common.errors import InputError
from common.forward import run_batches
from common.prefix_attention import NotShareable, attend
from common.prefix_cache import PrefixMemory, common_prefix, is_worthwhile, share_prefix, why_not
from common.prompts import Template


def ids(count: int, seed: int) -> list[int]:
    return torch.randint(3, 100, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


PREFIX = ids(12, 0)
SEQUENCES = [PREFIX + ids(n, n) for n in (1, 7, 3, 5, 6, 2)]


def wide(family: str, how: str = "sdpa", **changes: Any) -> Embedder:
    """An embedder of a family whose windows hold all tokens of the tests."""
    window = {"sliding_window": 64} if "sliding_window" in FAMILIES.get(family, {}) else {}
    return Embedder(tiny_model(family, how, **{**window, **changes}), "last").eval()


def plain(embedder: Embedder, sequences: list[list[int]], pooled: Any = None) -> Tensor:
    return run_batches(embedder, sequences, pad_id=0, pooled=pooled, prefix_cache="off")[0]


def shared(embedder: Embedder, sequences: list[list[int]], pooled: Any = None) -> Tensor:
    found = share_prefix([embedder], sequences, pooled, even_if_slower=True)
    assert found is not None
    inputs = list(pad(found.rests, 0))
    if pooled is not None:
        inputs.append(span_mask(found.pooled or [], inputs[0].shape[1]))
    with torch.inference_mode():
        return found.embedders[0](*inputs)


class Runs:
    """Counts what the trunk is given."""

    def __init__(self, embedder: Embedder) -> None:
        self.shapes: list[tuple[int, ...]] = []
        embedder.trunk.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self.shapes.append(tuple(kwargs["input_ids"].shape))

    @property
    def tokens(self) -> int:
        return sum(rows * width for rows, width in self.shapes)


# ------------------------------ equal to the plain way


@pytest.mark.parametrize(("family", "how"), [case for case in CASES if case[0] != "gemma2"])
def test_equals_the_plain_way_in_every_family(family: str, how: str) -> None:
    embedder = wide(family, how)
    vectors = shared(embedder, SEQUENCES)
    assert distance(vectors, plain(embedder, SEQUENCES)) < 1e-5
    assert distance(vectors, torch.cat([plain(embedder, [s]) for s in SEQUENCES])) < 1e-5
    assert embedder.trunk.config._attn_implementation == how


@pytest.mark.parametrize("limit", [1, 300, 2000])
def test_memory_is_bounded_and_the_bound_changes_nothing(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    embedder = wide("llama", max_position_embeddings=512)
    prefix = ids(180, 1)
    rows = [prefix + ids(n, n) for n in (40, 33, 1, 2)]
    want = plain(embedder, rows)
    sizes: list[int] = []
    inner = prefix_attention._part

    def noted(query: Tensor, key: Tensor, *rest: Any) -> Tensor:
        before = rest[1]
        sizes.append(query.shape[:3].numel() * (key.shape[2] + (0 if before is None else before.shape[1])))
        return inner(query, key, *rest)

    monkeypatch.setattr(prefix_attention, "_part", noted)
    monkeypatch.setitem(prefix_attention.SCORES, "cpu", limit)
    monkeypatch.setattr(prefix_attention, "BLOCK", 8)
    assert distance(shared(embedder, rows), want) < 1e-5
    assert max(sizes) <= max(limit, 8 * 4 * 220)  # 8 tokens of 4 heads, where even these are too many


def test_a_long_prefix() -> None:
    embedder = wide("llama", max_position_embeddings=8192)
    prefix = ids(5500, 1)
    rows = [prefix + ids(n, n) for n in (3, 9)]
    found = share_prefix([embedder], rows)
    assert found is not None
    assert found.tokens_run == 5500
    # Keys and values once: no row holds a copy.
    kept = found.embedders[0].states
    assert {tuple(k.shape) for k in [*kept.keys.values(), *kept.values.values()]} == {(1, 2, 5500, 8)}
    assert distance(shared(embedder, rows), plain(embedder, rows)) < 1e-5


def test_bf16_is_as_near_to_fp32_as_the_plain_way() -> None:
    want = plain(wide("llama"), SEQUENCES)
    half = Embedder(tiny_model("llama", "eager", dtype=torch.bfloat16), "last").eval()
    assert distance(shared(half, SEQUENCES), want) < 2 * distance(plain(half, SEQUENCES), want)


def test_with_an_adapter(make_encoder: Callable[..., Encoder], lora_folders: dict[str, Any]) -> None:
    encoder = make_encoder(backbone={"adapter": str(lora_folders["headed"])}, pooling="last")
    bare = make_encoder(pooling="last")
    vectors = shared(encoder.embedder, SEQUENCES)
    assert distance(vectors, plain(encoder.embedder, SEQUENCES)) < 1e-5
    assert distance(vectors, plain(bare.embedder, SEQUENCES)) > 1e-3


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean", "max", "last"])
def test_any_pooling_of_tokens_behind_the_prefix(pooling: str) -> None:
    embedder = Embedder(tiny_model("llama"), pooling).eval()
    spans = [(12, len(s)) for s in SEQUENCES]
    assert distance(shared(embedder, SEQUENCES, spans), plain(embedder, SEQUENCES, spans)) < 1e-5
    if pooling == "last":
        ends = [(3, len(s) - 1) if len(s) > 13 else (5, 5) for s in SEQUENCES]
        assert distance(shared(embedder, SEQUENCES, ends), plain(embedder, SEQUENCES, ends)) < 1e-5


# ------------------------------ where it can't be taken


def refused(embedder: Embedder) -> str:
    found = share_prefix([embedder], SEQUENCES, even_if_slower=True)
    assert found is None
    assert embedder.trunk.config._attn_implementation in ("sdpa", "eager")
    vectors, _ = run_batches(embedder, SEQUENCES, pad_id=0)
    assert distance(vectors, plain(embedder, SEQUENCES)) < 1e-5
    return why_not(embedder, 19) or ""


@pytest.mark.parametrize("family", ["mistral", "gemma3_text", "phi3", "qwen2"])
def test_a_window_shorter_than_the_sequence(family: str) -> None:
    assert "window of 3" in refused(Embedder(tiny_model(family), "last").eval())


def test_a_window_as_long_as_the_sequence_is_none() -> None:
    embedder = Embedder(tiny_model("mistral", sliding_window=19), "last").eval()
    assert distance(shared(embedder, SEQUENCES), plain(embedder, SEQUENCES)) < 1e-5
    assert why_not(embedder, 20)


@pytest.mark.parametrize("mode", ["bidirectional", {"bidirectional_from": 1}])
def test_a_model_that_is_not_causal(mode: Any) -> None:
    embedder = wide("llama")
    set_attention(embedder.trunk, mode)
    assert "not causal" in refused(embedder)


def test_an_encoder(make_encoder: Callable[..., Encoder]) -> None:
    assert "bidirectional" in refused(make_encoder("bert", pooling="last").embedder)


def test_scores_that_are_capped() -> None:
    """Known only from the call itself: the prefix is given up, the vectors are the plain ones."""
    assert refused(wide("gemma2", "eager")) == ""


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rope_that_depends_on_the_batch(kind: str) -> None:
    embedder = wide("llama")
    for parameters in ({"rope_type": kind}, {"full_attention": {"rope_type": kind}}):
        embedder.trunk.config.rope_parameters = parameters
        assert "positions" in str(why_not(embedder, 19))


def test_attention_that_is_called_with_something_unknown() -> None:
    q = torch.randn(1, 2, 3, 4)
    module = nn.Module()
    module.layer_idx = 0  # type: ignore[assignment]
    for more in ({"softcap": 30.0}, {"s_aux": torch.zeros(2)}, {"dropout": 0.1}, {}):
        with pytest.raises(NotShareable):
            attend(module, q, q, q, None, scaling=1.0, **more)
    behind = prefix_attention.Behind(prefix_attention.PrefixStates())
    with pytest.raises(NotShareable):
        attend(module, q, q, q, torch.zeros(1, 1, 3, 3), **{prefix_attention.CARRIED: behind})


# ------------------------------ which tokens


def test_the_common_prefix_is_that_of_the_ids() -> None:
    embedder = wide("llama")
    assert common_prefix(embedder, [[5, 6, 7, 8], [5, 6, 9]]) == 2
    assert common_prefix(embedder, [[5, 6, 7, 8], [5, 6]]) == 1  # a token is left over
    assert common_prefix(embedder, [[5, 6], [5, 6]]) == 1
    assert common_prefix(embedder, [[5, 6], [7, 6]]) == 0
    assert common_prefix(embedder, [[5]]) == 0
    assert common_prefix(embedder, []) == 0


def test_no_pooled_token_is_in_the_prefix() -> None:
    rows = [[5, 6, 7, 8, 1], [5, 6, 7, 8, 2]]
    last, mean, first = (Embedder(tiny_model("llama"), p) for p in ("last", "mean", "cls"))
    assert common_prefix(last, rows) == 4
    assert common_prefix(last, rows, [(1, 3), (0, 5)]) == 2
    assert common_prefix(last, rows, [(3, 3), (0, 5)]) == 4  # an empty span means all tokens
    assert common_prefix(mean, rows) == 0
    assert common_prefix(mean, rows, [(3, 5), (2, 5)]) == 2
    assert common_prefix(mean, rows, [(3, 5), (4, 4)]) == 0
    assert common_prefix(first, rows, [(3, 5), (3, 5)]) == 0
    padded_mean = Embedder(tiny_model("llama"), "mean", frozenset({"angle:pool-pad-mean"}))
    assert common_prefix(padded_mean, rows, [(3, 5), (3, 5)]) == 0


def test_it_is_worth_it_for_enough_tokens_only() -> None:
    rows = [[0] * 30] * 10
    cpu, half = wide("llama"), Embedder(tiny_model("llama", dtype=torch.bfloat16), "last")
    gpu = nn.Linear(1, 1, device="meta")  # as any device that is no CPU
    assert is_worthwhile(20, 0, rows, cpu)
    assert not is_worthwhile(5, 0, rows * 9, cpu)  # a sixth of all tokens
    assert is_worthwhile(8, 0, rows * 9, cpu)
    assert not is_worthwhile(8, 0, rows * 9, half)
    assert not is_worthwhile(20, 0, rows[:1], cpu)  # nothing is saved
    assert not is_worthwhile(20, 0, rows[:3], cpu)  # a pass over the weights for 40 tokens
    assert not is_worthwhile(20, 0, rows, gpu)
    assert is_worthwhile(20, 0, rows * 40, gpu)
    assert not is_worthwhile(20, 19, rows, cpu)  # all but one token are known


# ------------------------------ in run_batches and Encoder.encode


def long_rows(count: int = 20) -> list[list[int]]:
    return [ids(30, 1) + ids(1 + n % 5, 7 + n) for n in range(count)]


def test_batches_share_a_prefix_that_is_run_once() -> None:
    embedder = wide("llama")
    rows = long_rows()
    want = plain(embedder, rows)
    runs = Runs(embedder)
    vectors, padded = run_batches(embedder, rows, pad_id=0, max_tokens=20)
    assert distance(vectors, want) < 1e-5
    common = common_prefix(embedder, rows)
    assert runs.shapes[0] == (1, common)
    assert len(runs.shapes) > 3
    assert padded == runs.tokens == common + sum(len(row) - common for row in rows)  # no padding is run
    assert all(rows * width <= 20 for rows, width in runs.shapes[1:])


def test_off_is_the_plain_way_and_one_query_one_pass() -> None:
    embedder = wide("llama")
    runs = Runs(embedder)
    run_batches(embedder, long_rows(), pad_id=0, prefix_cache="off", max_tokens=10_000)
    assert runs.shapes == [(20, 35)]
    runs.shapes.clear()
    run_batches(embedder, long_rows(1), pad_id=0)
    assert runs.shapes == [(1, 31)]


def test_several_devices_each_have_the_prefix() -> None:
    embedder = wide("llama")
    rows = long_rows()
    vectors, padded = run_batches(embedder, rows, pad_id=0, max_tokens=20, devices=["cpu", "cpu"])
    assert distance(vectors, plain(embedder, rows)) < 1e-5
    assert padded < sum(map(len, rows))


def test_the_model_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = wide("llama", "eager").train()
    run_batches(embedder, long_rows(), pad_id=0)
    assert embedder.training
    assert embedder.trunk.config._attn_implementation == "eager"

    def broken(*_: Any) -> Tensor:
        raise RuntimeError("broken")

    monkeypatch.setattr(prefix_attention, "_part", broken)
    with pytest.raises(RuntimeError, match="broken"):
        run_batches(embedder, long_rows(), pad_id=0)
    assert embedder.training
    assert embedder.trunk.config._attn_implementation == "eager"


@pytest.mark.parametrize("kind", ["llama", "bos_llama"])
def test_a_prompt_is_shared_and_changes_no_vector(make_encoder: Callable[..., Encoder], kind: str) -> None:
    encoder = make_encoder(kind, template=Template(SEARCH), pooling="last")
    texts = TEXTS + [text[::-1] for text in TEXTS]
    before = encoder.info
    runs = Runs(encoder.embedder)
    off = encoder.encode(texts, prefix_cache="off")
    plain_tokens = runs.tokens
    runs.shapes.clear()
    auto = encoder.encode(texts)
    assert distance(auto, off) < 1e-5
    assert runs.shapes[0][0] == 1
    assert runs.tokens < plain_tokens
    assert encoder.usage.padded_tokens == plain_tokens + runs.tokens
    assert encoder.info == before


def test_examples_stand_before_the_instruction_and_are_not_counted(make_encoder: Callable[..., Encoder]) -> None:
    template = Template("{examples}{instruction}: {text}", plain="{text}")
    encoder = make_encoder(template=template, pooling="last", max_length=24)
    examples = "The weather in the mountains changes quickly.\n\n" * 2
    with_examples = encoder.tokens(TEXTS[:2], instruction="rain", examples=examples).ids
    without = encoder.tokens(TEXTS[:2], instruction="rain").ids
    count = len(encoder.backbone.tokenizer(examples)["input_ids"])
    assert [len(s) for s in with_examples] == [len(s) + count for s in without]
    with pytest.raises(InputError, match="no place for examples"):
        encoder.encode(TEXTS, examples=examples)


# ------------------------------ remembered over calls


def test_a_later_query_is_run_without_the_prefix() -> None:
    embedder, memory = wide("llama"), PrefixMemory()
    rows = long_rows()
    run_batches(embedder, rows, pad_id=0, prefix_cache=memory)
    runs = Runs(embedder)
    one = ids(30, 1) + ids(4, 99)
    vectors, padded = run_batches(embedder, [one], pad_id=0, prefix_cache=memory)
    assert runs.shapes == [(1, 4)]
    assert padded == 4
    assert distance(vectors, plain(embedder, [one])) < 1e-5
    # One that leaves the prefix earlier shares as much as it has; one that shares little, nothing.
    runs.shapes.clear()
    half = ids(30, 1)[:20] + ids(5, 98)
    vectors, _ = run_batches(embedder, [half], pad_id=0, prefix_cache=memory)
    assert runs.shapes == [(1, 5)]
    assert distance(vectors, plain(embedder, [half])) < 1e-5
    runs.shapes.clear()
    run_batches(embedder, [ids(30, 1)[:2] + ids(60, 97)], pad_id=0, prefix_cache=memory)
    assert runs.shapes == [(1, 62)]


def test_another_task_takes_the_place_of_the_first() -> None:
    embedder, memory = wide("llama"), PrefixMemory()
    run_batches(embedder, long_rows(), pad_id=0, prefix_cache=memory)
    other = [[*ids(25, 2), n] for n in range(5, 25)]
    want = plain(embedder, other)
    runs = Runs(embedder)
    vectors, _ = run_batches(embedder, other, pad_id=0, prefix_cache=memory)
    assert runs.shapes[0] == (1, 25)
    assert distance(vectors, want) < 1e-5
    runs.shapes.clear()
    run_batches(embedder, other[:1], pad_id=0, prefix_cache=memory)
    assert runs.shapes == [(1, 1)]


def test_changed_weights_are_not_served_old_states(
    make_encoder: Callable[..., Encoder], lora_folders: dict[str, Any]
) -> None:
    encoder = make_encoder(backbone={"adapter": str(lora_folders["headed"]), "trainable_adapter": True}, pooling="last")
    embedder: Any = encoder.embedder
    rows = long_rows()

    def served_right(memory: PrefixMemory) -> bool:
        vectors, _ = run_batches(embedder, rows[:1], pad_id=0, prefix_cache=memory)
        return distance(vectors, plain(embedder, rows[:1])) < 1e-5

    def remember() -> PrefixMemory:
        memory = PrefixMemory()
        run_batches(embedder, rows, pad_id=0, prefix_cache=memory)
        return memory

    memory = remember()
    assert served_right(memory)
    optimizer = torch.optim.SGD([p for p in embedder.parameters() if p.requires_grad], lr=1.0)
    embedder(*pad(rows[:2], 0)).sum().backward()
    optimizer.step()
    assert served_right(memory)
    memory = remember()
    with embedder.trunk.disable_adapter():
        assert served_right(memory)
    memory = remember()
    embedder.trunk.load_adapter(str(lora_folders["other"]), "second")
    embedder.trunk.set_adapter("second")
    assert served_right(memory)
    memory = remember()
    embedder.double()
    assert served_right(memory)
