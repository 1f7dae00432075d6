"""Runs the VisualDL server as a child process and keeps it true to what is on disk."""

from __future__ import annotations

import http.client
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import paddle_tk
from paddle_tk.errors import BadInput, CheckFailed
from paddle_tk.training.loggers.visualdl_records import record_files

DEFAULT_PORT = 8040
_PORTS_TRIED = 50
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - only when the user asks for it
_CACHE_SECONDS = 2  # how old an answer to the page may be


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach a server on ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def choose_port(host: str, requested: int | None) -> int:
    """Returns the port to serve on.

    Args:
        host: The address to listen on.
        requested: A port, 0 for any free one, or None for the default (8040) or the next free one after it.

    Raises:
        BadInput: The requested port is taken or none of the default ones is free; ``host`` is not of this
        machine.
    """
    if requested is not None and not 0 <= requested <= 65535:
        raise BadInput(f"port {requested} is out of range", "give a port from 1 to 65535, or 0 for any free one")
    if requested is not None:
        found = _listen(host, requested)
        if found is None:
            raise BadInput(
                f"port {requested} on {host} is in use or not allowed",
                "give another --port, 0 for any free one, or none at all",
            )
        return found
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED):
        if _listen(host, port) is not None:
            return port
    raise BadInput(
        f"ports {DEFAULT_PORT} to {DEFAULT_PORT + _PORTS_TRIED - 1} on {host} are all in use",
        "give a free one with --port, or 0 for any",
    )


def _listen(host: str, port: int) -> int | None:
    """Listens for a moment; returns the port, or None when that is not possible."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise BadInput(f"host '{host}' is unknown: {error.strerror or error}", "use 127.0.0.1") from error
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except OSError:
            return None
        return int(probe.getsockname()[1])


def runs_under(root: Path) -> dict[str, str]:
    """Returns every run that has logged: its folder under ``root`` -> the name of its current record file."""
    folders = sorted({path.parent for path in root.rglob("*vdlrecords*.log") if path.is_file()})
    return {folder.relative_to(root).as_posix(): record_files(folder)[-1].name for folder in folders}


class Viewer:
    """The VisualDL server over all runs of a folder: no telemetry, in English, as a child process.

    Args:
        root: The folder that holds the runs.
        host: The address to listen on.
        port: A free port.
    """

    def __init__(self, root: Path, host: str, port: int) -> None:
        self.root, self.host, self.port = root, host, port
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._seen: dict[str, str] = {}

    @property
    def _reachable(self) -> str:
        """The host under which this machine reaches the server."""
        return "127.0.0.1" if self.host in _EVERYWHERE else self.host

    @property
    def url(self) -> str:
        """The address of the page."""
        host = f"[{self._reachable}]" if ":" in self._reachable else self._reachable
        return f"http://{host}:{self.port}/app/index"

    def start(self) -> None:
        """Starts the server and returns when it answers.

        Raises:
            BadInput: The port was taken in the meantime.
            CheckFailed: The server does not come up.
        """
        self._seen = runs_under(self.root)
        self._process = subprocess.Popen(
            self._command(),
            cwd=self.root,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            self.check()
            if time.monotonic() > deadline:
                self.stop()
                raise CheckFailed(f"VisualDL does not answer within {_START_SECONDS:.0f} s", self._last_words())
            time.sleep(0.1)
        self.check()  # somebody else's server may have answered on a port that was taken in the meantime

    def _command(self) -> list[str]:
        # The root is "." so that a run is named by its folder under the root, not by a path of this machine.
        return [
            sys.executable,
            "-m",
            "paddle_tk.training.loggers.visualdl_server",
            "--logdir",
            ".",
            "--host",
            self.host,
            "--port",
            str(self.port),
            "--language",
            "en",
            "--disable-telemetry",
            "--cache-timeout",
            str(_CACHE_SECONDS),
        ]

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self._reachable, self.port, timeout=2)  # asks no proxy
        try:
            connection.request("GET", "/alive")
            return connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def check(self) -> None:
        """Raises when the server has ended by itself."""
        if self._process is None or (code := self._process.poll()) is None:
            return
        words = self._last_words()
        if "in use" in words:
            raise BadInput(f"port {self.port} on {self.host} is in use", "give another --port, or 0 for any free one")
        raise CheckFailed(f"the VisualDL server ended with code {code}: {words}", "run tools/doctor.py")

    def refresh(self) -> bool:
        """Restarts the server when a run was resumed, else its steps are shown twice; says whether it did."""
        now = runs_under(self.root)
        resumed = [folder for folder, name in self._seen.items() if now.get(folder, name) != name]
        self._seen = now
        if resumed:
            self.stop()
            self.start()
        return bool(resumed)

    def stop(self) -> None:
        """Ends the server; does nothing when it is not running."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _environment() -> dict[str, str]:
    """Returns this process' environment with paddle_tk importable from any working folder."""
    root = str(Path(paddle_tk.__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # VisualDL's pages are answered on this machine: a proxy set for the outside world must not be asked for
    # them.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "no_proxy": "*", "NO_PROXY": "*"}
