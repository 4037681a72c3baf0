#!/bin/sh
# Build the sdist and from it the wheel, install the wheel in empty environments elsewhere, once alone and once with
# all that training needs, and use both from an unrelated folder: the configs and the zoo must travel inside.
# Arguments are the overrides of the tiny training.
set -eu
cd "$(dirname "$0")/.."
uv=$PWD/.venv/bin/uv
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
unset PYTHONPATH

"$uv" build --quiet --build-constraints constraints.txt --out-dir "$scratch/dist"
wheel=$(ls "$scratch"/dist/*.whl)
for parts in edge train; do
    "$uv" venv --quiet --python .venv/bin/python "$scratch/$parts"
    "$uv" pip install --quiet --python "$scratch/$parts/bin/python" \
        --constraints constraints.txt --build-constraints constraints.txt \
        ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"} "waferlab[$parts] @ file://$wheel"
done

mkdir "$scratch/elsewhere"
cd "$scratch/elsewhere"
set -x
"$scratch/edge/bin/python" -c "import numpy; numpy.save('maps.npy', numpy.ones((3, 52, 52), 'uint8'))"
"$scratch/edge/bin/waferlab" --help
"$scratch/edge/bin/waferlab" predict model=zoo/mixed input=maps.npy output=found.csv
waferlab=$scratch/train/bin/waferlab
"$waferlab" --help
"$waferlab" train --cfg job
"$waferlab" train "$@"
