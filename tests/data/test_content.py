from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from paddle_tk.data import content
from paddle_tk.data.content import content_sha256, known_sha256, remember_sha256, stamp_of


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PADDLE_TK_HOME", str(folder))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.json"
    path.write_bytes(b"one")
    return path


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the test the two seconds after which a file counts as settled."""
    monkeypatch.setattr(content, "_SETTLED_NS", 0)


def _digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


@pytest.mark.usefixtures("settled")
def test_digest_is_remembered_when_the_file_stays(file: Path) -> None:
    assert known_sha256(file) is None
    assert content_sha256(file) == known_sha256(file) == _digest(b"one")


@pytest.mark.usefixtures("settled")
def test_digest_is_computed_again_when_size_and_time_are_those_of_before(file: Path) -> None:
    content_sha256(file)
    before = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert known_sha256(file) is None
    assert content_sha256(file) == _digest(b"two")


@pytest.mark.usefixtures("settled")
def test_digest_is_computed_again_when_another_file_takes_the_name(file: Path) -> None:
    content_sha256(file)
    before = file.stat()
    other = file.with_name("other")
    other.write_bytes(b"two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, file)
    assert content_sha256(file) == _digest(b"two")


def test_digest_is_not_remembered_when_the_file_was_just_written(file: Path) -> None:
    assert content_sha256(file) == _digest(b"one")
    assert known_sha256(file) is None


@pytest.mark.usefixtures("settled")
def test_digest_is_not_remembered_when_the_file_changed_while_it_was_read(file: Path) -> None:
    before = stamp_of(file)
    file.write_bytes(b"longer")
    remember_sha256(file, before, _digest(b"one"))
    assert known_sha256(file) is None


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"stamp": 3}', b"\xff"])
def test_digest_is_computed_again_when_the_record_is_damaged(file: Path, home: Path, payload: bytes) -> None:
    content_sha256(file)
    (record,) = (home / "cache" / "index").iterdir()
    record.write_bytes(payload)
    assert known_sha256(file) is None
    assert content_sha256(file) == known_sha256(file) == _digest(b"one")


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    assert known_sha256(tmp_path / "gone") is None
    with pytest.raises(FileNotFoundError):
        content_sha256(tmp_path / "gone")
