#!/bin/sh
# Build the sdist and from it the wheel, install the wheel alone in an empty environment elsewhere,
# and use it from an unrelated folder: the configs must travel inside.
# Arguments are the overrides of the tiny training.
set -eu
cd "$(dirname "$0")/.."
uv=$PWD/.venv/bin/uv
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
unset PYTHONPATH

"$uv" build --quiet --build-constraints constraints.txt --out-dir "$scratch/dist"
"$uv" venv --quiet --python .venv/bin/python "$scratch/venv"
"$uv" pip install --quiet --python "$scratch/venv/bin/python" \
    --constraints constraints.txt --build-constraints constraints.txt \
    ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"} "$scratch"/dist/*.whl

mkdir "$scratch/elsewhere"
cd "$scratch/elsewhere"
waferlab=$scratch/venv/bin/waferlab
set -x
"$waferlab" --help
"$waferlab" train --cfg job
"$waferlab" train "$@"
