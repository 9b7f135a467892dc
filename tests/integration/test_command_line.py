"""A mistake on any command line ends in one line that names it; help and --cfg tell the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from running import ROOT, Ran, run_process

Run = Callable[..., Ran]
SCRIPTS = ("train", "evaluate", "caption", "visualize", "demo")
SMALL = "data.sizes={train:9,val:1,test:1,novel:1}"


@pytest.mark.parametrize(
    ("script", "arguments", "named"),
    [
        ("train", "trainig.epochs=3", "'trainig.epochs'; did you mean training.epochs"),
        ("train", "decoder.hiden=3", "'decoder.hiden'; did you mean decoder.hidden"),
        ("train", "+decoder.depth=3", "'decoder.depth'"),
        ("train", "epochs=3", "'epochs'; did you mean training.epochs"),
        ("train", "training.epochs=many", "training.epochs=many: .*Integer"),
        ("train", "training.epochs=0", "training.epochs is 0; it must be at least 1"),
        ("train", "training.epochs=", "training.epochs="),
        ("train", "training=3", "training=3"),
        ("train", "decoder.beta=both", "decoder.beta is 'both'.* scalar, vector, none"),
        ("train", "decoder=moderne", "no decoder 'moderne'; choose one of modern, paper"),
        ("train", "data=imagenet", "no data 'imagenet'; choose one of coco, csv, flickr8k"),
        ("train", "encoder=resnet", "no encoder 'resnet'; choose one of .*resnet50"),
        ("train", "nonsense", "'nonsense' is no option; options are written key=value"),
        ("train", "data=flickr8k", "data=flickr8k needs data.root"),
        ("train", "data=flickr8k data.root=nowhere", "nowhere: no such folder"),
        ("train", "data=csv data.file=no.csv", "no.csv"),
        ("train", "data=karpathy data.file=no.json data.root=.", "no.json"),
        ("train", "data=coco data.root=nowhere", "nowhere"),
        ("train", "encoder.weights=no.pt SMALL", "no.pt"),
        ("train", "encoder.name=resnet0 encoder.node=layer4 SMALL", "no encoder 'resnet0'"),
        ("train", "device=gpu", "no device 'gpu' here"),
        ("train", "resume=nowhere", "resume=nowhere is no run"),
        ("train", "resume=RUN training.epochs=9", "training.epochs=9 can't be set"),
        ("train", "experiment=scst", "self_critical needs start=, a checkpoint"),
        ("train", "experiment=scst start=nowhere", "nowhere is no checkpoint"),
        ("train", "experiment=scst start=RUN", "did you mean .*tiny/checkpoints/best"),
        ("train", "experiment=scst start=BEST decoder=paper", "decoder=paper can't be set; leave"),
        ("train", "experiment=scst start=BEST data.limit=5", "data.limit=5 can't be set; leave it"),
        ("train", "experiment=scts start=BEST", "no experiment 'scts'; choose one of .*scst"),
        ("evaluate", "", "checkpoint= is missing"),
        ("evaluate", "checkpoint=nowhere", "nowhere is no checkpoint"),
        ("evaluate", "checkpoint=RUN", "did you mean .*tiny/checkpoints/best"),
        ("evaluate", "checkpoint=BEST data.split=dev", "no split 'dev'.* train, val, test, novel"),
        ("evaluate", "checkpoint=BEST search.width=0", "search.width is 0"),
        ("evaluate", "checkpoint=BEST training.epochs=1", "'training.epochs'"),
        ("caption", "checkpoint=BEST", "images= is missing"),
        ("caption", "checkpoint=BEST images=nowhere", "no image file or folder 'nowhere'"),
        ("caption", "checkpoint=BEST images=.", "no images in the folder"),
        ("caption", "checkpoint=BEST images=RUN/*.jpg", r"no images match .*\*.jpg"),
        ("caption", "images=.", "checkpoint= is missing"),
        ("visualize", "checkpoint=BEST images=nowhere", "no image file or folder 'nowhere'"),
        ("visualize", "checkpoint=BEST search.strategy=best", "greedy, beam, sample"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_it(trained, run, tmp_path, script, arguments, named):
    places = {"BEST": str(trained.checkpoint), "RUN": str(trained.folder), "SMALL": SMALL}
    given = [re.sub("BEST|RUN|SMALL", lambda m: places[m[0]], each) for each in arguments.split()]
    done = run(script, *given)
    assert re.search(named, done.mistake), done.err
    assert done.err.startswith("error: ") and list(tmp_path.iterdir()) == []


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path):
    script = ROOT / "scripts" / "train.py"
    plain = run_process(script, "data=flickr8k", folder=tmp_path)
    assert "data=flickr8k needs data.root" in plain.mistake
    shown = run_process(script, "data=flickr8k", "debug=true", folder=tmp_path)
    assert shown.status != 0 and "Traceback" in shown.err and "needs data.root" in shown.err


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_examples_and_every_option(run: Run, script: str):
    done = run(script, "--help")
    assert done.status == 0
    assert f"python scripts/{script}.py" in done.out
    assert "checkpoint:" in done.out or script == "train"
    assert "search:" in done.out and "max_length:" in done.out and "device:" in done.out


def test_help_names_every_group_and_its_choices(run: Run):
    text = run("train", "--help").out
    for folder in (ROOT / "conf").iterdir():
        if folder.is_dir():
            choices = re.search(rf"{folder.name}: (.*)", text)
            assert choices, f"--help does not tell the group {folder.name}"
            found = {choice.strip() for choice in choices[1].split(",")}
            assert found == {path.stem for path in folder.glob("*.yaml")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_cfg_shows_the_options_with_their_values(run: Run, script: str):
    done = run(script, "--cfg", "job", "search.width=7")
    assert done.status == 0 and "width: 7" in done.out
