"""PromptEOL (Jiang et al. 2023, arXiv 2307.16645): the state from which an LLM would say a text in one word."""

from common.registry import Method

METHOD = Method(load="prompteol.encoder:load", fit="prompteol.fit:fit")
