from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks._fault_server import Mirror, serve
from paddle_tk.data.catalog import entry_of
from paddle_tk.data.fetching.settings import Meter, Silent
from paddle_tk.data.locks import exclusive
from paddle_tk.data.setup import Options, removal_of, remove, set_up
from paddle_tk.data.states import DatasetState, pins_file, read_pins, state_of
from paddle_tk.errors import BadInput, DataError
from tests.data.fetch_files import QUICK, content
from tests.data.own_dataset import archive, describe, file_of

IMAGES = {"data/images/a.jpg": content(300, 1), "data/images/b.jpg": content(300, 2)}
LABELS = {"data/labels/a.txt": b"0 .5 .5 .1 .1", "data/images/readme": b"text"}
FIRST, SECOND, LIST = archive(IMAGES), archive(LABELS), b"a.jpg\nb.jpg\n"
PRESENT = ["data/images/a.jpg", "data/labels", "list.txt"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def mirrors() -> dict[str, Mirror]:
    return {"/first.zip": Mirror(FIRST), "/second.zip": Mirror(SECOND), "/list.txt": Mirror(LIST)}


@pytest.fixture
def base(mirrors: dict[str, Mirror]) -> Iterator[str]:
    with serve(mirrors) as address:
        yield address


def _describe(base: str, *, checksum: bool = True, **values: object) -> None:
    zips = {"unpack": True, "max_unpacked_bytes": 10_000}
    files = [
        file_of("first.zip", FIRST, f"{base}/first.zip", checksum=checksum, **zips),
        file_of("second.zip", SECOND, f"{base}/second.zip", **zips),
        file_of("list.txt", LIST, f"{base}/list.txt"),
    ]
    describe("mine", files, PRESENT, **values)


@contextmanager
def _silent(label: str) -> Iterator[Meter]:
    yield Silent()


def _set_up(root: Path, said: list[str] | None = None, **options: bool) -> DatasetState:
    warn = (said if said is not None else []).append
    return set_up(entry_of("mine"), root, shown=_silent, warn=warn, options=Options(settings=QUICK, **options))


def _state(root: Path) -> tuple[str, str]:
    state = state_of(entry_of("mine"), root)
    return state.state, state.note


def test_set_up_unpacks_into_one_folder_and_keeps_no_archive(base: str, tmp_path: Path) -> None:
    _describe(base)
    assert _state(tmp_path) == ("absent", "")
    state = _set_up(tmp_path)
    assert (state.state, state.note, state.path) == ("verified", "", tmp_path / "mine")
    found = {str(p.relative_to(tmp_path / "mine")) for p in (tmp_path / "mine").rglob("*") if p.is_file()}
    assert found == {*IMAGES, *LABELS, "list.txt", ".paddle_tk.json"}
    assert (tmp_path / "mine/data/images/b.jpg").read_bytes() == IMAGES["data/images/b.jpg"]
    assert state.size_bytes > 600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "mine"]


def test_set_up_asks_the_server_for_nothing_that_is_there(
    base: str, mirrors: dict[str, Mirror], tmp_path: Path
) -> None:
    _describe(base)
    _set_up(tmp_path)
    before = {name: mirror.requests for name, mirror in mirrors.items()}
    assert _set_up(tmp_path).state == "verified"
    assert {name: mirror.requests for name, mirror in mirrors.items()} == before


def test_set_up_goes_on_when_the_second_file_could_not_be_had(
    base: str, mirrors: dict[str, Mirror], tmp_path: Path
) -> None:
    _describe(base)
    mirrors["/second.zip"].status = 404
    with pytest.raises(DataError, match=r"second\.zip could not be downloaded: .*status 404"):
        _set_up(tmp_path)
    assert _state(tmp_path) == ("partial", "no data/labels, list.txt")
    mirrors["/second.zip"].status = 200
    mirrors["/first.zip"].status = 404  # nobody asks for it again
    assert _set_up(tmp_path).state == "verified"


def test_set_up_fetches_again_what_was_lost_since(base: str, mirrors: dict[str, Mirror], tmp_path: Path) -> None:
    _describe(base)
    _set_up(tmp_path)
    (tmp_path / "mine/data/images/a.jpg").unlink()
    assert _state(tmp_path) == ("partial", "no data/images/a.jpg")
    assert _set_up(tmp_path).state == "verified"
    assert (tmp_path / "mine/data/images/a.jpg").read_bytes() == IMAGES["data/images/a.jpg"]


def test_set_up_keeps_archives_when_it_is_told_to(base: str, tmp_path: Path) -> None:
    _describe(base)
    _set_up(tmp_path, keep_archives=True)
    assert (tmp_path / "mine/first.zip").read_bytes() == FIRST
    (tmp_path / "mine/first.zip").write_bytes(b"other")
    assert _state(tmp_path) == ("unverified", "changed since it was checked: first.zip")


def test_set_up_pins_and_says_unverified_when_nobody_published_a_checksum(
    base: str, mirrors: dict[str, Mirror], tmp_path: Path
) -> None:
    _describe(base, checksum=False)
    said: list[str] = []
    assert _set_up(tmp_path, said).state == "unverified"
    assert "first.zip is unverified" in said[0]
    assert str(pins_file("mine")) in said[0]
    pins = read_pins("mine")
    assert set(pins) == {"first.zip"}
    # Another file later on is refused, until it is accepted.
    removal = removal_of(entry_of("mine"), tmp_path, tmp_path / "cache")
    assert removal is not None
    remove(removal, tmp_path)
    assert _state(tmp_path) == ("absent", "")
    mirrors["/first.zip"].content = FIRST[:-1] + b"\x01"
    with pytest.raises(DataError, match="that of the first download was"):
        _set_up(tmp_path)
    mirrors["/first.zip"].content = archive(dict(reversed(IMAGES.items())))
    assert _set_up(tmp_path, repin=True).state == "unverified"


def test_set_up_refuses_an_archive_that_reaches_out_and_leaves_nothing_of_it(
    base: str, mirrors: dict[str, Mirror], tmp_path: Path
) -> None:
    evil = archive({"data/images/a.jpg": b"x", "../../evil.txt": b"x"})
    mirrors["/first.zip"].content = evil
    describe(
        "mine",
        [file_of("first.zip", evil, f"{base}/first.zip", unpack=True, max_unpacked_bytes=10_000)],
        ["data/images/a.jpg"],
    )
    with pytest.raises(DataError, match="could leave the folder"):
        _set_up(tmp_path)
    assert not list(tmp_path.rglob("evil*"))
    assert not (tmp_path / "mine" / "data").exists()
    assert _state(tmp_path)[0] == "partial"


def test_set_up_names_the_files_and_their_place_when_they_must_be_got_by_hand(tmp_path: Path) -> None:
    describe(
        "mine",
        [file_of("first.zip", FIRST, None, unpack=True, max_unpacked_bytes=10_000), file_of("list.txt", LIST, None)],
        ["data/images/a.jpg"],
        manual="log in at https://example.org and download them",
    )
    with pytest.raises(DataError) as caught:
        _set_up(tmp_path)
    message = str(caught.value)
    assert f"{tmp_path / 'mine'} lacks first.zip, list.txt" in message
    assert "log in at https://example.org" in message
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/first.zip").write_bytes(FIRST)
    (tmp_path / "mine/list.txt").write_bytes(LIST + b"more")
    with pytest.raises(DataError, match=r"list\.txt is not the file it should be"):
        _set_up(tmp_path)
    (tmp_path / "mine/list.txt").write_bytes(LIST)
    assert _set_up(tmp_path).state == "verified"
    assert (tmp_path / "mine/first.zip").is_file(), "what somebody got by hand is not thrown away"


def test_set_up_refuses_what_the_disk_cannot_hold_before_it_asks_a_server(
    base: str, mirrors: dict[str, Mirror], tmp_path: Path
) -> None:
    _describe(base, unpacked_bytes=2**60)
    with pytest.raises(BadInput, match="not enough disk space for mine"):
        _set_up(tmp_path)
    assert all(mirror.requests == 0 for mirror in mirrors.values())


def test_set_up_refuses_to_run_twice_at_once(base: str, tmp_path: Path) -> None:
    _describe(base)
    with exclusive(tmp_path / ".mine.lock", "x"), pytest.raises(BadInput, match=r"another process .* is working on"):
        _set_up(tmp_path)


def test_state_is_unverified_when_somebody_else_put_it_there(base: str, tmp_path: Path) -> None:
    _describe(base)
    for name, payload in {**IMAGES, **LABELS, "list.txt": LIST}.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(payload)
    state, note = _state(tmp_path)
    assert state == "unverified"
    assert note.startswith("not put there by setup")


def test_state_is_partial_when_a_file_has_another_size_than_published(base: str, tmp_path: Path) -> None:
    _describe(base)
    for name, payload in {**IMAGES, **LABELS, "list.txt": LIST + b"more"}.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_bytes(payload)
    assert _state(tmp_path) == ("partial", "list.txt has 16 bytes, expected 12")


def test_remove_refuses_to_follow_a_link(base: str, tmp_path: Path) -> None:
    _describe(base)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mine.txt").write_bytes(b"precious")
    (tmp_path / "mine").symlink_to(tmp_path / "real")
    removal = removal_of(entry_of("mine"), tmp_path, tmp_path / "cache")
    assert removal is not None
    with pytest.raises(BadInput, match="is a link"):
        remove(removal, tmp_path)
    assert (tmp_path / "real" / "mine.txt").is_file()
