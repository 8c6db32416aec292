"""Training reads queries, examples and passages as the released inference does: the token ids of the goldens."""

from __future__ import annotations

from typing import Any

import pytest

from bge_icl.batch_examples import ExampleOptions
from bge_icl.collator import IclCollator
from bge_icl.encoder import load
from bge_icl.train_data import DataSet, checked_row


@pytest.mark.parametrize("shots", [0, 1, 3])
def test_token_ids_of_queries(golden: Any, shots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of the golden in place of drawn ones; texts that are cut are left out (ours keep the prompt)."""
    encoder = load(str(golden.model), device="cpu", dtype="float32")
    released = golden.ids(f"q_ex{shots}")
    examples = "".join(
        f"<instruct>{e.get('instruct', golden.instruction)}\n<query>{e['query']}\n<response>{e['response']}\n\n"
        for e in golden.examples[:shots]
    )
    kept = [i for i, text in enumerate(golden.texts) if text.strip() and len(golden.ids("q_ex0")[i]) < 500]
    raw = [{"query": golden.texts[i], "pos": ["p"], "neg": [], "prompt": golden.instruction} for i in kept]
    rows = [checked_row(one, f"f:{i}", "s") for i, one in enumerate(raw)]
    monkeypatch.setattr("bge_icl.collator.prefixes", lambda *_: [examples] * len(rows))
    collator = IclCollator(encoder, {"s": DataSet("normal", True, 1, 8)}, ExampleOptions(query_max_len=2048))
    batch = collator(list(enumerate(rows)))
    found = [ids[:n] for ids, n in zip(batch["input_ids"].tolist(), batch["lengths"])][: len(rows)]
    assert len(kept) >= 15
    assert found == [released[i] for i in kept]


def test_token_ids_of_passages(golden: Any) -> None:
    encoder = load(str(golden.model), device="cpu", dtype="float32")
    released = golden.ids("corpus")
    kept = [i for i, text in enumerate(golden.texts) if text.strip()]
    rows = [checked_row({"query": "q", "pos": golden.texts[i], "prompt": "x"}, f"f:{i}", "s") for i in kept]
    collator = IclCollator(encoder, {"s": DataSet("normal", True, 1, 8)}, ExampleOptions(), 512)
    batch = collator(list(enumerate(rows)))
    found = [ids[:n] for ids, n in zip(batch["input_ids"].tolist(), batch["lengths"])][len(rows) :]
    assert found == [released[i] for i in kept]
