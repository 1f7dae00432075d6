"""Gets a dataset of the catalog: downloads, checks, unpacks; goes on where an earlier attempt ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddle_tk.data.catalog import Entry, RemoteFile
from paddle_tk.data.fetch import Fetched, fetch
from paddle_tk.data.fetching.part import part_path
from paddle_tk.data.fetching.settings import FetchSettings, Meter
from paddle_tk.data.locks import exclusive
from paddle_tk.data.states import (
    DatasetState,
    is_there,
    missing_paths,
    pin,
    pins_file,
    read_pins,
    read_record,
    size_on_disk,
    state_of,
    write_record,
)
from paddle_tk.data.unpack import Unpacked, unpack
from paddle_tk.errors import BadInput, DataError
from paddle_tk.files import require_free_space

_STAGING = ".tmp-unpacked"
Shown = Callable[[str], AbstractContextManager[Meter]]


@dataclass(frozen=True)
class Options:
    """How a dataset is set up.

    Attributes:
        keep_archives: Keep archives that were unpacked.
        repin: Accept another file than the first download was, where nobody published a checksum.
        settings: Of the downloads; None: the defaults.
    """

    keep_archives: bool = False
    repin: bool = False
    settings: FetchSettings | None = None


def set_up(entry: Entry, root: Path, *, shown: Shown, warn: Callable[[str], None], options: Options) -> DatasetState:
    """Puts a dataset into ``root / entry.name`` and returns its state; what is there already is kept.

    Args:
        entry: Which dataset.
        root: The folder of all datasets.
        shown: Shows the progress of a transfer with this label.
        warn: Told what the user should know.
        options: See there.

    Raises:
        DataError: A download failed, an archive was refused, a file must be downloaded by hand.
        BadInput: No disk space, or another process sets it up.
    """
    if entry.embedded:
        return state_of(entry, root)
    folder = root / entry.name
    with exclusive(root / f".{entry.name}.lock", f"working on {folder}"):
        job = _SetUp(entry, folder, shown, warn, options)
        job.require_space()
        for file in entry.files:
            job.get(file)
        if entry.unpacked_by == "imagenet":
            job.unpack_imagenet()
        missing = missing_paths(entry, folder)
        if missing:
            raise DataError(
                f"{folder} holds no {', '.join(missing)} although all its archives are there",
                f"see its layout: {entry.layout}",
            )
    return state_of(entry, root)


class _SetUp:
    """The steps for one dataset, with what is known of each file."""

    def __init__(self, entry: Entry, folder: Path, shown: Shown, warn: Callable[[str], None], options: Options) -> None:
        self.entry, self.folder, self.shown, self.warn, self.options = entry, folder, shown, warn, options
        self.files: dict[str, Any] = dict(read_record(folder).get("files", {}))
        if missing_paths(entry, folder):
            self._forget_lost()

    def _forget_lost(self) -> None:
        """Forgets the archives of which something is gone; where the set-up was through, that may be any of them."""
        through = all(file.name in self.files for file in self.entry.files)
        for name, noted in list(self.files.items()):
            if through or not all(is_there(self.folder / top) for top in noted["made"]):
                self.files[name] = {**noted, "unpacked": False}
                if not noted["kept"]:
                    del self.files[name]

    def require_space(self) -> None:
        """Refuses to begin what the disk cannot hold; an archive goes once it is unpacked, so not all are there."""
        waiting = [file for file in self.entry.files if not self._done(file)]
        sizes = [file.size_bytes or 0 for file in waiting]
        kept = sum(sizes) if self.options.keep_archives or self.entry.unpacked_by else max(sizes, default=0)
        unpacked = self.entry.unpacked_bytes or 0 if waiting else 0
        begun = [path for file in waiting for path in (self.folder / file.name, part_path(self.folder / file.name))]
        here = sum(path.stat().st_blocks * 512 for path in begun if path.is_file())  # a part file is sparse
        require_free_space(self.folder, max(0, kept + unpacked - here), f"{self.entry.name}, archives included")

    def _done(self, file: RemoteFile) -> bool:
        noted = self.files.get(file.name, {})
        path = self.folder / file.name
        if noted.get("unpacked"):
            return True
        whole = path.is_file() and path.stat().st_size == noted.get("size_bytes")
        return bool(noted) and whole and not file.unpack and self.entry.unpacked_by is None

    def get(self, file: RemoteFile) -> None:
        """Downloads a file, checks it, pins it, unpacks it."""
        if self._done(file):
            return
        target = self.folder / file.name
        if not file.urls and not target.is_file():
            raise self._by_hand(target)
        pinned = None if self.options.repin else read_pins(self.entry.name).get(file.name)
        with self.shown(file.name) as meter:
            got = fetch(file, target, pinned_sha256=pinned, settings=self.options.settings, meter=meter)
        for failure in got.failures:
            self.warn(f"{file.name}: {failure}")
        if file.checksum is None and pinned is None:
            pin(self.entry.name, file.name, got.sha256)
            self.warn(
                f"{file.name} is unverified: nobody published a checksum; its sha256 {got.sha256} is pinned in "
                f"{pins_file(self.entry.name)}"
            )
        self._note(file, got)
        if file.unpack:
            self._unpack(file, target)

    def _by_hand(self, target: Path) -> DataError:
        names = [file.name for file in self.entry.files if not file.urls and not (self.folder / file.name).is_file()]
        return DataError(
            f"{self.entry.name} cannot be downloaded by a program; {target.parent} lacks {', '.join(names)}",
            f"{self.entry.manual}, put them into {target.parent} and run this again",
        )

    def _note(self, file: RemoteFile, got: Fetched) -> None:
        received = got.size_bytes - got.resumed_bytes
        self.files[file.name] = {
            "size_bytes": got.size_bytes,
            "sha256": got.sha256,
            "verified": got.verified,
            "checksum_source": file.checksum.source if file.checksum is not None else None,
            "url": got.url,
            "bytes_per_second": received / got.seconds if got.url is not None and got.seconds > 0 else None,
            "kept": True,
            "unpacked": False,
            "unpacked_bytes": 0,
            "made": [],
        }
        write_record(self.folder, self.entry, self.files)

    def _unpack(self, file: RemoteFile, archive: Path) -> None:
        staging = self.folder / _STAGING
        shutil.rmtree(staging, ignore_errors=True)
        with self.shown(f"unpacking {file.name}") as meter:
            meter.expect(None, 0)
            done = unpack(archive, staging, max_bytes=file.max_unpacked_bytes or 0, advance=meter.advance)
        self._unpacked([file], done, self._move_in(staging))

    def unpack_imagenet(self) -> None:
        """Unpacks ImageNet's three archives together: one says where the images of another go."""
        if all(self.files.get(file.name, {}).get("unpacked") for file in self.entry.files):
            return
        from paddle_tk.data.imagenet import unpack_imagenet

        staging = self.folder / _STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        most = max(file.max_unpacked_bytes or 0 for file in self.entry.files)
        try:
            with self.shown(f"unpacking {self.entry.name}") as meter:
                meter.expect(self.entry.unpacked_bytes, 0)
                done = unpack_imagenet(self.folder, staging, max_bytes=most, advance=meter.advance)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._unpacked(list(self.entry.files), done, self._move_in(staging))

    def _move_in(self, staging: Path) -> list[str]:
        """Moves what was unpacked to its place, whole folders where there are none; returns the names on top."""
        made = sorted(path.name for path in staging.iterdir())
        os.sync()  # the record must not say more than a power cut would leave; one call for 100,000 files
        for source, target in _moves(staging, self.folder):
            os.replace(source, target)
        shutil.rmtree(staging)
        os.sync()
        return made

    def _unpacked(self, files: list[RemoteFile], done: Unpacked, made: list[str]) -> None:
        for number, file in enumerate(files):
            share = done.size_bytes if number == 0 else 0
            kept = self.options.keep_archives or not file.urls  # what was got by hand is not thrown away
            noted = {"unpacked": True, "unpacked_bytes": share, "kept": kept, "made": made}
            self.files[file.name] = {**self.files[file.name], **noted}
        write_record(self.folder, self.entry, self.files)
        for file in files:
            if not self.files[file.name]["kept"]:
                (self.folder / file.name).unlink(missing_ok=True)


def _moves(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    for entry in sorted(os.scandir(source), key=lambda e: e.name):
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            yield from _moves(Path(entry.path), place)
        elif place.is_dir():
            raise DataError(f"{place} is a folder, the archive has a file of that name", "move it away")
        else:
            yield Path(entry.path), place


@dataclass(frozen=True)
class Removal:
    """What ``remove`` would take away.

    Attributes:
        name: The dataset.
        paths: Folders, its own and those made of it in the cache.
        size_bytes: Of all of them.
        ours: Whether ``set_up`` made the folder.
    """

    name: str
    paths: tuple[Path, ...]
    size_bytes: int
    ours: bool


def removal_of(entry: Entry, root: Path, cache: Path) -> Removal | None:
    """Returns what there is to remove of a dataset, None where there is nothing."""
    folder = root / entry.name
    found = [folder] if folder.is_dir() else []
    # Readers that unpack for themselves name their folders so; another dataset's name may begin alike.
    found += sorted(path for path in cache.glob(f"{entry.name}-*") if path.is_dir())
    if not found:
        return None
    return Removal(entry.name, tuple(found), sum(map(size_on_disk, found)), bool(read_record(folder)))


def remove(removal: Removal, root: Path) -> None:
    """Removes a dataset's folders.

    Raises:
        BadInput: Another process works on it, or its folder is a link.
    """
    with exclusive(root / f".{removal.name}.lock", f"working on {root / removal.name}"):
        for path in removal.paths:
            if path.is_symlink():
                raise BadInput(f"{path} is a link", f"remove it yourself; it leads to {path.resolve()}")
            shutil.rmtree(path)
