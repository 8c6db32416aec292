"""llm2vec/chat_templates.py: the exact strings that the released code puts around texts."""

from __future__ import annotations

import pytest

from common.errors import InputError
from llm2vec.chat_templates import CHAT_TEMPLATES, build_template

READ = {
    None: "{}",
    "llama-3": "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
    "mistral": "[INST] {} [/INST]",
    "llama-2": "[INST] {} [/INST]",
    "gemma-2": "<bos><start_of_turn>user\n{}<end_of_turn>",
    "qwen2": "<|im_start|>user\n{}<|im_end|>",
}


@pytest.mark.parametrize("chat", READ)
def test_what_the_model_reads(chat):
    template = build_template(chat=chat)
    assert template.render("a text").full == READ[chat].format("a text")
    rendered = template.render("a text", instruction="Find it:")
    assert rendered.full == READ[chat].format("Find it: a text")
    assert rendered.text == "a text"
    assert rendered.prefix.endswith("Find it: ")


def test_every_template_is_tested():
    assert set(READ) == {None, *CHAT_TEMPLATES}


@pytest.mark.parametrize(
    ("chat", "eos", "end"),
    [
        (None, "</s>", " </s>"),
        (None, "<|end_of_text|>", "<|end_of_text|>"),
        (None, "<eos>", "<eos>"),
        ("mistral", "</s>", " [/INST] </s>"),
        ("llama-3", "<|eot_id|>", "<|eot_id|>"),
        ("gemma-2", "<eos>", "<end_of_turn><eos>"),
        ("qwen2", "<|im_end|>", "<|im_end|><|endoftext|>"),
    ],
)
def test_the_end_that_eos_pooling_reads(chat, eos, end):
    for instruction in (None, "so:"):
        assert build_template(chat=chat, eos=eos).render("text", instruction=instruction).suffix == end


@pytest.mark.parametrize(
    ("inner", "plain"),
    [
        ("{instruction}; {text}", "{text}"),
        ("Instruct: {instruction}\nQuery: {text}", "Instruct: {text}"),
        ("{text} ({instruction})", "{text} ()"),
    ],
)
def test_an_instruction_goes_with_what_parts_it_from_the_text(inner, plain):
    assert build_template(inner).plain == plain


def test_a_template_without_instruction_takes_none():
    template = build_template("passage: {text}", "mistral")
    assert (template.pattern, template.plain) == ("[INST] passage: {text} [/INST]", None)
    with pytest.raises(InputError, match="no place for an instruction"):
        template.render("text", instruction="so")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="chat template 'llama3' is not known; did you mean 'llama-3'"):
        build_template(chat="llama3")
