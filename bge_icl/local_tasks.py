"""What BGE-ICL calls the local retrieval sets, and their instructions, as published for the task or its nearest kin."""

from __future__ import annotations

from bge_icl.task_instructions import task_instructions

# Set of `benchmarks.retrieval_sets` -> the task's name, as in the names of example files.
TASK_NAMES = {"scifact": "SciFact", "nfcorpus": "NFCorpus", "wikiqa": "WikiQA", "squad_nqg": "SQuAD-NQG"}
# WikiQA and SQuAD have no instruction in MTEB; both ask questions about Wikipedia, and get that of NQ, which does.
_INSTRUCTED_AS = {"WikiQA": "NQ", "SQuAD-NQG": "NQ"}


def local_instruction(name: str) -> str:
    """The instruction of a local set."""
    task = TASK_NAMES[name]
    return task_instructions()[_INSTRUCTED_AS.get(task, task)]
