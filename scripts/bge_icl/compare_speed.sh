#!/usr/bin/env bash
# Few-shot queries: ours against FlagEmbedding 1.4.2, in an environment of its own (it pins other packages than ours).
#   bash scripts/bge_icl/compare_speed.sh --output results/fewshot-speed.json
#   FLAG_ENV=FOLDER bash scripts/bge_icl/compare_speed.sh     where the environment is, or is to be made (some minutes)
# Flags are those of compare_speed.py (--help). Measure on a machine that does nothing else.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
case " $* " in *" --help "* | *" -h "*) exec bash "$root/scripts/run.sh" scripts/bge_icl/compare_speed.py --help ;; esac
env=${FLAG_ENV:-${TMPDIR:-/tmp}/flagembedding-1.4.2}
ours=${PYTHON:-$root/.venv/bin/python}
if ! "$env/bin/python" -c 'import FlagEmbedding' 2>/dev/null; then
  echo "making $env with FlagEmbedding 1.4.2; some minutes" >&2
  # torch first and in our version, else the newest, with CUDA, is fetched; transformers as here.
  version() { "$ours" -c "from importlib.metadata import version; print(version('$1').split('+')[0])"; }
  "$ours" -m venv "$env"
  "$env/bin/python" -m pip install --quiet "torch==$(version torch)"
  "$env/bin/python" -m pip install --quiet "FlagEmbedding==1.4.2" "transformers==$(version transformers)"
fi
exec bash "$root/scripts/run.sh" scripts/bge_icl/compare_speed.py --flag_python "$env/bin/python" "$@"
