"""Retrieval sets of a few made-up rows, in the files and columns of the real ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

TOPICS = ["rain", "bread", "iron", "music", "sleep", "paper", "glass", "salt", "wool", "light", "clay", "steam"]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def make_sets(root: Path) -> Path:
    """A --data_dir: topics 0 to 5 are of the test splits, 6 to 11 of the training splits."""
    docs = [{"id": f"d{i}", "title": f"On {t}", "text": f"All about {t} and {t}."} for i, t in enumerate(TOPICS)]
    write_rows(root / "scifact" / "corpus.jsonl.gz", docs)
    bare = [{"id": doc["id"], "text": doc["text"]} for doc in docs]
    write_rows(root / "nfcorpus" / "corpus.jsonl.gz", bare)
    halves = {"test": list(enumerate(TOPICS))[:6], "train": list(enumerate(TOPICS))[6:]}
    for split, half in halves.items():
        for name, called in (("scifact", split), ("nfcorpus", "dev" if split == "train" else split)):
            write_rows(
                root / name / f"queries.{called}.jsonl.gz", [{"id": i, "text": f"claims on {t}"} for i, t in half]
            )
            judged = [{"qid": str(i), "did": f"d{i}", "rel": 2} for i, _ in half]
            judged.append({"qid": str(half[0][0]), "did": f"d{half[1][0]}", "rel": 0 if name == "nfcorpus" else 1})
            write_rows(root / name / f"qrels.{called}.jsonl.gz", judged)
        asked = [
            {"question": f"what is {t} ?", "sentence": f"{u} is a thing .", "label": int(t == u)}
            for _, t in half
            for _, u in half[:4]
        ]
        write_rows(root / "wikiqa" / f"{split}.jsonl.gz", asked)
        found = [{"sentence": f"{t} was found in {1800 + i} .", "question": f"when was {t} found ?"} for i, t in half]
        write_rows(root / "squad_nqg" / f"{'dev' if split == 'train' else split}.jsonl.gz", found)
    return root
