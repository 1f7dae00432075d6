"""Runs the model of this bundle on images: no Paddle, only NumPy, OpenCV and ONNX Runtime, OpenVINO or TensorRT.

  python3 runner.py --selftest
  python3 runner.py --image photo.jpg --output results
  python3 runner.py --folder photos --output results --async 2
  python3 runner.py --benchmark 200 --warmup 20

Every file of the bundle is checked against manifest.json first. Exit codes: 0 done, 1 the self-test failed, 2 bad
input. Written for Python 3.6, which is what JetPack 4.6 has.
"""

import os
import platform
import sys

if platform.machine() == "aarch64":
    # Before NumPy is imported: without it version 1.19.5 stops with "Illegal instruction" on a Jetson Nano (numpy issue
    # 18131).
    os.environ.setdefault("OPENBLAS_CORETYPE", "ARMV8")
sys.dont_write_bytecode = True  # the bundle stays as it was delivered

import argparse  # noqa: E402
import json  # noqa: E402
from typing import Any  # noqa: E402

from runner_bundle import Bundle, RunnerError  # noqa: E402

EXIT_OK, EXIT_NO, EXIT_BAD_INPUT = 0, 1, 2
ENGINES = ("onnxruntime", "openvino", "tensorrt")
PRECISIONS = ("fp32", "fp16", "int8")


class _Parser(argparse.ArgumentParser):
    """Reports what was typed wrongly in one line."""

    def error(self, message: str) -> "Any":
        raise RunnerError(message, "see python3 runner.py --help")


def main(argv: "list[str] | None" = None) -> int:
    """Entry point; returns the exit code."""
    try:
        arguments = _parse(argv)
        bundle = Bundle(os.path.dirname(os.path.abspath(__file__)))
        bundle.verify()
        if arguments.verify:
            print("{} files are as delivered".format(len(bundle.manifest["files"])), flush=True)
            return EXIT_OK
        return _run(bundle, arguments)
    except RunnerError as error:
        sys.stderr.write("error: " + " ".join(str(error).split()) + "\n")
        return EXIT_BAD_INPUT
    except BrokenPipeError:  # "| head" has read enough; the interpreter must not flush into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        sys.stderr.write("stopped by Ctrl-C\n")
        return 130


def _parse(argv: "list[str] | None") -> "argparse.Namespace":
    parser = _Parser(prog="runner.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_mutually_exclusive_group(required=True)
    verbs.add_argument("--image", metavar="X", help="one image")
    verbs.add_argument("--folder", metavar="D", help="all images in a folder, without its subfolders")
    verbs.add_argument("--selftest", action="store_true", help="compare with what the toolkit computed")
    verbs.add_argument("--verify", action="store_true", help="check every file of the bundle, run nothing")
    verbs.add_argument("--benchmark", type=_at_least(1), metavar="N", help="time N runs on the self-test picture")
    parser.add_argument("--output", metavar="D", help="folder for predictions.json and pictures with labels or boxes")
    parser.add_argument("--engine", choices=ENGINES, help="default: the first of the bundle")
    parser.add_argument("--precision", choices=PRECISIONS, help="default: the first of the bundle")
    parser.add_argument("--threads", type=_at_least(1), metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--warmup", type=_at_least(0), default=10, metavar="N", help="runs before timing (default: 10)")
    parser.add_argument(
        "--async", dest="in_flight", type=_at_least(1), default=1, metavar="N",
        help="images worked on at the same time, each with buffers of its own (default: 1)",
    )  # fmt: skip
    parser.add_argument("--top-k", type=_at_least(1), default=5, metavar="K", help="classifier: classes (default: 5)")
    parser.add_argument("--score", type=_share, default=0.25, metavar="S", help="detector: lowest score (0.25)")
    parser.add_argument("--json", metavar="F", help="also write what is printed to this file")
    return parser.parse_args(argv)


def _at_least(least: int) -> "Any":
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"must be an integer of at least {least}, got '{text}'")
        return value

    return parse


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got '{text}'")
    return value


def _run(bundle: "Bundle", arguments: "argparse.Namespace") -> int:
    # Only now: these import NumPy and this folder's other modules, which have just been verified.
    try:
        import runner_images
        import runner_measure
        from runner_engines import open_engine
    except ImportError as error:
        raise RunnerError(f"a package is missing: {error}", "pip install -r requirements.txt") from error
    threads = arguments.threads or len(os.sched_getaffinity(0))
    chosen = bundle.choose(arguments.engine, arguments.precision)
    engine = open_engine(bundle, chosen, threads)
    if arguments.selftest:
        report = runner_measure.self_test(bundle, chosen, engine)
    elif arguments.benchmark:
        report = runner_measure.benchmark(
            bundle, chosen, engine, repeats=arguments.benchmark, warmup=arguments.warmup,
            in_flight=arguments.in_flight, threads=threads,
        )  # fmt: skip
    else:
        report = runner_images.predict(
            bundle, engine, runner_images.find_images(arguments.image, arguments.folder), arguments.output,
            in_flight=arguments.in_flight, top=arguments.top_k, least_score=arguments.score,
        )  # fmt: skip
    text = json.dumps(report, indent=2)
    if arguments.json:
        _write(arguments.json, text)
    print(text, flush=True)
    return EXIT_OK if report.get("passed", True) else EXIT_NO


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w") as stream:
            stream.write(text + "\n")
    except OSError as error:
        raise RunnerError(f"{path} cannot be written: {error.strerror}", "choose another --json") from error


if __name__ == "__main__":
    sys.exit(main())
