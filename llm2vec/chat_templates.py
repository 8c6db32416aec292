"""The released templates around a text, by model family; chosen by name, stored with the model, never guessed.

The released code compares `config._name_or_path` with a list, so a local or merged copy silently lost its template.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from common.errors import InputError
from common.prompts import Template

PLACES = "{instruction} {text}"
# An instruction and what parts it from the text; both are left out together.
BEFORE_TEXT = re.compile(r"\{instruction\}[^{}]*(?=\{text\})")


@dataclass(frozen=True)
class ChatTemplate:
    """What stands before and behind instruction and text.

    Attributes:
        prefix: before them; special tokens as text. The tokenizer's own BOS comes first.
        suffix: behind them; pooled with the text in the released models.
        eos: behind the suffix where the pooling is "eos_token"; None: the tokenizer's EOS.
    """

    prefix: str
    suffix: str
    eos: str | None = None


CHAT_TEMPLATES = {
    "llama-3": ChatTemplate("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>", eos=""),
    "mistral": ChatTemplate("[INST] ", " [/INST]"),
    "llama-2": ChatTemplate("[INST] ", " [/INST]"),
    "gemma-2": ChatTemplate("<bos><start_of_turn>user\n", "<end_of_turn>"),
    "qwen2": ChatTemplate("<|im_start|>user\n", "<|im_end|>", eos="<|endoftext|>"),
}


def chat_template(name: str) -> ChatTemplate:
    """The template of a family.

    Raises:
        InputError: an unknown name; says the nearest.
    """
    if name in CHAT_TEMPLATES:
        return CHAT_TEMPLATES[name]
    close = difflib.get_close_matches(name, CHAT_TEMPLATES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(CHAT_TEMPLATES)}"
    raise InputError(f"chat template {name!r} is not known; {hint}")


def build_template(inner: str = PLACES, chat: str | None = None, eos: str | None = None) -> Template:
    """The template of texts, with and without an instruction.

    Args:
        inner: the pattern of instruction and text.
        chat: a name in `CHAT_TEMPLATES` to put around it.
        eos: the tokenizer's EOS, to be put behind everything (pooling "eos_token"); None: nothing is. The
            template's own goes before it; `</s>` stands behind a blank, as released.
    """
    around = chat_template(chat) if chat else ChatTemplate("", "")
    end = ""
    if eos is not None:
        end = eos if around.eos is None else around.eos
        end = f" {end}" if end == "</s>" else end
    pattern = around.prefix + inner + around.suffix + end
    plain = BEFORE_TEXT.sub("", pattern).replace("{instruction}", "")
    return Template(pattern, plain if plain != pattern else None)
