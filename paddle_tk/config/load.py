"""Defaults + YAML + overrides -> ``Config``; every mistake of a config is reported at once.

Hydra's compose API resolves the ``defaults:`` list and the groups. Dotted values are merged here, because Hydra refuses
a key that the YAML does not spell out and stops at the first mistake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from paddle_tk.config.schema import Config
from paddle_tk.config.section import ADDED_LATER, NOT_IDENTITY
from paddle_tk.errors import BadInput, ConfigError
from paddle_tk.files import canonical_json, sha256_bytes
from paddle_tk.registry import closest

GROUPS = ("model", "data", "trainer")
ALIASES = {"trainer.batch_size": "data.batch_size", "trainer.num_workers": "data.num_workers"}


@dataclass(frozen=True)
class LoadedConfig:
    """A validated config and where it came from.

    Attributes:
        config: The typed tree.
        name: Stem of the config file; names the run folder.
        sha256: Of everything that decides what is computed.
    """

    config: Config
    name: str
    sha256: str


def configs_folder() -> Path:
    """Returns the shipped configs/ folder: the checkout's, or the working directory's.

    Raises:
        BadInput: Neither exists.
    """
    for base in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (base / "configs" / "config.yaml").is_file():
            return base / "configs"
    raise BadInput("no configs/config.yaml found", "run from a checkout of paddle_tk or give -c FILE")


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Composes, merges and validates.

    Args:
        path: A YAML file with or without a ``defaults:`` list; None: configs/config.yaml. The resolved config of a run
            folder is accepted too, with the same overrides.
        overrides: ``group=name`` and ``section.key=value`` items.

    Raises:
        ConfigError: One message with every unknown key, wrong type and out-of-range value.
        BadInput: The file does not exist or is not YAML; an override is not KEY=VALUE.
    """
    path = path if path is not None else configs_folder() / "config.yaml"
    if not path.is_file():
        raise BadInput(f"config file {path} does not exist", _config_hint())
    values, groups = _split_overrides(overrides)
    files = {name: _group_file(path, name, choice) for name, choice in groups.items()}
    tree = _compose(path.resolve(), {name: choice for name, choice in groups.items() if files[name] is not None})
    for name, choice in groups.items():
        # A group chosen on the command line wins over what the primary file says of the same keys.
        # Every registered model and dataset is a choice, also without a file of its own.
        file = files[name]
        tree = _merge(tree, {name: _read_yaml(file) if file is not None else {"name": choice}})
    problems: list[str] = []
    _set_values(tree, values, problems)
    config = _validate(tree, problems)
    return LoadedConfig(config, _run_name(path), config_sha256(config))


def _config_hint() -> str:
    names = sorted(p.name for p in configs_folder().glob("*.yaml"))
    return f"shipped configs: {', '.join(names)}"


def _run_name(path: Path) -> str:
    # A run folder's own config.yaml is named after the run, not "config".
    return path.parent.name if (path.parent / "environment.json").is_file() else path.stem


def _split_overrides(overrides: Sequence[str]) -> tuple[list[tuple[str, Any]], dict[str, str]]:
    values: list[tuple[str, Any]] = []
    groups: dict[str, str] = {}
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise BadInput(f"override '{item}' is not KEY=VALUE", "write for instance trainer.max_epochs=3")
        if key in GROUPS:
            groups[key] = text.strip()
        else:
            values.append((key.strip(), _parse_value(text)))
    return values, groups


def _parse_value(text: str) -> Any:
    try:
        return _numbers(yaml.safe_load(text))
    except yaml.YAMLError:
        return text  # a path such as "a: [b" is not YAML; where it cannot be text, its type is reported


def _numbers(value: Any) -> Any:
    """YAML 1.1 reads 5e-4 as text; every user means the number."""
    if isinstance(value, str):
        try:
            return float(value) if any(c.isdigit() for c in value) and "_" not in value else value
        except ValueError:
            return value
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    return [_numbers(v) for v in value] if isinstance(value, list) else value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise BadInput(f"{path}{line} is not valid YAML", "correct the file") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise BadInput(f"{path} holds {type(raw).__name__}, expected sections such as model: and data:", "see configs/")
    return dict(_numbers(raw))


def _compose(path: Path, groups: Mapping[str, str]) -> dict[str, Any]:
    raw = _read_yaml(path)
    if "defaults" not in raw:
        return raw
    # Hydra only overrides groups that the defaults list names; the others are merged by the caller anyway.
    chosen = [f"{k}={v}" for k, v in groups.items() if _names_group(raw["defaults"], k)]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(path.parent), version_base="1.3"):
            search = f"hydra.searchpath=['file://{configs_folder()}']"
            composed = compose(config_name=path.stem, overrides=[*chosen, search])
            resolved = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(
            f"{path} cannot be composed: {' '.join(str(error).split())}", "check its defaults: list"
        ) from error
    finally:
        GlobalHydra.instance().clear()
    if not isinstance(resolved, dict):
        raise BadInput(f"{path} does not compose to sections", "see configs/config.yaml")
    return {str(k): _numbers(v) for k, v in resolved.items()}


def _names_group(defaults: Any, group: str) -> bool:
    entries = defaults if isinstance(defaults, list) else []
    keys = {str(k).removeprefix("override ").strip("/ ") for e in entries if isinstance(e, dict) for k in e}
    # "config" pulls in the base file, which names all groups.
    return group in keys or "config" in entries


def _group_file(path: Path, group: str, choice: str) -> Path | None:
    folders = [path.resolve().parent / group, configs_folder() / group]
    for folder in folders:
        if (folder / f"{choice}.yaml").is_file():
            return folder / f"{choice}.yaml"
    if group != "trainer":
        return None
    known = sorted({p.stem for f in folders if f.is_dir() for p in f.glob("*.yaml")})
    near = closest(choice, known)
    hint = f"did you mean '{near}'? " if near else ""
    raise BadInput(f"unknown {group} '{choice}'", f"{hint}known: {', '.join(known)}")


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = OmegaConf.merge(OmegaConf.create(base), OmegaConf.create(over))
    container = OmegaConf.to_container(merged) if isinstance(merged, DictConfig) else {}
    return {str(k): v for k, v in container.items()} if isinstance(container, dict) else {}


def _set_values(tree: dict[str, Any], values: Sequence[tuple[str, Any]], problems: list[str]) -> None:
    """Puts values at their canonical places; the command line wins over a file, whichever name each of them uses."""
    for key, value in _alias_values(tree):
        if value is not None:
            _put(tree, ALIASES[key], value)
    seen: dict[str, tuple[str, Any]] = {}
    for key, value in values:
        target = ALIASES.get(key, key)
        if target in seen and seen[target][0] != key and seen[target][1] != value:
            problems.append(f"{seen[target][0]}={seen[target][1]} and {key}={value} mean the same and differ; give one")
        seen[target] = (key, value)
        _put(tree, target, value)


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    node = tree
    *parents, leaf = key.split(".")
    for parent in parents:
        if not isinstance(node.setdefault(parent, {}), dict):
            node[parent] = {}
        node = node[parent]
    node[leaf] = value


def _alias_values(tree: dict[str, Any]) -> list[tuple[str, Any]]:
    """Takes alias keys out of the YAML tree; the canonical key joins them when both are written there."""
    found: list[tuple[str, Any]] = []
    for alias in ALIASES:
        section, leaf = alias.split(".")
        holder = tree.get(section)
        if isinstance(holder, dict) and leaf in holder:
            found.append((alias, holder.pop(leaf)))
    return found


def _validate(tree: dict[str, Any], problems: list[str]) -> Config:
    tree.pop("defaults", None)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        problems.extend(_explain(e["loc"], e["type"], e["msg"], e["input"]) for e in error.errors())
        config = None
    if problems or config is None:
        unique = list(dict.fromkeys(problems))
        count = "1 mistake" if len(unique) == 1 else f"{len(unique)} mistakes"
        raise ConfigError(f"{count} in the config: {'; '.join(unique)}", "correct the config or the override")
    return config


def _explain(location: tuple[Any, ...], kind: str, message: str, value: Any) -> str:
    # Unions add the branch that was tried ("int", "literal[...]") to the location; users know keys only.
    names: list[str] = []
    section: type[BaseModel] | None = Config
    for part in location:
        known = section.model_fields if section is not None else {}
        if isinstance(part, str) and names and part not in known and kind != "extra_forbidden":
            break
        names.append(str(part))
        annotation = known[part].annotation if part in known else None
        section = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    key = ".".join(names)
    if kind == "extra_forbidden":
        return f"unknown key '{key}'{_nearest_key(key)}"
    text = message.removeprefix("Value error, ").removeprefix("Input ").strip()
    return f"{key}: {text}, got {value!r}" if not isinstance(value, dict) else f"{key}: {text}"


def _nearest_key(key: str) -> str:
    known = [*all_fields(Config), *ALIASES]
    near = closest(key, known)
    if near is None:  # the right name in another section
        leaf = key.rsplit(".", 1)[-1]
        near = next((k for k in known if k.rsplit(".", 1)[-1] == leaf), None)
        near = near or next((k for k in known if closest(leaf, [k.rsplit(".", 1)[-1]])), None)
    return f" (did you mean '{near}'?)" if near else ""


def all_fields(section: type[BaseModel], prefix: str = "") -> dict[str, FieldInfo]:
    """Returns every field of a section by dotted key, depth first."""
    fields: dict[str, FieldInfo] = {}
    for name, field in section.model_fields.items():
        fields[prefix + name] = field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields.update(all_fields(field.annotation, f"{prefix}{name}."))
    return fields


def identity(config: Config) -> dict[str, Any]:
    """Returns the values that decide what is computed: all but fields marked ``identity: False``, and those at their
    defaults of fields marked ``identity: "unless default"``.
    """
    values, fields = flatten(config.model_dump(mode="json")), all_fields(Config)
    left_out = {key for key, field in fields.items() if field.json_schema_extra == NOT_IDENTITY}
    later = (key for key, field in fields.items() if field.json_schema_extra == ADDED_LATER)
    left_out |= {key for key in later if values[key] == fields[key].default}
    # A field that holds a mapping is left out with all its keys.
    return {k: v for k, v in values.items() if left_out.isdisjoint((k, k.rsplit(".", 1)[0]))}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns ``{"section.key": value}`` for a nested mapping."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def config_sha256(config: Config) -> str:
    """Returns the hash that tells whether two configs train the same thing."""
    return sha256_bytes(canonical_json(identity(config)))


def differences(one: Config, other: Config) -> list[str]:
    """Returns 'key: a -> b' for every identity value that differs."""
    left, right = flatten(one.model_dump(mode="json")), flatten(other.model_dump(mode="json"))
    telling = identity(one) | identity(other)
    return [f"{k}: {json.dumps(left[k])} -> {json.dumps(right[k])}" for k in telling if left[k] != right[k]]


def to_yaml(config: Config) -> str:
    """Returns the resolved config as YAML that ``load_config`` reads back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
