from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from paddle_tk.data.unpack import unpack, walk
from paddle_tk.errors import DataError
from paddle_tk.files import MIB

ROOM = 64 * MIB
Bad = tuple[str, dict[str, object], bytes]
NAMES = ("../out.txt", "a/../../out.txt", "/tmp/out-of-it.txt", "..", "a\\..\\..\\out.txt", "C:out.txt")


def tar(path: Path, *members: tuple[str, bytes, dict[str, object]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, payload, values in members:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            for key, value in values.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(payload))
    return path


def zipped(path: Path, *members: tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, payload, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, payload, zipfile.ZIP_DEFLATED)
    return path


def _refused(archive: Path, folder: Path, reason: str, *, max_bytes: int = ROOM) -> None:
    """Unpacks two folders deep and asserts that nothing at all is left, inside or out."""
    with pytest.raises(DataError, match=reason):
        unpack(archive, folder / "inner" / "target", max_bytes=max_bytes)
    assert [str(p.relative_to(folder)) for p in folder.rglob("*")] in ([], ["inner"])
    assert not Path("/tmp/out-of-it.txt").exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_unpack_writes_files_and_folders_when_a_tar_is_sound(mode: str, tmp_path: Path) -> None:
    archive = tar(
        tmp_path / "a.tar",
        ("data", b"", {"type": tarfile.DIRTYPE}),
        ("./data/one.txt", b"one", {"mode": 0o6777, "uid": 0}),
        ("data/deep/two.txt", b"second", {}),
        mode=mode,
    )
    done = unpack(archive, tmp_path / "out", max_bytes=ROOM)
    assert (done.files, done.size_bytes) == (2, 9)
    assert (tmp_path / "out/data/deep/two.txt").read_bytes() == b"second"
    assert stat.S_IMODE((tmp_path / "out/data/one.txt").stat().st_mode) & 0o7111 == 0


def test_unpack_takes_what_place_says_where_it_says(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("data/", b"", 0), ("data/one.txt", b"one", 0), ("readme", b"text", 0))
    done = unpack(
        archive,
        tmp_path / "out",
        max_bytes=ROOM,
        place=lambda path: PurePosixPath("kept") / path.name if path.parts[0] == "data" else None,
    )
    assert done.files == 1
    assert [p.name for p in (tmp_path / "out/kept").iterdir()] == ["one.txt"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_unpack_refuses_a_name_that_leaves_the_folder(kind: str, name: str, folder: Path, tmp_path: Path) -> None:
    if kind == "tar":
        archive = tar(tmp_path / "a", ("good.txt", b"good", {}), (name, b"bad", {}))
    else:
        archive = zipped(tmp_path / "a", ("good.txt", b"good", 0), (name, b"bad", 0))
    _refused(archive, folder, "could leave the folder")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "../../elsewhere"}, "a link to '../../elsewhere'"),
        ({"type": tarfile.SYMTYPE, "linkname": "/etc"}, "a link to '/etc'"),
        ({"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, "a link to '/etc/passwd'"),
        ({"type": tarfile.FIFOTYPE}, "a pipe or a device"),
        ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "a pipe or a device"),
    ],
)
def test_unpack_refuses_what_is_no_ordinary_file_when_a_tar_holds_it(
    values: dict[str, object], reason: str, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    # What follows would be written through the link.
    archive = tar(tmp_path / "a", ("good.txt", b"good", {}), ("door", b"", values), ("door/file.txt", b"bad", {}))
    _refused(archive, folder, reason)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644])
def test_unpack_refuses_what_is_no_ordinary_file_when_a_zip_holds_it(mode: int, folder: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a", ("door", b"../../elsewhere", mode), ("door/file.txt", b"bad", 0))
    _refused(archive, folder, "is no ordinary file")


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b", "./a/b")])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_unpack_refuses_a_member_in_the_place_of_another(
    kind: str, first: str, second: str, folder: Path, tmp_path: Path
) -> None:
    if kind == "tar":
        archive = tar(tmp_path / "a", (first, b"one", {}), (second, b"two", {}))
    else:
        archive = zipped(tmp_path / "a", (first, b"one", 0), ("./" + second, b"two", 0))
    _refused(archive, folder, "two members claim the place")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_unpack_refuses_a_tar_that_is_a_bomb(mode: str, folder: Path, tmp_path: Path) -> None:
    archive = tar(tmp_path / "a", ("zeros", bytes(32 * MIB), {}), mode=mode)
    assert archive.stat().st_size * 900 < 32 * MIB
    _refused(archive, folder, "more than 100 times its size")


def test_unpack_refuses_a_zip_that_is_a_bomb(folder: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a", ("zeros", bytes(32 * MIB), 0))
    assert archive.stat().st_size * 900 < 32 * MIB
    _refused(archive, folder, "more than 100 times its size")


def test_unpack_refuses_a_tar_whose_header_is_the_bomb(folder: Path, tmp_path: Path) -> None:
    # An extended header is read into memory before any member is seen.
    archive = tar(tmp_path / "a", ("name", b"", {"pax_headers": {"comment": "0" * 32 * MIB}}), mode="w:gz")
    _refused(archive, folder, "more than 100 times its size")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_unpack_refuses_more_than_was_agreed_on_whatever_its_ratio(kind: str, folder: Path, tmp_path: Path) -> None:
    noise = [(f"{i}", bytes((i * k * k) % 251 for k in range(40_000))) for i in range(1, 40)]
    if kind == "tar":
        archive = tar(tmp_path / "a", *((name, payload, {}) for name, payload in noise), mode="w")
    else:
        archive = zipped(tmp_path / "a", *((name, payload, 0) for name, payload in noise))
    _refused(archive, folder, "unpacks to more than 1 MiB", max_bytes=MIB)
    assert unpack(archive, folder / "all", max_bytes=2 * MIB).files == len(noise)


def test_unpack_refuses_a_zip_that_understates_a_size(folder: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a", ("zeros", bytes(32 * MIB), 0))
    lie = archive.read_bytes().replace((32 * MIB).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    archive.write_bytes(lie)
    with pytest.raises(DataError, match="damaged"):  # no more than the 1,000 bytes come out, and their CRC is wrong
        unpack(archive, folder / "target", max_bytes=ROOM)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"no archive", lambda b: b""])
@pytest.mark.parametrize("kind", ["tar", "zip", "w:bz2", "w:xz", "w"])
def test_unpack_names_an_archive_that_is_damaged(
    kind: str, damage: Callable[[bytes], bytes], folder: Path, tmp_path: Path
) -> None:
    noise = bytes((k * k * 7) % 251 for k in range(40_000))
    if kind == "zip":
        archive = zipped(tmp_path / "a", ("one", noise, 0))
    else:
        archive = tar(tmp_path / "a", ("one", noise, {}), mode="w:gz" if kind == "tar" else kind)
    archive.write_bytes(damage(archive.read_bytes()))
    _refused(archive, folder, str(archive))


@pytest.mark.parametrize("place", ["the first", "the last"])
def test_unpack_names_an_archive_when_only_its_checksum_knows_of_the_damage(
    place: str, folder: Path, tmp_path: Path
) -> None:
    # Stored, not compressed: a byte that changed comes out as another one, and no decompressor stumbles.
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=0) as archive:
        for name in ("the first", "the last"):
            info = tarfile.TarInfo(name)
            info.size = 30_000
            archive.addfile(info, io.BytesIO(name.encode() * (30_000 // len(name)) + b"." * (30_000 % len(name))))
    content = bytearray((tmp_path / "a.tar.gz").read_bytes())
    content[content.rindex(place.encode() * 3)] ^= 0x20
    (tmp_path / "a.tar.gz").write_bytes(content)
    _refused(tmp_path / "a.tar.gz", folder, "damaged|cannot be unpacked")


def test_unpack_replaces_nothing_that_is_there(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("one.txt", b"one", 0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one.txt").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not empty"):
        unpack(archive, tmp_path / "mine", max_bytes=ROOM)
    assert (tmp_path / "mine" / "one.txt").read_bytes() == b"mine"


def test_walk_reads_without_writing(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.gz", ("d/one", b"one", {}), ("d/two", b"two", {}))
    found = {str(path): content.read() for path, content in walk(archive, max_bytes=100)}
    assert found == {"d/one": b"one", "d/two": b"two"}
