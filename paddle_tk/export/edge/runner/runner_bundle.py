"""The bundle itself: its manifest, its hashes, which model file runs on which engine. Standard library only."""

import hashlib
import json
import os
from typing import Any

MANIFEST = "manifest.json"
SCHEMA_VERSION, KIND = 1, "edge bundle"
_BLOCK = 2**20


class RunnerError(Exception):
    """What a user can mend, told in one line: the problem, and how to fix it."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}. Fix: {fix}")


class Bundle:
    """A verified bundle.

    Args:
        folder: Where runner.py and manifest.json lie.

    Raises:
        RunnerError: There is no manifest, or it cannot be read.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        path = os.path.join(folder, MANIFEST)
        try:
            with open(path, encoding="utf-8") as stream:
                self.manifest = json.load(stream)  # type: dict[str, Any]
        except (OSError, ValueError) as error:
            raise RunnerError(f"{path} cannot be read: {error}", "copy the bundle again") from error
        if not isinstance(self.manifest, dict) or self.manifest.get("kind") != KIND:
            raise RunnerError(f"{path} describes no edge bundle", "copy the bundle again")
        if self.manifest.get("schema_version") != SCHEMA_VERSION:
            raise RunnerError(
                "{} is of version {}, this runner reads {}".format(
                    path, self.manifest.get("schema_version"), SCHEMA_VERSION
                ),
                "use the runner.py of the same bundle",
            )

    def path(self, name: str) -> str:
        """Returns the path of one of the bundle's files."""
        return os.path.join(self.folder, *name.split("/"))

    def verify(self) -> None:
        """Checks every file against the manifest.

        Raises:
            RunnerError: A file is missing or was changed.
        """
        files = self.manifest["files"]
        for name in sorted(files):
            path = self.path(name)
            if os.path.isabs(name) or ".." in name.split("/"):
                raise RunnerError(f"{MANIFEST} names a file outside the bundle: {name}", "copy it again")
            if not os.path.isfile(path):
                raise RunnerError(f"{path} is missing", "copy the bundle again")
            found = sha256_of(path)
            if found != files[name]:
                raise RunnerError(
                    f"{path} is damaged or was changed: sha256 {found[:12]}..., manifest {files[name][:12]}...",
                    "copy the bundle again",
                )

    def choose(self, engine: "str | None", precision: "str | None") -> "dict[str, Any]":
        """Returns the first of the manifest's "runs" that fits.

        Args:
            engine: None: any.
            precision: None: any.

        Raises:
            RunnerError: The bundle holds none.
        """
        runs = self.manifest["runs"]
        for run in runs:
            if engine in (None, run["engine"]) and precision in (None, run["precision"]):
                return dict(run)
        listed = ", ".join("--engine {} --precision {}".format(run["engine"], run["precision"]) for run in runs)
        wanted = " ".join(word for word in (engine, precision) if word)
        raise RunnerError(f"this bundle has nothing for {wanted}", f"use one of: {listed}")

    def engine_file(self, run: "dict[str, Any]") -> str:
        """Returns the engine that build_engine.sh made on this device for a run.

        Raises:
            RunnerError: It is not built, or was built from another model file.
        """
        path, built_from = self.path(run["engine_file"]), self.path(run["engine_file"] + ".sha256")
        told = "./build_engine.sh --precision {}".format(run["precision"])
        if not os.path.isfile(path):
            raise RunnerError(f"{path} is not built yet", f"build it on this device: {told}")
        try:
            with open(built_from) as stream:
                recorded = stream.read().split()[:2]
        except OSError:
            recorded = []
        if recorded != [self.manifest["files"][run["model"]], sha256_of(path)]:
            raise RunnerError("{} was not built from {} or was changed".format(path, run["model"]), "run " + told)
        return path


def sha256_of(path: str) -> str:
    """Returns the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()
