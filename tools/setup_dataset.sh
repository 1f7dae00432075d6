#!/bin/sh
# tools/setup_dataset.sh [debug|production|NAME ...] [--yes]: the same as python tools/dataset.py setup ...
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=python
[ -x "$here/../.venv/bin/python" ] && python="$here/../.venv/bin/python"
exec "$python" "$here/dataset.py" setup "$@"
