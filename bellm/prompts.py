"""The prompts of BeLLM, letter by letter: no quotation mark before {text}, one at the end."""

from __future__ import annotations

PROMPT = 'The representative word for sentence {text} is:"'
# Of the degradation experiment (how STS falls when layers are dropped).
DEGRADATION = 'Summarize sentence "{text}" in one word:"'
