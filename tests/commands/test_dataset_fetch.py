from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks._fault_server import Mirror, serve
from paddle_tk.commands.dataset import main
from paddle_tk.commands.train import main as train
from paddle_tk.data.fetch import OFFLINE
from tests.data.own_dataset import archive, describe, file_of

ROOT = Path(__file__).parents[2]
PAYLOAD = archive({"data/one.txt": b"one", "data/two.txt": b"two"})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def mine(home: Path) -> Iterator[Mirror]:
    """A dataset of the user's own, served here."""
    mirror = Mirror(PAYLOAD)
    with serve({"/mine.zip": mirror}) as base:
        file = file_of("mine.zip", PAYLOAD, f"{base}/mine.zip", unpack=True, max_unpacked_bytes=1000)
        describe("mine", [file], ["data"])
        yield mirror


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    return error


def test_dataset_info_setup_info_clean_tell_one_story(
    mine: Mirror, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told.json"
    assert main(["info", "--json", str(told)]) == 0
    report = json.loads(told.read_text())
    assert report["datasets"]["mine"]["state"] == "absent"
    assert report["datasets"]["digits"]["state"] == "embedded"
    assert report["tier"]["name"] == "debug"
    assert report["datasets"]["coco2017"]["forecast"]["download_seconds"]["origin"] == "estimated"
    assert main(["setup", "mine", "--json", str(told)]) == 0
    folder = home / "datasets" / "mine"
    assert json.loads(told.read_text())["datasets"] == {"mine": {"state": "verified", "path": str(folder), "note": ""}}
    assert (folder / "data/one.txt").read_text() == "one"
    assert main(["info", "--json", str(told)]) == 0
    assert json.loads(told.read_text())["datasets"]["mine"]["state"] == "verified"
    capsys.readouterr()
    assert main(["clean"]) == 2
    assert "Nobody can be asked here. Fix: add --yes" in _error(capsys)
    assert folder.is_dir()
    assert main(["clean", "--yes", "--json", str(told)]) == 0
    assert str(folder) in capsys.readouterr().out
    assert json.loads(told.read_text())["removed"] == {"mine": [str(folder)]}
    assert not folder.exists()
    assert main(["clean"]) == 0


def test_dataset_clean_leaves_what_it_was_not_asked_for(
    mine: Mirror, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = home / "datasets" / "cifar10" / "cifar-10-python.tar.gz"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    assert main(["clean", "--yes"]) == 0
    assert own.is_file()
    assert main(["clean", "cifar10", "--yes"]) == 0
    assert "which setup has not put there" in capsys.readouterr().out
    assert not own.exists()


def test_dataset_setup_puts_datasets_where_root_says(mine: Mirror, tmp_path: Path) -> None:
    assert main(["setup", "mine", "--root", str(tmp_path / "elsewhere")]) == 0
    assert (tmp_path / "elsewhere" / "mine" / "data").is_dir()


def test_dataset_setup_asks_before_a_large_download(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", "coco2017"]) == 2
    assert "download 20.4 GB (coco2017)? Nobody can be asked here. Fix: add --yes" in _error(capsys)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["setup", "mien"], "no dataset 'mien' in the catalog. Fix: did you mean 'mine'?"),
        (["setup", "imagenet1k"], "imagenet1k"),
        (["clean", "nothing"], "no dataset 'nothing' in the catalog"),
    ],
)
def test_dataset_fetch_ends_with_one_line_when_it_cannot(
    mine: Mirror, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert problem in _error(capsys)


def test_dataset_setup_says_why_when_a_download_fails(
    mine: Mirror, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine.status = 404
    assert main(["setup", "mine"]) == 2
    assert "mine.zip could not be downloaded: http://127.0.0.1" in _error(capsys)
    assert not (home / "datasets" / "mine" / "mine.zip").exists()


def test_dataset_setup_goes_on_with_the_others_when_one_fails(
    mine: Mirror, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    describe("broken", [file_of("x.zip", PAYLOAD, "http://127.0.0.1:9/x.zip")], ["x.zip"])
    (home / "datasets" / "broken").mkdir(parents=True)
    (home / "datasets" / "broken" / "x.zip").write_bytes(b"another file")
    assert main(["setup", "broken", "mine", "digits", "--json", str(tmp_path / "told.json")]) == 2
    said = capsys.readouterr()
    assert "warning: " in said.err
    assert "x.zip is not the file it should be" in said.err
    assert "error: could not be set up: broken. Fix: see the warnings" in said.err
    assert "2 of 3 ready: mine, digits" in said.out
    assert json.loads((tmp_path / "told.json").read_text())["datasets"]["mine"]["state"] == "verified"


def test_dataset_setup_connects_to_nobody_when_it_is_told_to_stay_offline(
    mine: Mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(OFFLINE, "1")
    assert main(["setup", "mine"]) == 2
    assert f"{OFFLINE} is set" in _error(capsys)
    assert mine.requests == 0


def test_setup_script_passes_everything_on(mine: Mirror, home: Path) -> None:
    script = [str(ROOT / "tools" / "setup_dataset.sh"), "nothing"]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 2
    assert "no dataset 'nothing' in the catalog" in done.stderr


@pytest.mark.slow
def test_train_records_the_dataset_that_auto_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFFLINE, "1")
    arguments = ["data=auto", "trainer=cpu_debug", "trainer.fast_dev_run=true", "--run-dir", str(tmp_path / "run")]
    assert train(arguments) == 0
    assert "name: digits\n" in (tmp_path / "run" / "config.yaml").read_text()
