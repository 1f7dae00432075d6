"""Downloads from a local server that fails in every way it knows, and downloads that are killed again and again.

100 random sequences of faults (seeded): one to three mirrors, of which some are dead, serve another file, another size,
change the file underway or know no ranges; answers that break off, lie about their range, size or length, come short,
come whole, stall, are busy or carry bytes that are wrong. Every download must end with the right file or with an error
that names each mirror. Where no checksum is known, nobody can tell bytes that are wrong but right in number: such
sequences leave those two faults out.

Then one download is killed by SIGKILL 20 times at random moments. Before each start the segments that the journal holds
are noted; the server's account of what it sends afterwards must not touch them.

``--archives DIR`` also fetches and unpacks the archives that lie in a folder, a third of the answers failing.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks._fault_server import CORRUPTING, FAULTS, Mirror, random_faults, serve
from benchmarks._report import Claim, finish, parser
from paddle_tk.data.catalog import Checksum, RemoteFile
from paddle_tk.data.fetch import fetch
from paddle_tk.data.fetching.part import PartFile
from paddle_tk.data.fetching.settings import FetchSettings, Patience
from paddle_tk.data.unpack import unpack
from paddle_tk.errors import DataError
from paddle_tk.files import MIB

SEQUENCES, KILLS = 100, 20
KINDS = ("good", "dead", "other", "size", "changes", "changes back", "no ranges", "chunked", "no validator")
SETTINGS = FetchSettings(
    connections=4,
    segment_bytes=64 * 1024,
    probe_bytes=16 * 1024,
    probe_seconds=0.5,
    connect_seconds=2.0,
    patience=Patience(attempts=5, first_delay=0.005, longest_delay=0.05, stall_seconds=0.25),
)
# Small ones, so that a start between two kills finishes some.
KILLED = FetchSettings(connections=4, segment_bytes=16 * 1024, probe_bytes=4096, patience=SETTINGS.patience)
SECONDS_PER_BLOCK = 0.03
CHILD = """
    import sys
    from pathlib import Path
    from benchmarks.download_faults import KILLED, described
    from paddle_tk.data.fetch import fetch
    fetch(described(Path(sys.argv[1]).read_bytes(), [sys.argv[2]]), Path(sys.argv[3]), settings=KILLED)
"""


def described(payload: bytes, urls: list[str], *, checksum: bool = True, size: bool = True) -> RemoteFile:
    """Describes a file with this content, as the catalog would."""
    published = Checksum(algorithm="sha256", value=hashlib.sha256(payload).hexdigest(), source="made here")
    return RemoteFile(
        name="file.bin",
        urls=urls,
        size_bytes=len(payload) if size else None,
        checksum=published if checksum else None,
        max_unpacked_bytes=2**31,
    )


def made_mirror(draw: random.Random, payload: bytes, seed: int, *, checkable: bool) -> tuple[str, Mirror]:
    """Returns a mirror of a random kind, with random faults."""
    kinds = KINDS if checkable else ("good", "dead", "no ranges", "no validator")
    kind = draw.choice(kinds)
    share = draw.choice((0.0, 0.15, 0.3, 0.5, 0.8))
    mirror = Mirror(payload, faults=random_faults(seed, share, (*FAULTS, *CORRUPTING) if checkable else FAULTS))
    other = np.random.default_rng(seed).bytes(len(payload))
    if kind == "dead":
        mirror.status = draw.choice((403, 404, 410, 503))
    elif kind == "other":
        mirror.content = other
    elif kind == "size":
        mirror.content = payload[: draw.randrange(1, len(payload))]
    elif kind.startswith("changes"):
        mirror.content, mirror.changed = (payload, other) if kind == "changes" else (other, payload)
        mirror.change_at = draw.randrange(2, 40)
    elif kind in ("no ranges", "chunked"):
        mirror.ranges, mirror.states_length = False, kind == "no ranges"
    elif kind == "no validator":
        mirror.etag = None
    return f"{kind} {share:g}", mirror


def one_sequence(seed: int, folder: Path) -> tuple[str, str]:
    """Runs one sequence; returns "whole", "error", "wrong" or "unclear", and what was tried."""
    draw = random.Random(seed)
    payload = np.random.default_rng(seed + 10_000).bytes(draw.randrange(MIB, 4 * MIB))
    checkable = draw.random() < 0.75
    made = [made_mirror(draw, payload, 10 * seed + i, checkable=checkable) for i in range(draw.randrange(1, 4))]
    target = folder / f"{seed}.bin"
    with serve({f"/{i}": mirror for i, (_, mirror) in enumerate(made)}, stall_seconds=0.4) as base:
        urls = [f"{base}/{i}" for i in range(len(made))]
        file = described(payload, urls, checksum=checkable, size=not checkable or draw.random() < 0.5)
        try:
            fetch(file, target, settings=SETTINGS)
            verdict = "whole" if target.read_bytes() == payload else "wrong"
        except DataError as error:
            named = all(f"{url}: " in error.problem for url in urls)
            verdict = "wrong" if target.exists() else "error" if named else "unclear"
    tried = ", ".join(kind for kind, _ in made)
    for path in folder.iterdir():
        path.unlink()
    return verdict, f"{tried}, {'with' if checkable else 'without'} a checksum"


def finished_segments(target: Path) -> set[int]:
    """Returns the segments that the journal and their CRC-32 vouch for."""
    part = PartFile.resume(target)
    if part is None:
        return set()
    missing = set(part.missing())
    count = -(-part.size // part.segment_bytes)
    part.close()
    return set(range(count)) - missing


def kill_and_resume(folder: Path) -> dict[str, list[float]]:
    """Kills one download again and again; returns kills, bytes sent for nothing and bytes sent twice needlessly."""
    payload = np.random.default_rng(0).bytes(4 * MIB)
    (folder / "payload").write_bytes(payload)
    target, draw, mirror = folder / "out" / "file.bin", random.Random(1), Mirror(payload)
    mirror.seconds_per_block = SECONDS_PER_BLOCK
    result: dict[str, list[float]] = {"killed_after_s": [], "kept_segments": [], "refetched_finished_bytes": []}
    with serve({"/a": mirror}) as base:
        arguments = [str(folder / "payload"), f"{base}/a", str(target)]
        command = [sys.executable, "-c", textwrap.dedent(CHILD), *arguments]
        while not target.exists():
            kept, seen = finished_segments(target), len(mirror.sent)
            child = subprocess.Popen(command, cwd=ROOT, env=os.environ.copy())
            while child.poll() is None and len(mirror.sent) == seen:
                time.sleep(0.002)
            first = time.monotonic()
            moment = draw.uniform(0.02, 0.6)
            if len(result["killed_after_s"]) < KILLS:
                time.sleep(moment)
                if child.poll() is None:
                    child.send_signal(signal.SIGKILL)
                    result["killed_after_s"].append(round(time.monotonic() - first, 3))
                    result["kept_segments"].append(len(kept))
            if child.wait() not in (0, -signal.SIGKILL):
                raise RuntimeError(f"the download ended with exit code {child.returncode}")
            again = [stop - at for _, at, stop in mirror.sent[seen:] if at // KILLED.segment_bytes in kept]
            result["refetched_finished_bytes"].append(float(sum(again)))
    if target.read_bytes() != payload:
        raise RuntimeError("the file is another one")
    result["sent_bytes"] = [float(sum(stop - at for _, at, stop in mirror.sent))]
    result["file_bytes"] = [float(len(payload))]
    return result


def real_archive(path: Path, folder: Path) -> tuple[float, float, int]:
    """Fetches and unpacks one archive; returns MB/s of both and how many files came out."""
    payload = path.read_bytes()
    bad = Mirror(payload, faults=random_faults(1, 0.3))
    with serve({"/dead": Mirror(b"", status=404), "/a": bad}, stall_seconds=0.4) as base:
        file = described(payload, [f"{base}/dead", f"{base}/a"])
        got = fetch(file, folder / path.name, settings=FetchSettings(segment_bytes=MIB, patience=SETTINGS.patience))
    began = time.perf_counter()
    done = unpack(folder / path.name, folder / "unpacked" / path.stem, max_bytes=2**31)
    seconds = time.perf_counter() - began
    return got.size_bytes / got.seconds / 1e6, done.size_bytes / seconds / 1e6, done.files


def main() -> int:
    options = parser(__doc__ or "", "download_faults")
    options.add_argument("--archives", type=Path, metavar="DIR", help="real archives to fetch and unpack as well")
    arguments = options.parse_args()
    verdicts: Counter[str] = Counter()
    told: list[str] = []
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        for seed in range(SEQUENCES):
            began = time.perf_counter()
            verdict, tried = one_sequence(seed, Path(name))
            seconds.append(round(time.perf_counter() - began, 3))
            verdicts[verdict] += 1
            told.append(f"{seed}: {verdict} ({tried})")
            if verdict in ("wrong", "unclear"):
                print(told[-1], file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        killed = kill_and_resume(Path(name))
    print(f"{'sequences':<34}{SEQUENCES:>10}")
    for verdict in ("whole", "error", "wrong", "unclear"):
        print(f"  ended {verdict:<26}{verdicts[verdict]:>10}")
    print(f"{'kills that hit':<34}{len(killed['killed_after_s']):>10}")
    sent, whole = killed["sent_bytes"][0], killed["file_bytes"][0]
    in_flight = (sent - whole) / KILLS
    print(
        f"{'bytes sent again for each kill':<34}{in_flight:>10.0f}   (4 segments of {KILLED.segment_bytes} in flight)"
    )
    rates = _archives(arguments.archives)
    claims = [
        Claim("wrong files in 100 random fault sequences", verdicts["wrong"], "files", 0),
        Claim("fault sequences that end without file or clear error", verdicts["unclear"], "sequences", 0),
        Claim("fault sequences that end with the whole file", verdicts["whole"], "sequences", 50, at_most=False),
        Claim("kills in mid-download", len(killed["killed_after_s"]), "kills", KILLS, at_most=False),
        Claim("bytes sent again per kill", in_flight, "bytes", KILLED.connections * KILLED.segment_bytes),
        Claim("bytes of finished segments fetched again", sum(killed["refetched_finished_bytes"]), "bytes", 0),
    ]
    return finish(claims, {"seconds": seconds, **killed, **rates}, arguments.json, {"sequences": told})


def _archives(folder: Path | None) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    if folder is None:
        print("real archives: none (--archives DIR)")
        return rates
    for path in sorted(p for p in folder.iterdir() if p.name.endswith((".tar.gz", ".zip"))):
        with tempfile.TemporaryDirectory() as name:
            down, out, files = real_archive(path, Path(name))
        rates[path.name] = [down, out, float(files)]
        print(f"{path.name:<34}{down:>10.1f} MB/s fetched with faults, {out:.0f} MB/s unpacked, {files} files")
    return rates


if __name__ == "__main__":
    sys.exit(main())
