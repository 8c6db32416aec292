"""InBedder (arXiv 2402.09642): the instruction is a question about the text; the embedding is that of the answer.

`from inbedder import CausalLMEncoder, MaskedLMEncoder` works as the released `lm_encoders_hf`; until then nothing heavy
is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.many_instructions import encode_many as encode_many
    from inbedder.encoder import load as load
    from inbedder.face import CausalLMEncoder as CausalLMEncoder
    from inbedder.face import InBedder as InBedder
    from inbedder.face import MaskededLMEncoder as MaskededLMEncoder
    from inbedder.face import MaskedLMEncoder as MaskedLMEncoder
    from inbedder.mode_encoder import ModeEncoder as ModeEncoder
    from inbedder.text_clusters import cluster as cluster

_HOMES = {
    "CausalLMEncoder": "inbedder.face",
    "InBedder": "inbedder.face",
    "MaskedLMEncoder": "inbedder.face",
    "MaskededLMEncoder": "inbedder.face",
    "ModeEncoder": "inbedder.mode_encoder",
    "cluster": "inbedder.text_clusters",
    "encode_many": "common.many_instructions",
    "load": "inbedder.encoder",
}
__all__ = [
    "CausalLMEncoder",
    "InBedder",
    "MaskedLMEncoder",
    "MaskededLMEncoder",
    "ModeEncoder",
    "cluster",
    "encode_many",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'inbedder' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
