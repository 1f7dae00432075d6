from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from paddle_tk.config.load import GROUPS, all_fields, config_sha256, configs_folder, differences, load_config, to_yaml
from paddle_tk.config.schema import Config
from paddle_tk.errors import BadInput, ConfigError


def test_load_config_reports_every_mistake_at_once_when_several_are_wrong() -> None:
    wrong = [
        "trainer.max_epoch=3",
        "data.batch_size=0",
        "trainer.learning_rate=abc",
        "model.nam=x",
        "trainer.momentum=2",
    ]
    with pytest.raises(ConfigError) as caught:
        load_config(None, wrong)
    message = str(caught.value)
    assert "5 mistakes" in message
    assert "'trainer.max_epoch' (did you mean 'trainer.max_epochs'?)" in message
    assert "data.batch_size" in message
    assert "got 'abc'" in message
    assert "model.nam" in message
    assert "trainer.momentum" in message
    assert "\n" not in message


def test_load_config_names_the_right_section_when_a_key_lacks_it() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'trainer\.momentum'"):
        load_config(None, ["momentum=0.5"])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.max_epochs=true", "trainer.max_epochs"),
        ("data.image_size=[32]x", "data.image_size"),
        ("data.image_size=[32,32,3]", "data.image_size"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val"),
        ("trainer.precision=fp8", "fp32, bf16 or fp16"),
        ("trainer.devices=tpu", "trainer.devices"),
        ("trainer.schedule=step", "step_epochs"),
        ("data.random_resized_crop=[0.9,0.1]", "min <= max"),
        ("data.std=[0.5,0,0.5]", "data.std"),
        ("trainer.loggers=[visualdl,tensorbord]", "trainer.loggers"),
    ],
)
def test_load_config_names_key_and_value_when_a_value_cannot_be(override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("[", r"\[")):
        load_config(None, [override])


def test_load_config_reads_off_as_the_word_and_refuses_what_needs_the_leak_watch() -> None:
    assert load_config(None, ["trainer.leak_watch=off"]).config.trainer.leak_watch == "off"
    with pytest.raises(ConfigError, match="leak_tensors needs leak_watch=warn or stop"):
        load_config(None, ["trainer.leak_watch=off", "trainer.leak_tensors=true"])


def test_load_config_replaces_the_group_when_chosen_on_the_command_line(tmp_path: Path) -> None:
    primary = tmp_path / "mine.yaml"
    primary.write_text(
        "defaults:\n  - config\n  - override model: resnet18\n  - _self_\nmodel:\n  name: resnet34\n  dropout: 0.1\n"
    )
    assert load_config(primary).config.model.name == "resnet34"
    chosen = load_config(primary, ["model=mobilenet_v2"]).config
    assert chosen.model.name == "mobilenet_v2"
    assert chosen.data.name == "digits"


def test_load_config_takes_any_model_name_when_it_has_no_group_file() -> None:
    config = load_config(None, ["model=vgg11"]).config
    assert config.model.name == "vgg11"
    assert config.data.name == "digits"


def test_load_config_lists_the_known_groups_when_the_trainer_is_unknown() -> None:
    with pytest.raises(BadInput, match=r"unknown trainer 'defualt'.*did you mean 'default'"):
        load_config(None, ["trainer=defualt"])


def test_load_config_joins_aliases_when_they_agree_and_refuses_when_they_differ() -> None:
    assert load_config(None, ["trainer.batch_size=8"]).config.data.batch_size == 8
    assert load_config(None, ["trainer.batch_size=8", "data.batch_size=8"]).config.data.batch_size == 8
    with pytest.raises(ConfigError, match=r"trainer.batch_size=8 and data.batch_size=9"):
        load_config(None, ["trainer.batch_size=8", "data.batch_size=9"])
    # The group file sets trainer.batch_size.
    assert load_config(None, ["trainer=cpu_debug", "data.batch_size=9"]).config.data.batch_size == 9
    assert load_config(None, ["trainer=cpu_debug", "trainer.num_workers=1"]).config.data.num_workers == 1


def test_load_config_accepts_special_characters_when_a_value_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "my (data)=1, ä"
    folder.mkdir()
    config = folder / "my config=1.yaml"
    config.write_text("defaults:\n  - config\n  - _self_\nseed: 4\n")
    loaded = load_config(config, [f"data.root={folder}"])
    assert loaded.config.data.root == str(folder)
    assert loaded.config.seed == 4


@pytest.mark.parametrize(("text", "value"), [("5e-4", 5e-4), ("1e-3", 1e-3), ("0.1", 0.1)])
def test_load_config_reads_numbers_when_written_in_scientific_notation(text: str, value: float, tmp_path: Path) -> None:
    assert load_config(None, [f"trainer.weight_decay={text}"]).config.trainer.weight_decay == value
    file = tmp_path / "a.yaml"
    file.write_text(f"trainer:\n  weight_decay: {text}\n")
    assert load_config(file).config.trainer.weight_decay == value


@pytest.mark.parametrize("given", [32, "32", "fp32"])
def test_load_config_spells_precision_one_way_when_given_as_number(given: object, tmp_path: Path) -> None:
    assert load_config(None, [f"trainer.precision={given}"]).config.trainer.precision == "fp32"


def test_load_config_says_line_when_yaml_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("trainer:\n  max_epochs: [1\nmodel: x\n")
    with pytest.raises(BadInput, match=r"line \d+ is not valid YAML"):
        load_config(file)


def test_load_config_refuses_when_override_is_not_key_value() -> None:
    with pytest.raises(BadInput, match="KEY=VALUE"):
        load_config(None, ["fast"])


def test_resolved_config_loads_back_unchanged_when_written(tmp_path: Path) -> None:
    loaded = load_config(None, ["data.batch_size=7", "trainer.ema_decay=0.99", "data.random_resized_crop=[0.5,1.0]"])
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(loaded.config))
    again = load_config(file)
    assert again.config == loaded.config
    assert again.sha256 == loaded.sha256
    assert load_config(file, ["model=resnet50"]).config.model.name == "resnet50"


def test_config_hash_ignores_only_what_does_not_change_the_training() -> None:
    base = load_config(None).config
    hashes = {
        override: config_sha256(load_config(None, [override]).config)
        for override in ("data.num_workers=2", "trainer.max_retries=0", "data.root=/x", "trainer.log_every_n_steps=3")
    }
    assert set(hashes.values()) == {config_sha256(base)}
    for override in ("seed=1", "data.batch_size=31", "trainer.max_epochs=99", "model.name=resnet34"):
        assert config_sha256(load_config(None, [override]).config) != config_sha256(base)


def test_config_hash_is_that_of_runs_from_before_the_section_quantize() -> None:
    # Taken at the commit before the section was added; it changes only with a default that changes what is computed.
    assert config_sha256(Config()) == "f246bd560495ea36bc8a495d17db060bbd5839009b4eb162498032cbdbfa098d"


def test_config_hash_ignores_every_key_of_the_section_quantize() -> None:
    others = {
        **{"method": "qat", "algorithm": "kl", "samples": 9, "batch_size": 9, "seed": 9, "max_drop": 0.5},
        **{"min_agreement": 0.5, "max_size_ratio": 0.5, "max_latency_ratio": 0.5, "allow_slow": True},
        **{"latency_rounds": 9, "latency_repeats": 9, "epochs": 9, "learning_rate": 0.5, "moving_rate": 0.5},
        **{"freeze_norm": False, "weight_bits": 7},
    }
    assert {f"quantize.{key}" for key in others} == {key for key in all_fields(Config) if key.startswith("quantize.")}
    for key, value in others.items():
        changed = load_config(None, [f"quantize.{key}={json.dumps(value)}"])
        assert getattr(changed.config.quantize, key) == value
        assert changed.sha256 == load_config(None).sha256


@pytest.mark.parametrize(
    "override",
    [
        "compare.rounds=9",
        "compare.options=[paddle,paddle]",
        "decide.weights={team_familiarity: 1.0}",
        "decide.familiarity.torch=4",
        "report.language=zh",
    ],
)
def test_config_hash_ignores_the_sections_of_a_comparison(override: str) -> None:
    changed = load_config(None, [override])
    assert changed.config != load_config(None).config
    assert changed.sha256 == load_config(None).sha256


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("decide.weights={performance: 0.5}", "must sum to 1, they sum to 0.5"),
        ("decide.weights.performance=-0.25", "none below 0"),
        ("decide.familiarity.torch=7", "from 0 to 5"),
        ("compare.options=[paddle]", "at least 2"),
        ("compare.options=[paddle, tensorflow]", "tensorflow"),
        ("report.language=de", "report.language"),
    ],
)
def test_load_config_refuses_when_a_comparison_cannot_be_weighed(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_config(None, [override])


def test_old_run_config_loads_when_it_has_no_section_quantize(tmp_path: Path) -> None:
    loaded = load_config(None)
    old = yaml.safe_load(to_yaml(loaded.config))
    del old["quantize"]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(old))
    again = load_config(file, ["quantize.samples=64"])
    assert again.sha256 == loaded.sha256
    assert (again.config.quantize.samples, again.config.quantize.method) == (64, "ptq")


def test_differences_names_each_changed_value() -> None:
    one, other = load_config(None).config, load_config(None, ["seed=3", "trainer.max_retries=0"]).config
    assert differences(one, other) == ["seed: 0 -> 3"]


def _shipped() -> list[Path]:
    return [path for folder in (".", "compare") for path in sorted((configs_folder() / folder).glob("*.yaml"))]


@pytest.mark.parametrize("path", _shipped(), ids=lambda p: p.name)
def test_shipped_config_composes_and_is_short(path: Path) -> None:
    assert isinstance(load_config(path).config, Config)
    assert len(path.read_text().splitlines()) < 20


def _group_files() -> list[Path]:
    return [path for group in GROUPS for path in sorted((configs_folder() / group).glob("*.yaml"))]


@pytest.mark.parametrize("path", _group_files(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_shipped_group_file_is_valid_and_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 15
    assert isinstance(load_config(None, [f"{path.parent.name}={path.stem}"]).config, Config)
    assert yaml.safe_load(path.read_text())
