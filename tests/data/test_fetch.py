from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from benchmarks._fault_server import CORRUPTING, FAULTS, Mirror, random_faults, serve
from paddle_tk.data.fetch import OFFLINE, fetch, look
from paddle_tk.data.fetching.part import PartFile, journal_path, part_path
from paddle_tk.data.fetching.settings import FetchSettings
from paddle_tk.data.locks import exclusive
from paddle_tk.errors import BadInput, DataError
from tests.data.fetch_files import ONE_AT_A_TIME, QUICK, SEGMENT, content, remote

SIZE = 6 * SEGMENT + 123


@pytest.fixture
def payload() -> bytes:
    return content(SIZE)


def _once(*faults: str) -> object:
    return lambda number: faults[number] if number < len(faults) else ""


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fetch_gives_the_whole_file_and_leaves_nothing_else(payload: bytes, tmp_path: Path) -> None:
    mirror = Mirror(payload)
    with serve({"/a": mirror}) as base:
        got = fetch(remote(payload, f"{base}/a"), tmp_path / "file.bin", settings=QUICK)
        again = fetch(remote(payload, f"{base}/a"), tmp_path / "file.bin", settings=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == payload
    assert (got.verified, got.url, got.size_bytes, got.failures) == (True, f"{base}/a", SIZE, ())
    assert (again.url, again.sha256) == (None, got.sha256)
    assert _left(tmp_path) == ["file.bin"]
    assert sum(stop - first for _, first, stop in mirror.sent) == SIZE  # the probe's bytes are part of the file


@pytest.mark.parametrize("fault", FAULTS)
def test_fetch_gives_the_whole_file_when_every_second_answer_fails(fault: str, payload: bytes, tmp_path: Path) -> None:
    mirror = Mirror(payload, faults=lambda number: fault if number % 2 else "")
    with serve({"/a": mirror}, stall_seconds=0.6) as base:
        fetch(remote(payload, f"{base}/a", checksum=False), tmp_path / "file.bin", settings=ONE_AT_A_TIME)
    assert (tmp_path / "file.bin").read_bytes() == payload


@pytest.mark.parametrize("fault", FAULTS)
def test_fetch_ends_with_a_clear_error_when_every_answer_fails(fault: str, payload: bytes, tmp_path: Path) -> None:
    quick = replace(QUICK, patience=replace(QUICK.patience, attempts=1, stall_seconds=0.2))
    with serve({"/a": Mirror(payload, faults=lambda number: fault if number else "")}, stall_seconds=0.4) as base:
        file, failure = remote(payload, f"{base}/a"), None
        try:
            fetch(file, tmp_path / "file.bin", settings=quick)
        except DataError as error:
            failure = error
    if failure is None:
        # Half of a segment is progress, and the next half goes on from there.
        assert fault in ("drop", "short", "lie_length", "stall", "whole")
        assert (tmp_path / "file.bin").read_bytes() == payload
    else:
        assert failure.problem.startswith(f"file.bin could not be downloaded: {file.urls[0]}: ")
        assert not (tmp_path / "file.bin").exists()


@pytest.mark.parametrize("kind", ["404", "wrong size", "wrong content", "corrupt", "refused", "no host"])
def test_fetch_takes_the_next_mirror_when_the_first_is_of_no_use(kind: str, payload: bytes, tmp_path: Path) -> None:
    bad = {
        "404": Mirror(payload, status=404),
        "wrong size": Mirror(payload + b"x"),
        "wrong content": Mirror(content(SIZE, 1)),
        "corrupt": Mirror(payload, faults=lambda number: CORRUPTING[0]),
    }
    addresses = {"refused": "http://127.0.0.1:9/a", "no host": "http://no-such-host.invalid/a"}
    with serve({"/a": bad.get(kind, Mirror(b"")), "/b": Mirror(payload, seconds_per_block=0.002)}) as base:
        first = addresses.get(kind, f"{base}/a")
        quick = replace(QUICK, connect_seconds=0.3, probe_seconds=0.5)
        got = fetch(remote(payload, first, f"{base}/b"), tmp_path / "file.bin", settings=quick)
    assert (tmp_path / "file.bin").read_bytes() == payload
    assert got.url == f"{base}/b"


def test_fetch_takes_the_quicker_mirror_first_and_prefers_the_list_among_equals(payload: bytes, tmp_path: Path) -> None:
    slow, quick = Mirror(payload, seconds_per_block=0.05), Mirror(payload)
    with serve({"/slow": slow, "/quick": quick}) as base:
        file = remote(payload, f"{base}/slow", f"{base}/quick")
        settings = replace(QUICK, probe_bytes=SEGMENT)
        assert fetch(file, tmp_path / "one", settings=settings).url == f"{base}/quick"


def test_fetch_never_takes_a_file_with_another_checksum(payload: bytes, tmp_path: Path) -> None:
    wrong = content(SIZE, 1)
    with serve({"/a": Mirror(wrong)}) as base, pytest.raises(DataError, match=r"its sha256 is .* published is"):
        fetch(remote(payload, f"{base}/a"), tmp_path / "file.bin", settings=QUICK)
    assert _left(tmp_path) == []


def test_fetch_refuses_another_file_than_was_pinned_when_nobody_published_a_checksum(
    payload: bytes, tmp_path: Path
) -> None:
    with serve({"/a": Mirror(payload), "/b": Mirror(content(SIZE, 1))}) as base:
        file = remote(payload, f"{base}/a", checksum=False)
        first = fetch(file, tmp_path / "one", settings=QUICK)
        assert not first.verified
        other = remote(payload, f"{base}/b", checksum=False)
        with pytest.raises(DataError, match="that of the first download was"):
            fetch(other, tmp_path / "two", pinned_sha256=first.sha256, settings=QUICK)
        fetch(file, tmp_path / "two", pinned_sha256=first.sha256, settings=QUICK)


@pytest.mark.parametrize("etag", ['"1"', None])
def test_fetch_begins_anew_when_the_file_changes_underway(etag: str | None, payload: bytes, tmp_path: Path) -> None:
    old = content(SIZE - 5000, 1)
    mirror = Mirror(old, etag=etag, change_at=5, changed=payload)
    with serve({"/a": mirror}) as base:
        # Where nothing but the checksum can tell, the size does; where nobody knows the size, the ETag does.
        file = remote(payload, f"{base}/a", checksum=etag is None, size=False)
        fetch(file, tmp_path / "file.bin", settings=ONE_AT_A_TIME)
    assert (tmp_path / "file.bin").read_bytes() == payload


def test_fetch_streams_the_whole_when_parts_of_two_files_could_not_be_told_apart(
    payload: bytes, tmp_path: Path
) -> None:
    mirror = Mirror(payload, etag=None, faults=_once("", "drop"))  # type: ignore[arg-type]
    with serve({"/a": mirror}) as base:
        fetch(remote(payload, f"{base}/a", checksum=False), tmp_path / "file.bin", settings=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == payload
    assert mirror.requests == 3  # the first look, one that broke, one that did not


@pytest.mark.parametrize("states_length", [True, False])
def test_fetch_takes_a_file_from_a_server_without_ranges(states_length: bool, payload: bytes, tmp_path: Path) -> None:
    mirror = Mirror(payload, ranges=False, states_length=states_length, faults=_once("", "drop"))  # type: ignore[arg-type]
    with serve({"/a": mirror}) as base:
        fetch(remote(payload, f"{base}/a", size=False), tmp_path / "file.bin", settings=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == payload


def test_fetch_refuses_a_body_whose_end_nobody_could_tell(payload: bytes, tmp_path: Path) -> None:
    mirror = Mirror(payload, ranges=False, states_length=False)
    with serve({"/a": mirror}) as base, pytest.raises(DataError, match="a cut could not be told"):
        fetch(remote(payload, f"{base}/a", checksum=False, size=False), tmp_path / "file.bin", settings=QUICK)


def test_fetch_goes_on_with_another_mirror_when_the_first_dies_underway(payload: bytes, tmp_path: Path) -> None:
    first, second = Mirror(payload), Mirror(payload, seconds_per_block=0.05)
    first.faults = lambda number: "error" if number > 4 else ""
    with serve({"/a": first, "/b": second}) as base:
        file, settings = remote(payload, f"{base}/a", f"{base}/b"), replace(ONE_AT_A_TIME, probe_bytes=SEGMENT)
        got = fetch(file, tmp_path / "file.bin", settings=settings)
    assert (tmp_path / "file.bin").read_bytes() == payload
    assert "500" in got.failures[0]
    assert sum(stop - start for _, start, stop in second.sent) < SIZE  # with the first look


def test_fetch_resumes_with_the_missing_segments_only(payload: bytes, tmp_path: Path) -> None:
    target, mirror = tmp_path / "file.bin", Mirror(payload)
    mirror.faults = lambda number: "error" if number > 4 else ""
    with serve({"/a": mirror}) as base:
        file = remote(payload, f"{base}/a")
        with pytest.raises(DataError, match="is kept"):
            fetch(file, target, settings=ONE_AT_A_TIME)
        kept = {"file.bin.part", "file.bin.part.journal"}
        assert set(_left(tmp_path)) == kept
        done = sum(stop - start for _, start, stop in mirror.sent) // SEGMENT * SEGMENT
        # A line that was cut off, bytes that rotted: neither is believed.
        with journal_path(target).open("a") as journal:
            journal.write('{"segment": 5, "crc')
        with part_path(target).open("r+b") as part:
            part.write(b"rotten")
        mirror.faults, mirror.sent = lambda number: "", []
        got = fetch(file, target, settings=ONE_AT_A_TIME)
    assert target.read_bytes() == payload
    assert got.resumed_bytes == done - SEGMENT
    assert sum(stop - start for _, start, stop in mirror.sent) == SIZE - got.resumed_bytes


def test_fetch_refuses_to_run_twice_at_once(payload: bytes, tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / ".file.bin.lock", "downloading"),
        pytest.raises(BadInput, match=f"another process .pid {os.getpid()}. is downloading"),
    ):
        fetch(remote(payload, "http://127.0.0.1:9/a"), tmp_path / "file.bin", settings=QUICK)


def test_fetch_looks_for_disk_space_before_it_receives(tmp_path: Path) -> None:
    # A server that claims a size no disk has.
    mirror = Mirror(b"x" * 100, faults=lambda number: "")
    with serve({"/a": mirror}) as base:
        file = remote(b"x" * 100, f"{base}/a", checksum=False).model_copy(update={"size_bytes": 2**60})
        with pytest.raises(DataError, match="it has 100 bytes there, expected 1152921504606846976"):
            fetch(file, tmp_path / "file.bin", settings=QUICK)
    assert _left(tmp_path) == []


def test_fetch_names_a_file_that_is_another_and_leaves_it(payload: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"is not the file it should be: it has 4 bytes"):
        fetch(remote(payload, "http://127.0.0.1:9/a"), tmp_path / "file.bin", settings=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == b"mine"


def test_fetch_goes_through_the_proxy_of_the_environment(
    payload: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy is asked for the whole address; this server finds it among its paths.
    address = "http://data.example/a"
    with serve({address: Mirror(payload)}) as base:
        monkeypatch.setenv("HTTP_PROXY", base)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        fetch(remote(payload, address), tmp_path / "file.bin", settings=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == payload


def test_fetch_never_gives_a_wrong_file_in_random_sequences_of_faults(tmp_path: Path) -> None:
    payload, ended = content(5 * SEGMENT + 7), {"whole": 0, "error": 0}
    settings = replace(QUICK, patience=replace(QUICK.patience, stall_seconds=0.15), probe_seconds=0.3)
    for seed in range(12):
        mirrors = {
            "/a": Mirror(payload, faults=random_faults(seed, 0.5, (*FAULTS, *CORRUPTING))),
            "/b": Mirror(content(len(payload), 9) if seed % 3 else payload, faults=random_faults(seed + 50, 0.7)),
        }
        target = tmp_path / f"{seed}.bin"
        with serve(mirrors, stall_seconds=0.3) as base:
            try:
                fetch(remote(payload, f"{base}/a", f"{base}/b"), target, settings=settings)
                ended["whole"] += 1
                assert target.read_bytes() == payload
            except DataError:
                ended["error"] += 1
                assert not target.exists()
    assert ended["whole"] >= 6


def test_look_gives_the_first_mirror_that_answers(payload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve({"/a": Mirror(payload, faults=lambda number: "stall"), "/b": Mirror(payload)}, stall_seconds=2) as base:
        seen = look(remote(payload, f"{base}/none", f"{base}/b"), seconds=1.0, wanted=4096)
        assert seen is not None
        assert (seen.origin.url, seen.origin.size, seen.head) == (f"{base}/b", SIZE, payload[:4096])
        assert look(remote(payload, f"{base}/a"), seconds=0.1, wanted=3 * SEGMENT) is None
        monkeypatch.setenv(OFFLINE, "1")
        assert look(remote(payload, f"{base}/b")) is None


_CHILD = """
    import sys
    from pathlib import Path
    from paddle_tk.data.fetch import fetch
    from tests.data.fetch_files import QUICK, remote
    payload = Path(sys.argv[1]).read_bytes()
    fetch(remote(payload, sys.argv[2]), Path(sys.argv[3]), settings=QUICK)
"""


def test_fetch_fetches_nothing_twice_but_what_was_in_flight_when_it_is_killed(tmp_path: Path) -> None:
    payload, target = content(60 * SEGMENT + 77), tmp_path / "out" / "file.bin"
    (tmp_path / "payload").write_bytes(payload)
    mirror, kills = Mirror(payload, seconds_per_block=0.01), 0
    with serve({"/a": mirror}) as base:
        arguments = [str(tmp_path / "payload"), f"{base}/a", str(target)]
        command = [sys.executable, "-c", textwrap.dedent(_CHILD), *arguments]
        while not target.exists():
            finished = _finished(target)
            began, seen = time.monotonic(), len(mirror.sent)
            child = subprocess.Popen(command, cwd=Path(__file__).parents[2])
            while kills < 3 and child.poll() is None and len(mirror.sent) < seen + 40:
                time.sleep(0.002)
            if kills < 3 and child.poll() is None:
                child.send_signal(signal.SIGKILL)
                kills += 1
            assert child.wait(60) in (0, -signal.SIGKILL)
            again = [index for at, first, _ in mirror.sent if at > began and (index := first // SEGMENT) in finished]
            assert not again
    assert kills == 3
    assert target.read_bytes() == payload
    in_flight = QUICK.connections * SEGMENT
    assert sum(stop - first for _, first, stop in mirror.sent) <= len(payload) + kills * in_flight


def test_fetch_is_left_at_once_when_it_is_interrupted_while_a_server_stalls(tmp_path: Path) -> None:
    payload, target = content(30 * SEGMENT), tmp_path / "out" / "file.bin"
    (tmp_path / "payload").write_bytes(payload)
    mirror = Mirror(payload, faults=lambda number: "stall" if number > 3 else "")
    child = textwrap.dedent(_CHILD).replace("settings=QUICK", "settings=FetchSettings(segment_bytes=16384)")
    with serve({"/a": mirror}, stall_seconds=60) as base:
        arguments = [str(tmp_path / "payload"), f"{base}/a", str(target)]
        command = [sys.executable, "-c", "from paddle_tk.data.fetch import FetchSettings\n" + child, *arguments]
        running = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)
        while mirror.requests < 8:
            time.sleep(0.01)
        time.sleep(0.2)  # until all four wait for bytes
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=20)[1]  # a read is given 30 s
    assert "KeyboardInterrupt" in said
    assert _finished(target)


def _finished(target: Path) -> set[int]:
    part = PartFile.resume(target)
    if part is None:
        return set()
    try:
        return set(range(-(-part.size // SEGMENT))) - set(part.missing())
    finally:
        part.close()


def test_settings_default_to_what_ordinary_servers_bear() -> None:
    assert FetchSettings().connections <= 6
    assert httpx.Timeout(FetchSettings().connect_seconds).connect == 10.0
