"""The prompts of AnglE, under the letters that they have in the released package."""

from __future__ import annotations


class Prompts:
    """The prompts of the released package, under their names there."""

    A = 'Summarize sentence "{text}" in one word:"'
    B = 'You can only output one word. Summarize "{text}":"'
    C = "Represent this sentence for searching relevant passages: {text}"

    @classmethod
    def list_prompts(cls) -> dict[str, str]:
        """Name -> prompt."""
        return {name: value for name, value in vars(cls).items() if len(name) == 1}


def prompt_text(prompt: str) -> str:
    """A prompt given by its letter, or as it is."""
    return Prompts.list_prompts().get(prompt, prompt)
