"""inbedder/modes.py: names and layers."""

from __future__ import annotations

import pytest

from common.errors import InputError
from inbedder.modes import Mode, find_mode, last_output_values, output_values


@pytest.mark.parametrize(
    ("name", "layer", "want"),
    [
        ("fst_gen_layer_3", -1, Mode("first", 3)),
        ("fst_gen_layer_0", 2, Mode("first", 0)),
        ("last_ppt_layer_2", -1, Mode("first", 2)),
        ("last_gen_layer_1", -1, Mode("last_answer", 1)),
        ("avg_gen_layer_3", -1, Mode("answer_mean", 3)),
        ("avg_ppt_layer_3", -1, Mode("prompt_mean", 3)),
        ("avg_all_layer_3", -1, Mode("all_mean", 3)),
        ("re_encode", 1, Mode("re_encode", 3)),
        ("first", -1, Mode("first", 3)),
        ("answer_mean", 1, Mode("answer_mean", 1)),
    ],
)
def test_names(name, layer, want):
    assert find_mode(name, layer, masked=False, layers=3) == want
    if want.name in ("first", "last_answer"):
        with pytest.raises(InputError, match="a masked model has answer_mean"):
            find_mode(name, layer, masked=True, layers=3)
    else:
        assert find_mode(name, layer, masked=True, layers=3) == want


@pytest.mark.parametrize(
    ("name", "layer", "words"),
    [
        ("fst_gen_layer_4", -1, r"layer 4; the model has 0 to 3"),
        ("first", 4, r"layer 4; the model has 0 to 3"),
        ("first", -2, "layer -2"),
        ("fst_gen", -1, "did you mean 'fst_gen_layer_L'"),
        ("answer_men", -1, "did you mean 'answer_mean'"),
        ("fst_gen_layer_x", -1, "there are answer_mean, .*did you mean 'fst_gen_layer_L'"),
        ("frist", -1, "did you mean 'first'"),
    ],
)
def test_unknown_names(name, layer, words):
    with pytest.raises(InputError, match=words):
        find_mode(name, layer, masked=False, layers=3)


@pytest.mark.parametrize("masked", [True, False])
def test_the_default_is_what_the_paper_embeds_with(masked):
    assert find_mode(None, masked=masked, layers=3) == Mode("answer_mean" if masked else "first", 3)
    assert find_mode(None, 1, masked=masked, layers=3).layer == 1


def test_listed_output_values_are_those_released():
    values = output_values(masked=False, layers=2)
    kinds = ("avg_gen", "avg_ppt", "avg_all", "fst_gen", "last_gen")
    assert values == [f"{kind}_layer_{i}" for kind in kinds for i in range(3)] + ["re_encode"]
    assert last_output_values(masked=False, layers=2) == [*(f"{kind}_layer_2" for kind in kinds), "re_encode"]
    masked = output_values(masked=True, layers=1)
    assert masked == [f"{kind}_layer_{i}" for kind in kinds[:3] for i in range(2)] + ["re_encode"]
    for value in values:
        find_mode(value, -1, masked=False, layers=2)
