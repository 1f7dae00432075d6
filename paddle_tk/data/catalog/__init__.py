"""Every dataset described once: name, licence, addresses, checksums, sizes, classes, layout.

One YAML file each. A checksum is one that somebody published, with where, or null; it is never computed here. Files
``$PADDLE_TK_HOME/catalog/NAME.yaml`` of the same form add datasets and replace those of the same name, for instance to
fetch from a mirror of one's own.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from paddle_tk.config.section import Section
from paddle_tk.data.home import home_folder
from paddle_tk.errors import BadInput
from paddle_tk.registry import closest

Tier = Literal["debug", "production"]
_HERE = Path(__file__).parent
_DIGEST_LENGTH = {"md5": 32, "sha1": 40, "sha256": 64}
PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
Bytes = Annotated[int, Field(ge=1)]


class Checksum(Section):
    """A published checksum.

    Attributes:
        algorithm: "md5" and "sha1" find damage; only "sha256" also withstands forgery.
        value: Hexadecimal digest.
        source: Who published it, where.
    """

    algorithm: Literal["md5", "sha1", "sha256"]
    value: str = Field(pattern=r"^[0-9a-f]+$")
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _length(self) -> Checksum:
        if len(self.value) != _DIGEST_LENGTH[self.algorithm]:
            raise ValueError(f"a {self.algorithm} has {_DIGEST_LENGTH[self.algorithm]} digits")
        return self


class RemoteFile(Section):
    """One file of a dataset.

    Attributes:
        name: Its name on disk.
        urls: Mirrors, the preferred one first; none: it must be downloaded by hand.
        size_bytes: Exact size; None: nobody stated it.
        checksum: None: nobody published one.
        unpack: Whether it is an archive that is unpacked into the dataset's folder.
        max_unpacked_bytes: What unpacks to more is another archive, or a bomb.
    """

    name: PlainName
    urls: list[str] = Field([])
    size_bytes: Bytes | None
    checksum: Checksum | None
    unpack: bool = False
    max_unpacked_bytes: Bytes | None = None

    @model_validator(mode="after")
    def _bounded(self) -> RemoteFile:
        if self.unpack and self.max_unpacked_bytes is None:
            raise ValueError("an archive that is unpacked needs max_unpacked_bytes")
        if wrong := [url for url in self.urls if not url.startswith(("http://", "https://"))]:
            raise ValueError(f"not an http or https address: {wrong[0]}")
        return self


class ImageSize(Section):
    """A typical image, for forecasts: pixels."""

    width: Bytes
    height: Bytes


class Entry(Section):
    """A dataset.

    Attributes:
        name: Also the name of its folder under ``$PADDLE_TK_HOME/datasets``.
        title: In words.
        task: What it is for.
        tier: "debug": minutes on a CPU; "production": hours on a GPU.
        licence: Under which terms, as far as it is known.
        source: Who made it, where it is from.
        classes: Class names in the order of their ids; empty where the folders name them.
        classes_of: Another entry that has the same classes.
        class_count: Where the names are not listed.
        splits: Images in each published split; "all" where none is published.
        image: A typical image.
        layout: What its folder looks like.
        present: Paths in its folder that exist once it is complete.
        files: What is downloaded.
        unpacked_bytes: About what it takes on disk, archives not counted.
        memory_bytes: What it takes in memory where it is held there whole; None: images are read from disk.
        manual: What the user has to do where no program may download it.
        unpacked_by: A special unpacker; None: the files' own ``unpack``.
    """

    name: PlainName
    title: str
    task: Literal["classification", "detection"]
    tier: Tier
    licence: str
    source: str
    classes: list[str] = Field([])
    classes_of: str | None = None
    class_count: Bytes | None = None
    splits: dict[str, Bytes]
    image: ImageSize | None = None
    layout: str
    present: list[str] = Field([])
    files: list[RemoteFile] = Field([])
    unpacked_bytes: Bytes | None = None
    memory_bytes: Bytes | None = None
    manual: str | None = None
    unpacked_by: Literal["imagenet"] | None = None

    @property
    def download_bytes(self) -> int | None:
        """Sum of the files' sizes, None where one of them is unknown."""
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def embedded(self) -> bool:
        """Whether it comes with the installed packages, so that nothing is downloaded."""
        return not self.files

    @property
    def images(self) -> int:
        """Images of all published splits."""
        return sum(self.splits.values())

    @model_validator(mode="after")
    def _whole(self) -> Entry:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class occurs twice")
        if len({file.name for file in self.files}) != len(self.files):
            raise ValueError("a file occurs twice")
        if any(Path(path).is_absolute() or ".." in Path(path).parts for path in self.present):
            raise ValueError("paths of present must lie in the dataset's folder")
        if self.manual is None and any(not file.urls for file in self.files):
            raise ValueError("a file without urls needs manual")
        return self


def read_entry(path: Path) -> Entry:
    """Reads one description.

    Raises:
        BadInput: It cannot be read or is none; the message names the key.
    """
    try:
        entry = Entry.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())}", "correct the file") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInput(f"{path}: {key}: {first['msg']}", "see paddle_tk/data/catalog for the form") from error
    if path.stem != entry.name:
        raise BadInput(f"{path} describes '{entry.name}'", f"name it {entry.name}.yaml")
    return entry


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Entry]:
    return {path.stem: read_entry(path) for path in sorted(_HERE.glob("*.yaml"))}


def catalog() -> dict[str, Entry]:
    """Returns all entries by name: the shipped ones, then the user's own.

    Raises:
        BadInput: A file of the user's own is wrong.
    """
    own = {path.stem: read_entry(path) for path in sorted((home_folder() / "catalog").glob("*.yaml"))}
    return {**_shipped(), **own}


def entry_of(name: str) -> Entry:
    """Returns one entry.

    Raises:
        BadInput: The name is unknown; the message lists the known ones.
    """
    known = catalog()
    if name not in known:
        near = closest(name, sorted(known))
        hint = f"did you mean '{near}'? " if near else ""
        raise BadInput(f"no dataset '{name}' in the catalog", f"{hint}known: {', '.join(known)}")
    return known[name]


def shipped_entry(name: str) -> Entry:
    """Returns a shipped entry, whatever the user's own files say: what the readers of ``data.formats`` go by."""
    return _shipped()[name]


def class_names(name: str) -> tuple[str, ...]:
    """Returns the class names of a shipped entry in the order of their ids; empty where the folders name them."""
    entry = _shipped()[name]
    return tuple(class_names(entry.classes_of) if entry.classes_of is not None else entry.classes)
