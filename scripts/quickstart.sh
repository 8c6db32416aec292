#!/usr/bin/env bash
# The main job on the embedded default, from a bare machine: every method, zero-shot and after a short training,
# on a small real LLM, on the sentence pairs that ship with the project. No GPU, no hub.
#   bash scripts/quickstart.sh [--budget_tokens N] [--fresh] [--help]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/setup.sh"
cd "$root"
exec .venv/bin/python -m benchmarks quickstart "$@"
