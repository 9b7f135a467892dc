"""Java's metrics are pycocoevalcap's numbers; without Java, or in time, they end in one line."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import as_coco, sentences

from captioner.metrics import java
from captioner.metrics.java import UnavailableError, meteor, ptb_words, spice
from captioner.metrics.metric import estimates

needs_java = pytest.mark.skipif(
    shutil.which("java") is None or find_spec("pycocoevalcap") is None,
    reason="needs Java and pycocoevalcap",
)
LIMIT = 120  # seconds


@needs_java
def test_ptb_words_are_those_of_pycocoevalcap(flickr8k_captions: list[list[str]]):
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = [text for several in flickr8k_captions for text in several]
    theirs = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    ours = [" ".join(words) for words in ptb_words(texts, LIMIT)]
    assert ours == [theirs[i][0] for i in range(len(texts))]


@needs_java
def test_ptb_words_split_clitics_and_drop_punctuation_and_a_text_stays_one_text(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")  # under which Java would take text to be ASCII
    texts = ["A dog's ball , isn't it ?", "", "Two\nlines\u2028of it\r\n", "Ein Café …"]
    assert ptb_words(texts, LIMIT) == [
        ["a", "dog", "'s", "ball", "is", "n't", "it"],
        [],
        ["two", "lines", "of", "it"],
        ["ein", "café"],
    ]


@needs_java
def test_meteor_is_that_of_pycocoevalcap():
    """Also where a caption is wholly right, wholly wrong or empty, and over the whole corpus."""
    from pycocoevalcap.meteor.meteor import Meteor

    hypotheses, references = sentences(0, n=30)
    right = ["a", "dog", "is", "running", "over", "the", "green", "grass"]
    hypotheses += [right, right, right[:2], ["dogs", "run", "on", "a", "lawn"], ["zebra"], []]
    references += [[right[:5], right], [right[::-1]], [right]] + [[right]] * 3
    corpus, each = Meteor().compute_score(*as_coco(hypotheses, references))
    ours = meteor(hypotheses, references, LIMIT)
    assert ours.score(ours.rows)[:, 0] == pytest.approx(100 * np.array(each), abs=1e-6)
    assert max(each) == 1 and min(each) == 0
    assert estimates([ours]) == {"meteor": pytest.approx(100 * corpus, abs=1e-6)}


# A Java of our own, to see what becomes of its answers.


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program on the path as `java`, beside a pycocoevalcap with empty jars."""
    package = tmp_path / "packages" / "pycocoevalcap"
    for folder in ("meteor", "tokenizer", "spice/lib"):
        (package / folder).mkdir(parents=True)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    (tmp_path / "bin").mkdir()

    def program(source: str) -> None:
        path = tmp_path / "bin" / "java"
        path.write_text(f"#!{sys.executable}\nimport json, sys, time\n{source}\n")
        path.chmod(0o755)

    return program


def test_spice_is_the_mean_of_what_java_says_of_each_image(fake_java, tmp_path: Path):
    """In any order; an image with nothing to compare, null, scores 0."""
    fake_java(
        "asked = json.load(open(sys.argv[sys.argv.index('-out') - 1]))\n"
        "f = {image['image_id']: len(image['refs']) / 10 for image in asked}\n"
        "assert asked[0]['test'] == 'a dog' and asked[0]['refs'] == ['a dog runs', 'dogs']\n"
        "answer = [{'image_id': i, 'scores': {'All': {'f': f[i]}}} for i in f]\n"
        "answer[2]['scores']['All']['f'] = None\n"
        "json.dump(answer[::-1], open(sys.argv[sys.argv.index('-out') + 1], 'w'))"
    )
    models = tmp_path / "packages/pycocoevalcap/spice/lib/stanford-corenlp-3.6.0-models.jar"
    hypotheses = [["a", "dog"], ["cats"], ["it"]]
    references = [[["a", "dog", "runs"], ["dogs"]], [["cats"]], [["that"]]]
    with pytest.raises(UnavailableError, match=r"stanford-corenlp-3\.6\.0, which `python -m"):
        spice(hypotheses, references, LIMIT)
    models.touch()
    metric = spice(hypotheses, references, LIMIT)
    assert metric.score(metric.rows)[:, 0].tolist() == pytest.approx([20, 10, 0])
    assert estimates([metric]) == {"spice": pytest.approx(10)}


def test_a_java_that_hangs_is_ended(fake_java):
    fake_java("time.sleep(60)")
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"METEOR: Java was not done after 0\.5 s; metrics"):
        meteor([["a"]], [[["a"]]], 0.5)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("sys.exit('Could not reserve enough space\\nmore')", "Java failed: Could not reserve"),
        ("sys.exit(3)", "Java failed: exit status 3"),
        ("print('one line')", "Java gave 1 lines for 2 captions"),
    ],
)
def test_a_java_that_fails_is_told_in_one_line(fake_java, source: str, message: str):
    fake_java(source)
    calls = (
        lambda: ptb_words(["a", "b"], LIMIT),
        lambda: meteor([["a"], ["b"]], [[["a"]], [["b"]]], LIMIT),
    )
    for call in calls:
        with pytest.raises(UnavailableError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_what_is_missing_is_named(fake_java, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = [
        ("PTB tokens", lambda: ptb_words(["a"], LIMIT)),
        ("METEOR", lambda: meteor([["a"]], [[["a"]]], LIMIT)),
        ("SPICE", lambda: spice([["a"]], [[["a"]]], LIMIT)),
    ]
    fake_java("sys.exit(1)")
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    for what, call in calls:
        with pytest.raises(UnavailableError, match=f"{what}: needs pycocoevalcap: pip install"):
            call()
    monkeypatch.setenv("PATH", str(tmp_path))
    for what, call in calls:
        with pytest.raises(UnavailableError, match=f"{what}: needs Java, and there is no java"):
            call()


def test_meteors_mark_between_captions_never_comes_from_a_caption(fake_java):
    fake_java("for line in sys.stdin: print(line.count('|||'), *[1] * 22)")
    metric = meteor([["a", "|||", "b|||c"]], [[["|||"], ["a"]]], LIMIT)
    assert metric.rows[0, 0] == 3  # behind SCORE and each of two references
