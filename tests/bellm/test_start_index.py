"""bellm/start_index.py: which layers are bidirectional, by whose word."""

from __future__ import annotations

import pytest

from bellm.start_index import VARIABLE, attention_mode, start_index
from common.errors import InputError


def test_the_last_layer_is_the_default():
    assert attention_mode(None, None, 32) == {"bidirectional_from": 31}
    assert attention_mode(None, None, 1) == "bidirectional"


@pytest.mark.parametrize(
    ("asked", "mode"),
    [
        (-1, "causal"),
        (32, "causal"),
        (0, "bidirectional"),
        (1, {"bidirectional_from": 1}),
        (31, {"bidirectional_from": 31}),
    ],
)
def test_every_index_has_its_mode(asked, mode):
    assert attention_mode(asked, None, 32) == mode


@pytest.mark.parametrize("asked", [-2, 33, 1000])
def test_a_layer_that_is_not_there(asked):
    with pytest.raises(InputError, match=rf"--bidirectional_from {asked}: the layers are 0 to 31"):
        attention_mode(asked, None, 32)


def test_what_was_trained_is_what_is_loaded():
    recorded = {"bidirectional_from": 31}
    assert attention_mode(None, recorded, 32) == recorded
    assert attention_mode(31, recorded, 32) == recorded
    assert attention_mode(32, "causal", 32) == "causal"
    for asked, saved in ((0, recorded), (30, recorded), (-1, recorded), (31, "causal"), (31, "bidirectional")):
        with pytest.raises(InputError, match="were trained with"):
            attention_mode(asked, saved, 32)


def test_the_variable_is_a_default_read_at_the_call(monkeypatch, caplog):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert start_index(None) is None
    monkeypatch.setenv(VARIABLE, "31")
    with caplog.at_level("INFO", logger="bellm"):
        assert start_index(None) == 31
    assert VARIABLE in caplog.text
    assert start_index(0) == 0
    monkeypatch.setenv(VARIABLE, "last")
    with pytest.raises(InputError, match=f"{VARIABLE}=last: must be a whole number"):
        start_index(None)


def test_no_bidirectional_layer_is_said(caplog):
    attention_mode(-1, None, 4)
    assert "fully causal" in caplog.text
