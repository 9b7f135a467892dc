"""What all scripts share: Hydra around a function, and mistakes told in one line."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from captioner.config import ANEW
from captioner.process import keep_freed_memory, multiply_by_onednn
from captioner.stopping import SIGNALS, Stopped, handling, raise_stopped
from captioner.sweep import SWEEP

CONF = Path(__file__).resolve().parents[1] / "conf"
ARGUMENTS = "CAPTIONER_ARGUMENTS"  # the environment's, for jobs in other processes
MISTAKES = (ValueError, OSError, HydraException, OmegaConfBaseException)


def command(
    name: str, schema: type, torch: bool = True
) -> Callable[[Callable[[Any], int | float | None]], Callable[[], None]]:
    """Makes a function of checked options a command line: `conf/<name>.yaml` plus `key=value`.

    A user's mistake (ValueError, OSError, anything Hydra refuses) ends in one line on stderr and
    exit status 2; `debug=true` shows the traceback. Of a sweep it ends one job, and the others go
    on. SIGINT ends in exit status 130, SIGTERM in 143. The function's own result is the exit
    status, or as a float what a sweep is to optimise. `torch` says whether it surely needs torch,
    whose products are then made fast.
    """

    def decorate(function: Callable[[Any], int | float | None]) -> Callable[[], None]:
        def job(config: DictConfig) -> float | None:
            # Leaving by SystemExit keeps Hydra from adding its own words to ours.
            with _mistakes_in_one_line(schema):
                # Merged anew, since `+key=value` gets past Hydra without being an option.
                config = OmegaConf.merge(schema, OmegaConf.to_container(config))
                options = OmegaConf.to_object(config)
                _name_sweep_job(options)
                keep_freed_memory()
                if torch:
                    multiply_by_onednn()
                result = function(options)
            if isinstance(result, float):
                return result
            if result:
                sys.exit(result)
            return None

        def main() -> None:
            ConfigStore.instance().store(name="options", node=schema)
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and we say it in one line
            os.environ[ARGUMENTS] = json.dumps(sys.argv)
            failed: list[int] = []
            with handling(raise_stopped), _mistakes_in_one_line(schema):
                task = _going_on(job, failed)
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()
            if failed:
                sys.exit(max(failed))

        return main

    return decorate


def _going_on(
    job: Callable[[DictConfig], float | None], failed: list[int]
) -> Callable[[DictConfig], float | None]:
    """The job, which in a sweep does not take the others with it; notes its exit status instead."""

    def task(config: DictConfig) -> float | None:
        try:
            return job(config)
        except SystemExit as leaving:
            stopped = leaving.code in [Stopped(number).status for number in SIGNALS]
            if stopped or HydraConfig.get().mode is not RunMode.MULTIRUN:
                raise
            failed.append(leaving.code)
            return None

    return task


@contextmanager
def _mistakes_in_one_line(schema: type) -> Iterator[None]:
    try:
        yield
    except MISTAKES as error:
        if "debug=true" in map(str.lower, _arguments()):
            raise
        print(f"error: {explain(error, schema)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted", file=sys.stderr)
        sys.exit(getattr(stopped, "status", Stopped().status))


def _arguments() -> list[str]:
    """The command line, also where a sweep's launcher has started this process."""
    return json.loads(os.environ.get(ARGUMENTS, "[]"))


def _name_sweep_job(options: Any) -> None:
    """In a sweep each job's run is named by what sets it apart: `<name>/<key=value,…>`."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode is RunMode.MULTIRUN and hasattr(options, "name"):
        arguments = _arguments()
        swept = [o for o in hydra_config.overrides.task if o not in arguments]
        job = ",".join(swept).replace("/", "_") or str(hydra_config.job.num)
        options.name = f"{options.name or SWEEP}/{job}"


def refuse_overrides_but(*allowed: str) -> None:
    """Raises ValueError where the command line sets any other option."""
    for key, override in _overrides():
        if key not in allowed:
            raise ValueError(
                f"{allowed[0]}= goes on with the options of the run, so {override} can't be set; "
                "leave it out, or start a new run"
            )


def refuse_contradictions() -> None:
    """Raises ValueError where the command line sets what the checkpoint of `start=` brings."""
    anew = [f"{part}.{name}" for part, names in ANEW.items() for name in names]
    for key, override in _overrides():
        if key.split(".")[0] in ("data", "encoder", "decoder") and key not in anew:
            raise ValueError(
                f"start= brings data, encoder and decoder, so {override} can't be set; leave it "
                f"out, or set one of {', '.join(anew)}"
            )


def _overrides() -> Iterator[tuple[str, str]]:
    """Keys of the command line, each with its whole `key=value`."""
    for override in HydraConfig.get().overrides.task:
        yield override.split("=")[0].lstrip("+~"), override


def explain(error: Exception, schema: type) -> str:
    """One line that names what was wrong and, where it can be known, what would be right."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        plugins = "; pip install 'captioner[sweep]' brings optuna and submitit"
        hint = plugins if group.startswith("hydra/") else ""
        return f"no {group} {choice!r}; choose one of {', '.join(error.options)}{hint}"
    recipe = re.match(r"In '(\w+)/(\w+)': ConfigKeyError", text)
    if recipe:  # such as data=shapes, which sets the decoder's sizes too
        return f"{recipe[1]}={recipe[2]} is a recipe for training; say {recipe[1]}.kind={recipe[2]}"
    override = re.match(r"Could not override '([^']+)'", text)
    if override:
        key = override[1].lstrip("+~")
        close = difflib.get_close_matches(key, known := option_names(schema), 3, 0.5)
        close = close or [k for k in known if k.split(".")[-1] == key.split(".")[-1]]
        hint = f"did you mean {' or '.join(close)}?" if close else "see --help for all options"
        return f"no option {key!r}; {hint}"
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is no option; options are written key=value"
    unknown = re.match(r"Key '\S+' not in '\w+'\n\s*full_key: (\S+)", text)
    if unknown:
        return f"no option {unknown[1]!r}; see --help for all options"
    merged = re.match(r"Error merging override (\S+)", text)
    if merged and error.__cause__ is not None:
        return f"{merged[1]}: {_first_line(error.__cause__)}"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().split("\n")[0]


def option_names(schema: type) -> list[str]:
    """Every option as it is written on the command line, such as `training.epochs`."""

    def names(options: Any, prefix: str) -> list[str]:
        found = []
        for name, value in vars(options).items():
            nested = hasattr(value, "__dataclass_fields__")
            found += names(value, f"{prefix}{name}.") if nested else [prefix + name]
        return found

    blank = object.__new__(schema)  # without __post_init__, which would ask for what is required
    for name, spec in schema.__dataclass_fields__.items():
        factory = spec.default_factory
        setattr(blank, name, factory() if callable(factory) else spec.default)
    return names(blank, "")
