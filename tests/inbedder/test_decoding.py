"""inbedder/decoding.py: settings of answers, from encoders, flags and released configurations."""

from __future__ import annotations

import pytest

from common.errors import InputError
from inbedder.decoding import Decoding, read_decoding


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens 0: must be at least 1"),
        ({"max_new_tokens": "3"}, "max_new_tokens '3': should be int"),
        ({"max_new_tokens": True}, "max_new_tokens True: should be int"),
        ({"do_sample": 1}, "do_sample 1: should be bool"),
        ({"temperature": 0.0}, "temperature 0.0: must be over 0"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"top_p": 1.1}, "top_p 1.1"),
        ({"top_k": -1}, "top_k -1"),
        ({"num_beams": 4}, "num_beams 4: .* only 1 is possible"),
        ({"temprature": 1.0}, "temprature is not known; did you mean temperature"),
        ({"early_stopping": True}, "early_stopping is not known"),
    ],
)
def test_wrong_settings(given, words):
    with pytest.raises(InputError, match=words):
        read_decoding(given)


def test_released_settings():
    """Of causallm_llama-2-7b-qa.json and causallm_opt-1.3b-qa.json, and what callers of the encoders added."""
    llama = {"temperature": 0.6, "top_p": 0.9, "max_new_tokens": 3, "do_sample": True}
    assert read_decoding(llama) == Decoding(3, True, 0.6, 0.9)
    opt = {"num_beams": 1, "do_sample": False, "max_new_tokens": 20, "pad_token_id": 1}
    assert read_decoding(opt) == Decoding(20)
    assert read_decoding({}) == Decoding()
    assert read_decoding({"temperature": 1}).temperature == 1
