# Sourced by demo.sh, test.sh and test_newest.sh: a virtual environment with a pinned set, made once.
# Usage: source scripts/setup_environment.sh EXTRAS [DIRECTORY CONSTRAINTS]   (EXTRAS: comma-separated, or empty)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras="$1" venv="${2:-.venv}" constraints="${3:-constraints.txt}"
python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$python is $("$python" --version 2>&1), but TRL 1.16 needs Python 3.11 or newer. Name one: PYTHON=python3.12 $0" >&2
    exit 2
fi
if [ ! -x "$venv/bin/python" ]; then
    echo "Making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
# The stamp changes with what is to be installed, so that a second run starts at once.
stamp="$venv/.installed-$extras-$(cat pyproject.toml "$constraints" | sha256sum | cut -c1-16)"
if [ ! -e "$stamp" ]; then
    echo "Installing paced_trl${extras:+[$extras]} and the set of $constraints into $venv (some minutes)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" -e ".${extras:+[$extras]}"
    touch "$stamp"
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
