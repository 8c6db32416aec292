"""inbedder/infer.py: vectors, or answers."""

from __future__ import annotations

import numpy as np
import pytest

from inbedder import ModeEncoder, load
from inbedder.decoding import Decoding

TEXTS = ["I love cat!", "The bank froze my card."]
QUESTION = "What is the animal, if any?"


@pytest.mark.parametrize("name", ["llama", "roberta"])
def test_vectors_and_answers(name, folders, tmp_path, program):
    words = ["inbedder/infer.py", *TEXTS, "--model", folders[name], "--dtype", "float32", "--instruction", QUESTION]
    done = program(*words, "--output", tmp_path / "x.npy")
    assert done.code == 0, done.err
    encoder = load(str(folders[name]), dtype="float32")
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), encoder.encode(TEXTS, instruction=QUESTION), atol=1e-5)
    done = program(*words, "--answers", "--max_new_tokens", 5, "--batch_size", 1)
    assert done.code == 0, done.err
    modes = ModeEncoder(encoder, decoding=Decoding(max_new_tokens=5))
    answers = modes.answers(TEXTS, instruction=QUESTION)
    assert done.out.split("\n")[-3:-1] == [" ".join(answer.split()) for answer in answers]


def test_wrong_use_is_said_before_the_model_is_looked_for(program, tmp_path):
    for words, message in (
        (["--max_new_tokens", 0], "max_new_tokens 0"),
        (["--answers", "--output", tmp_path / "x.npy"], "--answers prints"),
        (["--answers", "--normalize"], "--answers prints"),
    ):
        done = program("inbedder/infer.py", "a", "--model", "nowhere", *words)
        assert done.code == 2
        assert message in done.err.splitlines()[-1]
