"""The encoder that a training starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bge_icl.prompts import PLAIN_TEMPLATE
from bge_icl.recipe import IclConfig

if TYPE_CHECKING:
    from common.encoder import Encoder


def load_start(config: IclConfig) -> Encoder:
    """The encoder to train: base, and maybe an adapter that goes on.

    Raises:
        InputError: no such model.
    """
    from bge_icl.encoder import load
    from common.train_program import backbone_options

    return load(
        config.model_name_or_path,
        template=None if config.use_special_tokens else PLAIN_TEMPLATE,
        max_length=config.max_length,
        normalize=config.normalize,
        **backbone_options(config),
    )
