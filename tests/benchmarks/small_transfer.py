"""A folder in the layout of the real transfer data, made of the pairs that ship with the project."""

from __future__ import annotations

import json
from pathlib import Path

from small_sts import shipped_pairs

SIZES = {"MR": 110, "MRPC.train": 120, "MRPC.test": 100, "TREC.train": 130, "TREC.test": 100}
TREC = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")


def write_transfer(folder: Path, sizes: dict[str, int] | None = None) -> Path:
    """MR, MRPC and TREC, labelled by: whether the text is long, the pair is alike, how many words there are."""
    home = folder / "senteval_transfer"
    home.mkdir(parents=True, exist_ok=True)
    rows = shipped_pairs()
    for number, (name, size) in enumerate((sizes or SIZES).items()):
        records = []
        for i in range(size):
            row = rows[(i + 37 * number) % len(rows)]
            words = len(row["text1"].split())
            if name.startswith("MRPC"):
                records.append({"s1": row["text1"], "s2": row["text2"], "label": int(row["score"] >= 3)})
            elif name.startswith("TREC"):
                records.append({"text": row["text1"], "label": TREC[words % 6]})
            else:
                records.append({"text": row["text1"], "label": int(words > 7)})
        text = "".join(json.dumps(record) + "\n" for record in records)
        (home / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder
