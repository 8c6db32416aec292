#!/usr/bin/env bash
# bge-en-icl (zero-shot), Table 1, full data: 71.24 on the 56 tasks of MTEB. fp16, last token, 512 tokens.
# Needs: a GPU with 24 GB, days (not timed here); --tasks for some of the tasks. It resumes by task.
# Data: the tasks of MTEB, from the hub, or --data_dir data.
# Then: python -m benchmarks table bge-icl-mteb; also bge-icl-table1
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" bge_icl/eval.py --model_name_or_path BAAI/bge-en-icl \
  --benchmark "MTEB(eng, v1)" --examples none --dtype float16 \
  --output "$root/results/bge-icl-mteb/bge-en-icl-zero-shot" "$@"
