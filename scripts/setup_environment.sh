# Sourced by demo.sh and test.sh: a virtual environment `.venv` with the pinned set, made once.
# Usage: source scripts/setup_environment.sh EXTRA[,EXTRA...]   (empty: none)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$python is $("$python" --version 2>&1), but TRL 1.16 needs Python 3.11 or newer. Name one: PYTHON=python3.12 $0" >&2
    exit 2
fi
if [ ! -x .venv/bin/python ]; then
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv .venv
fi
# The stamp changes with what is to be installed, so that a second run starts at once.
stamp=".venv/.installed-$1-$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)"
if [ ! -e "$stamp" ]; then
    echo "Installing paced_trl${1:+[$1]} and the pinned set into .venv (some minutes)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${1:+[$1]}"
    touch "$stamp"
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
