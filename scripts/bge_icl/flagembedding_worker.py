"""FlagEmbedding's side of compare_speed.py, run by the Python that has it: a job per line of stdin, a result per line.

A job is JSON: {"examples": [...], "queries": [...], "out": FILE.npy}; the result {"seconds": s, "cpu_seconds": s}.
An empty line ends it. Arguments: model folder, instruction, threads, batch size.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    """Load once, then answer jobs."""
    folder, instruction, threads, batch_size = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # what the library prints must not mix with the answers
    import numpy as np
    import torch
    from FlagEmbedding import FlagICLModel

    torch.set_num_threads(int(threads))
    models: dict[str, Any] = {}
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        if not line.strip():
            break
        job = json.loads(line)
        key = json.dumps(job["examples"])
        if key not in models:  # examples can't be cleared, so one model for each list of them
            models[key] = FlagICLModel(
                folder,
                use_fp16=False,
                devices="cpu",
                batch_size=int(batch_size),
                query_instruction_for_retrieval=instruction,
                examples_for_task=job["examples"] or None,
            )
        clock, cpu = time.perf_counter(), time.process_time()
        vectors = models[key].encode_queries(job["queries"])
        seconds, cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
        np.save(job["out"], vectors)
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
