"""METEOR, SPICE and Penn Treebank tokens: Java programs that pycocoevalcap brings.

They are run here, each once for all captions, because pycocoevalcap's own calls wait for ever where
Java hangs, and write into the folder of the installed package.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from captioner.metrics.metric import Metric, Words, check_captions, mean

PTB_TOKENIZER = "Penn Treebank tokens (Stanford CoreNLP 3.4.1), lower-cased, without punctuation"
# What COCO's evaluation takes out; its brackets (-LRB- …) stay, being lower-cased by then.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
SPICE_MODELS = "stanford-corenlp-3.6.0"

# METEOR 1.5's parameters for English (Denkowski and Lavie 2014, table 3, "rank").
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase


class UnavailableError(ValueError):
    """A Java program can't be run, or failed; the message says why in one line."""


def ptb_words(texts: Sequence[str], time_limit: float) -> list[list[str]]:
    """The words of texts as COCO's evaluation has them. `time_limit` is in seconds.

    Raises UnavailableError.
    """
    jar = _jar("PTB tokens", "tokenizer/stanford-corenlp-3.4.1.jar")
    program = ["-cp", jar.name, "edu.stanford.nlp.process.PTBTokenizer"]
    lines = [" ".join(text.split()) for text in texts]  # one line each, whatever ends a line
    arguments = [*program, "-preserveLines", "-lowerCase"]
    tokens = _lines("PTB tokens", jar.parent, arguments, lines, time_limit)
    return [[word for word in line.split() if word not in PUNCTUATION] for line in tokens]


def meteor(
    hypotheses: Sequence[Words], references: Sequence[Sequence[Words]], time_limit: float
) -> Metric:
    """METEOR 1.5 of N captions in percent, as COCO's evaluation runs it.

    It is a function of sums over images, like BLEU. `time_limit` is in seconds.
    Raises ValueError as `check_captions` does, and UnavailableError.
    """
    check_captions(hypotheses, references)
    jar = _jar("METEOR", "meteor/meteor-1.5.jar")
    lines = [
        " ||| ".join(["SCORE", *(_plain(words) for words in [*several, hypothesis])])
        for hypothesis, several in zip(hypotheses, references, strict=True)
    ]
    arguments = ["-Xmx2G", "-jar", jar.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    answers = _lines("METEOR", jar.parent, arguments, lines, time_limit)
    rows = np.array([[float(number) for number in answer.split()] for answer in answers])
    # METEOR's own sum over a corpus passes over the chunk of a caption that is wholly right.
    stages = rows[:, 4:20].reshape(-1, 4, 4)
    matched = (stages[..., :2] + stages[..., 2:]).sum(axis=1)
    perfect = (matched == rows[:, :2]).all(-1) & (rows[:, 20] == 1)
    rows[perfect, 20] = 0
    return Metric(("meteor",), rows, lambda sums: 100 * _meteor(sums)[..., None])


def _meteor(sums: np.ndarray) -> np.ndarray:
    """Scores (...) from sums (..., 23) of METEOR's statistics (Denkowski and Lavie 2014, 2).

    They are the words of hypothesis and reference, then their function words; for each of four
    stages the matched content words of both, then function words; chunks; matched words of both.
    """
    stages = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    matches = STAGE_WEIGHTS @ (DELTA * stages[..., :2] + (1 - DELTA) * stages[..., 2:])  # (..., 2)
    functions = sums[..., 2:4]
    lengths = DELTA * (sums[..., :2] - functions) + (1 - DELTA) * functions
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing matches: NaN, and so 0
        precision, recall = np.moveaxis(matches / lengths, -1, 0)
        f_mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        penalty = GAMMA * (sums[..., 20] / sums[..., 21:].mean(axis=-1)) ** BETA
        return np.nan_to_num(np.maximum(0, f_mean * (1 - penalty)))


def spice(
    hypotheses: Sequence[Words], references: Sequence[Sequence[Words]], time_limit: float
) -> Metric:
    """Mean SPICE (Anderson et al. 2016) of N captions in percent. `time_limit` is in seconds.

    Raises ValueError as `check_captions` does, and UnavailableError.
    """
    check_captions(hypotheses, references)
    jar = _jar("SPICE", "spice/spice-1.0.jar")
    if not (jar.parent / "lib" / f"{SPICE_MODELS}-models.jar").exists():
        fetch = "python -m pycocoevalcap.spice.get_stanford_models"
        raise UnavailableError(f"SPICE: needs {SPICE_MODELS}, which `{fetch}` downloads")
    images = [
        {"image_id": i, "test": _plain(hypothesis), "refs": [_plain(words) for words in several]}
        for i, (hypothesis, several) in enumerate(zip(hypotheses, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "asked.json", Path(folder) / "answered.json"
        asked.write_text(json.dumps(images), encoding="utf-8")
        files = [str(asked), "-out", str(answered), "-silent"]
        _run("SPICE", jar.parent, ["-Xmx8G", "-jar", jar.name, *files], "", time_limit)
        answers = json.loads(answered.read_text(encoding="utf-8"))
    scores = {answer["image_id"]: answer["scores"]["All"]["f"] for answer in answers}
    found = np.array([scores[i] for i in range(len(images))], dtype=float)
    return mean("spice", 100 * np.nan_to_num(found))  # null: no caption says anything to compare


def _plain(words: Words) -> str:
    return " ".join(words).replace("|||", "")  # METEOR's mark between captions


def _jar(what: str, path: str) -> Path:
    if shutil.which("java") is None:
        raise UnavailableError(f"{what}: needs Java, and there is no java here")
    package = find_spec("pycocoevalcap")
    if package is None:
        raise UnavailableError(f"{what}: needs pycocoevalcap: pip install 'captioner[metrics]'")
    return Path(next(iter(package.submodule_search_locations))) / path


def _lines(
    what: str, folder: Path, arguments: Sequence[str], lines: Sequence[str], time_limit: float
) -> list[str]:
    """A line of answer for each line of input."""
    answer = _run(what, folder, arguments, "".join(f"{line}\n" for line in lines), time_limit)
    answers = answer.split("\n")[:-1]
    if len(answers) != len(lines):
        raise UnavailableError(f"{what}: Java gave {len(answers)} lines for {len(lines)} captions")
    return answers


def _run(what: str, folder: Path, arguments: Sequence[str], text: str, time_limit: float) -> str:
    """What `java arguments` prints, given a text on standard input."""
    try:
        done = subprocess.run(
            ["java", *arguments],  # noqa: S607  (whichever the user has)
            cwd=folder,
            input=text,
            capture_output=True,
            encoding="utf-8",
            timeout=time_limit,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(
            f"{what}: Java was not done after {time_limit:g} s; metrics.time_limit= gives it more"
        ) from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip() or f"exit status {error.returncode}").splitlines()
        raise UnavailableError(f"{what}: Java failed: {said[0]}") from None
    return done.stdout
