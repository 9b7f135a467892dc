"""Around every command: checked options in, an exit status out, mistakes in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import MissingConfigException

from captioner.cli import command, explain, option_names, refuse_overrides_but
from captioner.config import CaptionOptions, TrainOptions

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a function as the command `caption` or `train` and returns the exit status."""
    monkeypatch.chdir(tmp_path)

    def run(function: Callable, *arguments: str, name: str = "caption") -> int:
        schema = {"caption": CaptionOptions, "train": TrainOptions}[name]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        try:
            command(name, schema)(function)()
        except SystemExit as leaving:
            return leaving.code or 0
        return 0

    return run


GIVEN = ("checkpoint=c", "images=i")


def test_the_function_gets_checked_options_and_hydra_writes_nothing(run: Run, tmp_path: Path):
    got = []
    assert run(got.append, *GIVEN, "search.width=3", "device=null") == 0
    assert list(tmp_path.iterdir()) == []
    (options,) = got
    assert isinstance(options, CaptionOptions)
    assert (options.checkpoint, options.search.width, options.batch) == ("c", 3, 100)


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_what_it_returns_is_the_exit_status(run: Run, result: int | None, status: int):
    assert run(lambda options: result, *GIVEN) == status


def test_a_float_is_a_score_and_no_exit_status(run: Run):
    assert run(lambda options: 3.5, *GIVEN) == 0


def fail(error: BaseException) -> Callable:
    def failing(options: CaptionOptions) -> None:
        raise error

    return failing


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("the number is 3"), "error: the number is 3\n"),
        (ValueError("first line\nsecond line"), "error: first line\n"),
        (FileNotFoundError(2, "No such file", "a.txt"), "error: [Errno 2] No such file: 'a.txt'\n"),
        (ValueError(), "error: ValueError\n"),
    ],
)
def test_a_mistake_is_told_in_one_line(run: Run, capsys, error: Exception, line: str):
    assert run(fail(error), *GIVEN) == 2
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("debug", ["debug=true", "debug=True"])
def test_debug_lets_a_mistake_through(run: Run, debug: str):
    with pytest.raises(ValueError, match="the number is 3"):
        run(fail(ValueError("the number is 3")), *GIVEN, debug)


def test_a_bug_of_ours_is_no_mistake_of_the_users(run: Run):
    with pytest.raises(AssertionError, match="a bug"):
        run(fail(AssertionError("a bug")), *GIVEN)


def test_interrupting_is_no_error(run: Run, capsys):
    assert run(fail(KeyboardInterrupt()), *GIVEN) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("+no=1", "no option 'no'"),
        ("+search.no=1", "no option 'search.no'"),
        ("++search.widht=1", "'search.widht'"),
        ("search.widht=1", "no option 'search.widht'; did you mean search.width"),
        ("width=1", "no option 'width'; did you mean search.width"),
        ("qqqq=1", "no option 'qqqq'; see --help"),
        ("search.width=many", "search.width=many: .*'many'.*Integer"),
        ("search=greedy", "greedy"),
        ("search.width=[", r"search.width=\["),
        ("three", "'three' is no option; options are written key=value"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_runs(run: Run, capsys, given: str, named: str):
    ran = []
    assert run(ran.append, *GIVEN, given) == 2 and not ran
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.search(named, err), err


def test_a_sweep_names_each_job_by_what_is_swept(run: Run, tmp_path: Path):
    got: list[TrainOptions] = []
    sweep = ("training.seed=0,1", "decoder=paper,modern")
    assert run(got.append, "--multirun", "name=x", *sweep, name="train") == 0
    assert [options.name for options in got] == [
        "x/training.seed=0,decoder=paper",
        "x/training.seed=0,decoder=modern",
        "x/training.seed=1,decoder=paper",
        "x/training.seed=1,decoder=modern",
    ]
    assert [options.decoder.tied_output for options in got[:2]] == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_path_in_a_sweep_makes_no_folders(run: Run):
    got: list[TrainOptions] = []
    run(got.append, "--multirun", "encoder.weights=a/b.pt,c.pt", name="train")
    assert [options.name for options in got] == [
        "sweep/encoder.weights=a_b.pt",
        "sweep/encoder.weights=c.pt",
    ]


def test_a_sweep_goes_on_behind_a_job_that_fails(run: Run, capsys):
    got = []

    def work(options: TrainOptions) -> None:
        got.append(options.training.seed)
        if options.training.seed == 1:
            raise ValueError("seed 1 is bad")

    assert run(work, "--multirun", "training.seed=0,1,2", name="train") == 2
    assert got == [0, 1, 2]
    assert capsys.readouterr().err == "error: seed 1 is bad\n"


def test_interrupting_a_sweep_ends_it(run: Run, capsys):
    assert run(fail(KeyboardInterrupt()), "--multirun", "training.seed=0,1", name="train") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_only_allowed_overrides_go_with_resume(run: Run, capsys):
    def resume(options: TrainOptions) -> None:
        refuse_overrides_but("resume", "device")

    assert run(resume, "resume=runs/x", "device=cpu", name="train") == 0
    assert run(resume, "resume=runs/x", "training.epochs=3", name="train") == 2
    assert "training.epochs=3 can't be set" in capsys.readouterr().err


def test_option_names_are_those_of_the_command_line():
    names = option_names(CaptionOptions)
    assert {"checkpoint", "images", "search.width", "search.top_p"} <= set(names)
    assert "search" not in names and len(names) == len(set(names))


def test_a_plugin_that_is_missing_is_told_with_what_brings_it():
    error = MissingConfigException("", "hydra/sweeper/optuna", ["basic"])
    told = "no hydra/sweeper 'optuna'; choose one of basic; pip install 'captioner[sweep]' brings"
    assert explain(error, TrainOptions).startswith(told)


def test_what_is_not_known_is_told_by_its_first_line():
    assert explain(OSError("disk full\nat byte 3"), TrainOptions) == "disk full"
