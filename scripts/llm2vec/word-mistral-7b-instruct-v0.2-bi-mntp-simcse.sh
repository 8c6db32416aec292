#!/usr/bin/env bash
# Mistral-7B, Table 4, bi-mntp-simcse: chunking, NER and POS of CoNLL-2003 by a linear probe on the frozen model,
# trained and tested.
# Needs: a GPU with 24 GB, under an hour (not timed here). Data: conll2003 from the hub, or --data_dir data.
# Then: python -m benchmarks table llm2vec-word-level
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
exec bash "$root/scripts/run.sh" llm2vec/train_word.py \
  --config "$root/llm2vec/configs/word-task/mistral-7b-instruct-v0.2-bi-mntp-simcse.yaml" \
  --output_dir "$root/results/llm2vec-word-level/mistral-7b-instruct-v0.2-bi-mntp-simcse" "$@"
