from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from paddle_tk.config.load import configs_folder, load_config
from paddle_tk.data.catalog import catalog, class_names, entry_of, shipped_entry
from paddle_tk.data.datasets import DATASETS
from paddle_tk.data.home import home_folder
from paddle_tk.errors import BadInput

NAMES = ("cifar10", "coco128", "coco2017", "digits", "digits_detection", "imagenet1k", "voc")
_SHIPPED = Path(__file__).parents[2] / "paddle_tk" / "data" / "catalog"


def _own(**changes: object) -> Path:
    values = yaml.safe_load((_SHIPPED / "coco128.yaml").read_text())
    path = home_folder() / "catalog" / f"{changes.get('name', 'coco128')}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDLE_TK_HOME", str(tmp_path / "home"))


def test_catalog_describes_what_the_readers_and_configs_name() -> None:
    assert tuple(catalog()) == NAMES
    for name in NAMES:
        assert name in DATASETS
        assert (configs_folder() / "data" / f"{name}.yaml").is_file()
        assert load_config(None, [f"data={name}"]).config.data.name == name


@pytest.mark.parametrize("name", NAMES)
def test_catalog_entry_holds_together(name: str) -> None:
    entry = shipped_entry(name)
    assert entry.tier == ("production" if name in ("coco2017", "imagenet1k", "voc") else "debug")
    assert entry.embedded == name.startswith("digits")
    assert all(file.checksum is None or file.checksum.source for file in entry.files)
    assert entry.present or entry.embedded
    if not entry.embedded and name != "cifar10":  # which is read from its archive
        assert all(file.max_unpacked_bytes for file in entry.files)
    if entry.download_bytes is not None and entry.unpacked_bytes is not None:
        assert sum(file.max_unpacked_bytes or 0 for file in entry.files) >= entry.unpacked_bytes * 0.9


def test_class_names_of_coco_and_voc_are_in_the_order_of_their_ids() -> None:
    coco, voc = class_names("coco2017"), class_names("voc")
    assert (len(coco), coco[0], coco[45], coco[79]) == (80, "person", "bowl", "toothbrush")
    assert (len(voc), voc[0], voc[14], voc[19]) == (20, "aeroplane", "person", "tvmonitor")
    assert class_names("coco128") == coco
    assert class_names("imagenet1k") == ()


def test_catalog_of_the_user_adds_and_replaces_when_the_home_holds_one() -> None:
    _own(name="mine")
    _own(title="from our own mirror")
    assert set(catalog()) == {*NAMES, "mine"}
    assert entry_of("coco128").title == "from our own mirror"
    assert shipped_entry("coco128").title != "from our own mirror"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tier": "huge"}, "tier: Input should be 'debug' or 'production'"),
        ({"sizee": 3}, "sizee: Extra inputs are not permitted"),
        ({"present": ["../x"]}, "paths of present must lie in the dataset's folder"),
        ({"classes": ["a", "a"]}, "a class occurs twice"),
        (
            {"files": [{"name": "a/b", "urls": ["http://x/a"], "size_bytes": 1, "checksum": None}]},
            "name: String should match",
        ),
        ({"files": [{"name": "a", "urls": ["ftp://x/a"], "size_bytes": 1, "checksum": None}]}, "not an http or https"),
        ({"files": [{"name": "a", "size_bytes": 1, "checksum": None}]}, "a file without urls needs manual"),
        (
            {"files": [{"name": "a", "urls": ["http://x"], "size_bytes": 1, "checksum": None, "unpack": True}]},
            "needs max_unpacked_bytes",
        ),
        (
            {
                "files": [
                    {
                        "name": "a",
                        "urls": ["http://x"],
                        "size_bytes": 1,
                        "checksum": {"algorithm": "sha256", "value": "ab", "source": "x"},
                    }
                ]
            },
            "a sha256 has 64 digits",
        ),
    ],
)
def test_catalog_names_key_and_file_when_a_description_is_wrong(changes: dict[str, object], problem: str) -> None:
    path = _own(**changes)
    with pytest.raises(BadInput) as caught:
        catalog()
    assert str(path) in caught.value.problem
    assert problem in caught.value.problem


def test_entry_of_suggests_a_name_when_it_is_misspelt() -> None:
    with pytest.raises(BadInput, match="did you mean 'coco2017'"):
        entry_of("coco17")


def test_catalog_names_the_file_when_its_name_is_another_than_it_describes() -> None:
    path = _own()
    path.rename(path.with_name("other.yaml"))
    with pytest.raises(BadInput, match="describes 'coco128'"):
        catalog()
