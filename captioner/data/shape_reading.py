"""Reading captions of generated scenes: is it a sentence, is it true, and where is what it names?

A small recursive parser of the grammar in `shape_captions.py`. It takes every sentence of the
grammar, in any order and style, not only the five that the writer would choose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from captioner.data.drawing import COLOURS
from captioner.data.records import Mention
from captioner.data.shape_captions import (
    BESIDE_IT,
    BESIDE_THEM,
    NUMBERS,
    PLACES,
    PLURALS,
    RELATIONS,
    SIZES,
    Group,
    direction,
    place,
)

NOUNS = {noun: kind for kind, plural in PLURALS.items() for noun in (kind, plural)}
COUNTS = {word: count for count, word in NUMBERS.items()}
OPENERS = ("there is", "there are", "this picture shows", "you can see")


def _meanings(wordings: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {phrase: meaning for meaning, phrases in wordings.items() for phrase in phrases}


@dataclass
class Reading:
    """What became of a caption that was held against its scene.

    `problem` says in one line why it is not true. `mentions` holds the kind words that with their
    colour name a group of the scene, with the boxes of its objects, also where the caption as a
    whole is false.
    """

    true: bool
    problem: str | None
    mentions: list[Mention]


def read(words: Sequence[str], groups: Sequence[Group]) -> Reading:
    """Holds a caption, as lower-cased words without punctuation, against a scene.

    True means: a sentence of the grammar that names each group exactly once, with its number,
    size, colour and kind, names nothing else, and states no place and no relation that is wrong.
    """
    found = mentions(words, groups)
    try:
        statement = Parser(words).caption()
        _check(statement, groups)
    except UntrueError as error:
        return Reading(False, str(error), found)
    return Reading(True, None, found)


def mentions(words: Sequence[str], groups: Sequence[Group]) -> list[Mention]:
    """The `mentions` of a `Reading`, without the parsing."""
    by_name = {(group.colour, group.kind): group for group in groups}
    names = [(colour, NOUNS.get(noun)) for colour, noun in pairwise(words)]
    return [
        Mention(index, by_name[name].boxes())
        for index, name in enumerate(names, start=1)
        if name in by_name
    ]


# What a sentence says.


class UntrueError(ValueError):
    """The caption is not a sentence, or says what is not so."""


class Thing(NamedTuple):
    count: int
    size: str
    colour: str
    kind: str

    @property
    def plural(self) -> bool:
        return self.count > 1

    @property
    def name(self) -> tuple[str, str]:
        return self.colour, self.kind


class Claim(NamedTuple):
    """`subject` lies `where`: in a place, or in a direction from `other`."""

    subject: Thing
    where: str
    other: Thing | None = None


@dataclass
class Statement:
    things: list[Thing] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)


class Parser:
    """Reads one caption from left to right; each method takes the words of one rule."""

    def __init__(self, words: Sequence[str]):
        self.words = list(words)
        self.position = 0
        self.said = Statement()

    def caption(self) -> Statement:
        """Raises UntrueError, naming the word, where the words are no sentence of the grammar."""
        opener = self._take(OPENERS)
        head = self._thing()
        if opener is None:
            self._verb(head)
        elif opener.startswith("there") and (opener == "there are") != head.plural:
            raise UntrueError(f"says {opener!r} of {head.count} {head.kind}")
        if opener and self._take(["with"]):
            self._company(head)
        elif opener and self._take(["and"]):
            self._listing(head)
        else:
            self._facts(head)
        if self.position < len(self.words):
            raise self._unexpected("the end")
        return self.said

    def _company(self, head: Thing) -> None:
        while True:
            other = self._thing()
            self._claim(other, self._beside(head), head)
            if not self._take(["and"]):
                return

    def _listing(self, head: Thing) -> None:
        while True:
            where = self._beside(head)
            self._claim(self._thing(), where, head)
            if not self._take(["and"]):
                return

    def _facts(self, subject: Thing) -> None:
        places, relations = _meanings(PLACES), _meanings(RELATIONS)
        while True:
            where = self._expect([*places, *relations], "a place or a relation")
            if where in places:
                self._claim(subject, places[where])
            else:
                other = self._thing()
                self._claim(subject, relations[where], other)
                if self._take(["which"]):
                    self._verb(other)
                    self._facts(other)
                    return
            if not self._take(["and"]):
                return

    def _claim(self, subject: Thing, where: str, other: Thing | None = None) -> None:
        self.said.claims.append(Claim(subject, where, other))

    def _thing(self) -> Thing:
        count = COUNTS[self._expect(COUNTS, "a number")]
        size = self._expect(SIZES, "a size")
        colour = self._expect(COLOURS, "a colour")
        nouns = PLURALS.values() if count > 1 else PLURALS
        kind = NOUNS[self._expect(nouns, "a kind in the plural" if count > 1 else "a kind")]
        thing = Thing(count, size, colour, kind)
        self.said.things.append(thing)
        return thing

    def _verb(self, subject: Thing) -> None:
        verbs = ["are", "sit"] if subject.plural else ["is", "sits"]
        self._expect(verbs, " or ".join(verbs))

    def _beside(self, head: Thing) -> str:
        wordings = _meanings(BESIDE_THEM if head.plural else BESIDE_IT)
        return wordings[self._expect(wordings, "a place beside it or them")]

    def _take(self, phrases: Iterable[str]) -> str | None:
        """Takes the longest of the phrases that comes next, if any does."""
        for phrase in sorted(phrases, key=len, reverse=True):
            following = self.words[self.position :][: phrase.count(" ") + 1]
            if " ".join(following) == phrase:
                self.position += len(following)
                return phrase
        return None

    def _expect(self, phrases: Iterable[str], what: str) -> str:
        phrase = self._take(phrases)
        if phrase is None:
            raise self._unexpected(what)
        return phrase

    def _unexpected(self, what: str) -> UntrueError:
        found = [*self.words, "the end"][self.position]
        return UntrueError(f"has {found!r} as word {self.position + 1}, expected {what}")


# Holding it against the scene.


def _check(statement: Statement, groups: Sequence[Group]) -> None:
    """Raises UntrueError at the first thing that is not so."""
    by_name = {(group.colour, group.kind): group for group in groups}
    for number, thing in enumerate(statement.things):
        group, name = by_name.get(thing.name), " ".join(thing.name)
        if group is None:
            raise UntrueError(f"says {name}, the scene has no {name}")
        if thing.size != group.size:
            raise UntrueError(f"says {thing.size} {name}, it is {group.size}")
        if thing.count != group.count:
            raise UntrueError(f"says {thing.count} {name}, there are {group.count}")
        if thing in statement.things[:number]:
            raise UntrueError(f"says {name} twice")
    named = {thing.name for thing in statement.things}
    missing = [group.words() for name, group in by_name.items() if name not in named]
    if missing:
        raise UntrueError(f"does not mention {' or '.join(missing)}")
    for claim in statement.claims:
        _check_claim(claim, by_name)


def _check_claim(claim: Claim, by_name: dict[tuple[str, str], Group]) -> None:
    subject, other = claim.subject, claim.other
    box = by_name[subject.name].box()
    if other is None:
        found, wordings, relatum = place(box), PLACES, ""
    else:
        found, wordings = direction(box, by_name[other.name].box()), RELATIONS
        relatum = " the " + " ".join(other.name)
    if found != claim.where:
        said = f"the {' '.join(subject.name)} {wordings[claim.where][0]}{relatum}"
        raise UntrueError(f"says {said}, it is {found or 'not clearly anywhere'}")
