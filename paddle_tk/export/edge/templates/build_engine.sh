#!/usr/bin/env bash
# Builds a TensorRT engine from this bundle, on the device it will run on: an engine fits one GPU and one TensorRT only.
# Written for @TITLE@ with TensorRT @TENSORRT@.
#
#   ./build_engine.sh [--precision @PRECISIONS@] [--power-mode NAME] [--workspace MIB]
#
# --power-mode sets a mode of nvpmodel by its name (recommended here: @POWER_MODE@) and pins the clocks; both need sudo,
# and both are off unless asked for. TRTEXEC and NVPMODEL_CONF name other places of trtexec and nvpmodel.conf.
set -euo pipefail
cd "$(dirname "$0")"

fail() {
  echo "error: $1. Fix: $2" >&2
  exit 2
}

precision=@DEFAULT@
power_mode=
workspace=@WORKSPACE@
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || fail "$1 needs a value" "see the head of this script"
  case $1 in
    --precision) precision=$2 ;;
    --power-mode) power_mode=$2 ;;
    --workspace) workspace=$2 ;;
    *) fail "unknown option $1" "see the head of this script" ;;
  esac
  shift 2
done
case $workspace in
  '' | *[!0-9]*) fail "--workspace must be a number of MiB, got '$workspace'" "give for instance @WORKSPACE@" ;;
esac
case $precision in
@CASES@
  *) fail "this bundle has no model for an engine of precision '$precision'" "use one of @PRECISIONS@" ;;
esac

trtexec=${TRTEXEC:-/usr/src/tensorrt/bin/trtexec}
[ -x "$trtexec" ] || fail "no trtexec at $trtexec" "install TensorRT's samples (JetPack has them), or set TRTEXEC"
# What it prints also serves to tell its version: the option for the workspace has changed.
case $("$trtexec" --help 2>&1 || true) in
  *@WORKSPACE_OPTION@*) ;;
  *) fail "$trtexec has no option @WORKSPACE_OPTION@: it is not TensorRT @TENSORRT@" "make the bundle for this device" ;;
esac
python3 runner.py --verify

if [ -n "$power_mode" ]; then
  conf=${NVPMODEL_CONF:-/etc/nvpmodel.conf}
  case $power_mode in *[!A-Za-z0-9_]*) fail "'$power_mode' is no name of a power mode" "see $conf" ;; esac
  # By name, because the numbers differ between JetPack versions.
  id=$(sed -n "s/^< *POWER_MODEL ID=\([0-9]*\) NAME=$power_mode *>.*/\1/p" "$conf" | head -n 1)
  known=$(sed -n 's/^< *POWER_MODEL ID=[0-9]* NAME=\([^ >]*\).*/\1/p' "$conf" | tr '\n' ' ')
  [ -n "$id" ] || fail "$conf knows no power mode $power_mode" "use one of: $known"
  sudo nvpmodel -m "$id"
  sudo jetson_clocks
fi
if command -v nvpmodel >/dev/null; then
  nvpmodel -q || true
fi

mkdir -p engines
engine=engines/$name.engine
rm -f "$engine" "$engine.sha256"
"$trtexec" --onnx="$model" --saveEngine="$engine.part" @WORKSPACE_FLAG@ $flags
mv "$engine.part" "$engine"
sums=$(sha256sum "$model" "$engine" | cut -d ' ' -f 1)
echo "$sums" >"$engine.sha256"
python3 runner.py --selftest --engine tensorrt --precision "$precision"
