#!/bin/sh
# tools/setup_dataset.sh [debug|production|NAME ...] [--yes]: the same as python tools/dataset.py setup ...
# The interpreter is $PYTHON, else that of .venv, else python3.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x "$here/../.venv/bin/python" ] && PYTHON="$here/../.venv/bin/python"
fi
exec "$PYTHON" "$here/dataset.py" setup "$@"
