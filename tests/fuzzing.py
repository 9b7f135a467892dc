"""Damaged files, made up by hypothesis, and what may come of reading one.

HYPOTHESIS_PROFILE=long tries 2,000 for each target and 50k 50,000, other ones each time
(`--hypothesis-seed=N` brings a run back); without it a few dozen, always the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

T = TypeVar("T")
BUDGETS = {"default": 25, "long": 2_000, "50k": 50_000}
SLOWEST = timedelta(seconds=20)  # a single file, on a machine that is busy with other things

ODD = (None, True, -1, 10**30, float("nan"), "", "\0", "../x", "\ud800", [], {}, [[]], {"": {}})
JSON = st.recursive(
    st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def choose_budget() -> None:
    for name, examples in BUDGETS.items():
        settings.register_profile(
            name,
            max_examples=examples,
            deadline=SLOWEST,
            derandomize=name == "default",
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# Made once, since making strategies takes longer than drawing from them.
_TIMES, _PLACE, _WAY = st.integers(1, 4), st.integers(0, 2**20), st.integers(0, 6)
_LENGTH, _BYTES = st.sampled_from((1, 1, 2, 4, 16, 256, 2**20)), st.binary(min_size=16, max_size=16)


@st.composite
def damaged(draw: Callable, whole: bytes) -> bytes:
    """A file with bytes changed, put in, left out, doubled or cut off, at up to four places."""
    content = whole
    for _ in range(draw(_TIMES)):
        at = draw(_PLACE) % (len(content) + 1)
        end = min(len(content), at + draw(_LENGTH))
        way = draw(_WAY)
        if way < 2:  # other bytes: as many, or some more
            new = draw(_BYTES)[: end - at if way == 0 else None]
        else:
            new = (b"", content[at:end] * 2, b"\0" * 4, b"\xff" * 4, b'"\n')[way - 2]
        content = content[:at] + new + content[end:]
    return content


@st.composite
def changed(draw: Callable, content: Any) -> Any:
    """A JSON value in which one place has anything else, is missing, or there twice."""
    if not isinstance(content, (dict, list)) or not content or not draw(_WAY):
        return draw(JSON)
    at, way = draw(_PLACE) % len(content), draw(_WAY)
    if isinstance(content, list):
        inside = [draw(changed(content[at]))] if way > 1 else [[], content[at : at + 1] * 2][way]
        return content[:at] + inside + content[at + 1 :]
    key = sorted(content)[at]
    if not way:
        return {name: value for name, value in content.items() if name != key}
    return {**content, key: draw(changed(content[key]))}


def read_or_refused(read: Callable[[], T], refusal: type[ValueError] = ValueError) -> T | None:
    """What is read, or None where it was refused as documented: by one line."""
    try:
        return read()
    except refusal as error:
        said = str(error)
        assert said and "\n" not in said, said
        return None
