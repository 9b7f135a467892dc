"""Words and their numbers."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

PAD, START, END, UNKNOWN = range(4)
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")
UNWRITTEN = (PAD, START, UNKNOWN)  # what no caption holds that a model writes
TOKENIZER = "lower-cased words without punctuation"

_CLOSED_CLASSES = """
    a an the this that these those some any each every both either another other others one ones
    i me my we us our you your he him his she her hers it its they them their who whom whose which
    what there here himself herself itself themselves something someone
    in on of with at by for from to into onto over under up down out off through across along around
    between behind beside besides near above below against about after before during inside outside
    upon toward towards within without next front
    and or but nor so as than while when where if because
    is are was were be been being am has have had having do does did doing can could will would may
    might must shall should not no very just only also too all more most
"""
FUNCTION_WORDS = frozenset(_CLOSED_CLASSES.split())
"""English words of closed classes, which name nothing that could be looked at."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def words(text: str) -> list[str]:
    """Lower-cased words of a text, without punctuation: `"A dog's ball ."` → `a dog's ball`.

    Hyphens and apostrophes inside a word stay.
    """
    text = unicodedata.normalize("NFC", text.lower())  # an accent of its own would split the word
    return _WORD.findall(text.replace("’", "'"))


class Vocabulary:
    """A two-way map between words and ids; ids 0–3 are `<pad>`, `<start>`, `<end>`, `<unk>`."""

    def __init__(self, entries: Iterable[str]):
        """`entries` are the words after the four specials, in the order of their ids.

        Raises ValueError when a word occurs twice.
        """
        self.entries = [*SPECIALS, *entries]
        self._ids = {word: i for i, word in enumerate(self.entries)}
        if len(self._ids) != len(self.entries):
            twice = Counter(self.entries).most_common(1)[0][0]
            raise ValueError(f"the vocabulary holds {twice!r} twice; each word may stand once")

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int = 1) -> Vocabulary:
        """Words seen at least `min_count` times, most frequent first, ties in alphabetical order.

        Give it the captions of the training split alone: a word that only validation or test
        captions hold would leak into the model's output.
        """
        counts = Counter(word for caption in captions for word in words(caption))
        kept = sorted(
            (w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w)
        )
        if not kept:
            raise ValueError(f"no word occurs {min_count} times in the training captions")
        return cls(kept)

    def __len__(self) -> int:
        return len(self.entries)

    def encode(self, caption: str) -> list[int]:
        """Ids of a caption's words, then `<end>`; words outside the vocabulary become `<unk>`."""
        return [*(self._ids.get(word, UNKNOWN) for word in words(caption)), END]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of ids, cut at the first `<end>`, without `<start>` and `<pad>`."""
        decoded = []
        for i in ids:
            if i == END:
                break
            if i not in (PAD, START):
                decoded.append(self.entries[i])
        return decoded

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the entries: equal only for equal vocabularies."""
        return hashlib.sha256("\n".join(self.entries).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        content = {
            "hash": self.hash,
            "tokenizer": TOKENIZER,
            "words": self.entries[len(SPECIALS) :],
        }
        Path(path).write_text(json.dumps(content, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Raises ValueError when the file is no vocabulary or its words do not give its hash."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            vocabulary, stored = cls(content["words"]), content["hash"]
            found = vocabulary.hash
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is no vocabulary of captioner: {error!r}") from error
        if found != stored:
            raise ValueError(f"{path} was changed: its words hash to {found}, it says {stored}")
        return vocabulary
