"""What can be read off a model as the embedding: our names of the modes, and the released output values.

| released | mode | causal model | masked model |
|---|---|---|---|
| `fst_gen_layer_l` | first | the last prompt token | - |
| `avg_gen_layer_l` | answer_mean | the mean of that and of the answer's tokens | the mean of the mask tokens |
| `last_gen_layer_l` | last_answer | the answer's last token | - |
| `avg_ppt_layer_l` | prompt_mean | the mean of the prompt, without its last token | ... without masks and EOS |
| `avg_all_layer_l` | all_mean | the mean of prompt and answer | the mean of all tokens |
| `re_encode` | re_encode | another embedder's vector of the answer's text | likewise |

l: a layer; 0 the token embeddings, L (the number of layers, -1 here) behind the final norm. The token that a state
belongs to is the one that it predicts: the last prompt token's state is that of the answer's first token, and the state
at the answer's token t that of token t + 1. EOS, other special tokens and filtered words are left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import InputError

# Mode -> the released prefix, in the order in which the released encoders list them.
CAUSAL = {
    "answer_mean": "avg_gen_layer_",
    "prompt_mean": "avg_ppt_layer_",
    "all_mean": "avg_all_layer_",
    "first": "fst_gen_layer_",
    "last_answer": "last_gen_layer_",
    "re_encode": "re_encode",
}
MASKED = {name: CAUSAL[name] for name in ("answer_mean", "prompt_mean", "all_mean", "re_encode")}
# Of the results in the repository's history.
OLD_PREFIXES = {"last_ppt_layer_": "first"}
# Modes of a causal model that need an answer.
GENERATING = ("answer_mean", "last_answer", "all_mean", "re_encode")


@dataclass(frozen=True)
class Mode:
    """A mode at a layer; `layer` is 0 to L, and L for re_encode, which has none."""

    name: str
    layer: int


def split_name(name: str) -> tuple[str, int | None]:
    """Our name of a mode, and the layer that a released output value brings along.

    Raises:
        InputError: neither causal nor masked models have it.
    """
    by_prefix = {prefix: mode for mode, prefix in CAUSAL.items()} | OLD_PREFIXES
    found = re.fullmatch(r"(\w+?_layer_)(\d+)", name)
    if found and found[1] in by_prefix:
        return by_prefix[found[1]], int(found[2])
    if name not in CAUSAL:
        raise InputError(f"output value {name!r}: there are {_listed(CAUSAL, name)}")
    return name, None


def find_mode(name: str | None, layer: int = -1, *, masked: bool, layers: int) -> Mode:
    """The mode of a name: ours, or a released output value, which brings its layer.

    Args:
        name: for example "first", or "fst_gen_layer_32"; None: first, of masked models answer_mean.
        layer: for our names; -1 is the last.
        masked: of a masked model.
        layers: L of the model.

    Raises:
        InputError: no such mode or layer.
    """
    name = name or ("answer_mean" if masked else "first")
    mode, own = split_name(name)
    layer = layer if own is None else own
    if masked and mode not in MASKED:
        raise InputError(f"output value {name!r}: a masked model has {_listed(MASKED, name)}")
    if not -1 <= layer <= layers:
        raise InputError(f"output value {name!r}: layer {layer}; the model has 0 to {layers} (the last one)")
    return Mode(mode, layers if layer == -1 or mode == "re_encode" else layer)


def _listed(known: Mapping[str, str], name: str) -> str:
    """All names, those of layers with an L, and the one that is nearest to `name`."""
    names = [*known, *(f"{value}L" for value in known.values() if value not in known)]
    near = difflib.get_close_matches(name, names, n=1)
    return ", ".join(names) + (f"; did you mean {near[0]!r}?" if near else "")


def output_values(*, masked: bool, layers: int) -> list[str]:
    """All released output values of a model with so many layers."""
    found: list[str] = []
    for prefix in (MASKED if masked else CAUSAL).values():
        found += [f"{prefix}{i}" for i in range(layers + 1)] if prefix.endswith("_") else [prefix]
    return found


def last_output_values(*, masked: bool, layers: int) -> list[str]:
    """The released output values of the last layer."""
    return [prefix + str(layers) * prefix.endswith("_") for prefix in (MASKED if masked else CAUSAL).values()]
