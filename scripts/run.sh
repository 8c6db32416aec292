#!/usr/bin/env bash
# Run a program of the project from any folder, with the project's own Python; on several GPUs through torchrun.
#   bash scripts/run.sh angle/eval.py --help
#   GPUS=4 bash scripts/run.sh angle/train.py ...      one process per GPU
#   bash scripts/run.sh -m benchmarks list           a module
#   PYTHON=/path/to/python bash scripts/run.sh ...     another Python than that of .venv
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -gt 0 ] || { echo "run.sh: name a program, for example angle/eval.py" >&2; exit 2; }
if [ "$1" = -m ]; then
  program=(-m "${2:?run.sh: -m needs a module}")
  shift 2
else
  program=("$root/$1")
  shift
  [ -f "${program[0]}" ] || { echo "run.sh: no such program: ${program[0]}" >&2; exit 2; }
fi

python=${PYTHON:-$root/.venv/bin/python}
command -v "$python" >/dev/null || { echo "run.sh: no $python; run: bash $root/scripts/setup.sh" >&2; exit 1; }
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

launcher=()
if [ "${GPUS:-1}" -gt 1 ]; then launcher=(-m torch.distributed.run --standalone "--nproc_per_node=$GPUS"); fi
for word in "$@"; do
  case $word in --dry_run | --dry-run | --help | -h) launcher=() ;; esac
done
exec "$python" ${launcher[@]+"${launcher[@]}"} "${program[@]}" "$@"
