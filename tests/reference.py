"""The decoder of Xu et al. 2015 in plain NumPy, loop by loop: what the fast code must equal.

Weights are a dictionary of float64 arrays, named as in the paper; a matrix is (outputs, inputs).
What is not in the dictionary is not in the model: no `f_beta`, no gate; no `L_z`, no deep output;
no `f_shared` or `P`, no layer before the initial heads and no projected annotations; no `f_init_c`,
no c_0 apart from h_0. What came after the paper, other attention and other cells, is named by kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Weights = dict[str, np.ndarray]


class Step(NamedTuple):
    logits: np.ndarray  # (V,)
    alpha: np.ndarray  # (L,)
    beta: np.ndarray  # (1,) or (D,)
    input: np.ndarray  # (H,)
    forget: np.ndarray  # (H,)
    output: np.ndarray  # (H,)
    candidate: np.ndarray  # (H,)
    cell: np.ndarray  # (H,)
    hidden: np.ndarray  # (H,)


def affine(matrix: np.ndarray, vector: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    result = np.zeros(len(matrix))
    for row in range(len(matrix)):
        for column in range(len(vector)):
            result[row] += matrix[row, column] * vector[column]
        if bias is not None:
            result[row] += bias[row]
    return result


def sigmoid(values: np.ndarray) -> np.ndarray:
    return np.array([1 / (1 + math.exp(-value)) for value in values])


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.array([math.exp(value) for value in values])
    return powers / sum(powers)


def project(weights: Weights, annotations: np.ndarray) -> np.ndarray:
    """Not in the paper: P a_i + b, each brought to mean 0 and variance 1, scaled and shifted."""
    if "P" not in weights:
        return annotations
    rows = []
    for annotation in annotations:
        row = affine(weights["P"], annotation, weights["b_P"])
        variance = sum((row - sum(row) / len(row)) ** 2) / len(row)
        row = (row - sum(row) / len(row)) / math.sqrt(variance + 1e-5)
        rows.append(row * weights["gain"] + weights["shift"])
    return np.array(rows)


def start(weights: Weights, annotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """h_0 and c_0, from the mean annotation vector."""
    mean = sum(annotations) / len(annotations)
    if "f_shared" in weights:
        mean = np.tanh(affine(weights["f_shared"], mean, weights["b_shared"]))
    hidden = np.tanh(affine(weights["f_init_h"], mean, weights["b_init_h"]))
    if "f_init_c" not in weights:
        return hidden, hidden
    cell = np.tanh(affine(weights["f_init_c"], mean, weights["b_init_c"]))
    return hidden, cell


BENDS = {"tanh": math.tanh, "relu": lambda value: max(value, 0.0)}


def score(v: np.ndarray, seen: np.ndarray, asked: np.ndarray, nonlinearity: str) -> float:
    """Equation (4): e_ti, of W_a a_i and W_h h_{t-1} + b."""
    return sum(v[j] * BENDS[nonlinearity](seen[j] + asked[j]) for j in range(len(v)))


def expectation(alpha: np.ndarray, annotations: np.ndarray) -> np.ndarray:
    """Equation (13): Σ_i α_i a_i."""
    context = np.zeros(annotations.shape[1])
    for i, annotation in enumerate(annotations):
        context += alpha[i] * annotation
    return context


class Seen(NamedTuple):
    """What attention may look with: the annotations, E y_{t-1}, h_{t-1} and c_{t-1}."""

    annotations: np.ndarray  # (L, D)
    word: np.ndarray  # (E,)
    hidden: np.ndarray  # (H,)
    cell: np.ndarray  # (H,)


class Look(NamedTuple):
    alpha: np.ndarray  # (L,)
    context: np.ndarray  # (D,)
    beta: np.ndarray | None = None  # (1,)


def soft(weights: Weights, seen: Seen, nonlinearity: str, heads: int) -> Look:
    """Equations (4), (5) and (13): α over the annotations, and their expectation ẑ."""
    asked = affine(weights["W_h"], seen.hidden, weights["b_att"])
    keys = [affine(weights["W_a"], annotation) for annotation in seen.annotations]
    alpha = softmax([score(weights["v"], key, asked, nonlinearity) for key in keys])
    return Look(alpha, expectation(alpha, seen.annotations))


def hard(weights: Weights, seen: Seen, nonlinearity: str, heads: int) -> Look:
    """Section 4.1 where nothing is drawn: the likeliest location is read."""
    alpha = soft(weights, seen, nonlinearity, heads).alpha
    return Look(alpha, seen.annotations[list(alpha).index(max(alpha))])


def none(weights: Weights, seen: Seen, nonlinearity: str, heads: int) -> Look:
    """The mean annotation."""
    alpha = np.full(len(seen.annotations), 1 / len(seen.annotations))
    return Look(alpha, sum(seen.annotations) / len(seen.annotations))


def headed(weights: Weights, seen: Seen, heads: int, score_of: Callable) -> Look:
    """Each head with its share of the rows of W_a, W_h and V; contexts joined, α averaged."""
    names, alphas, contexts = ("W_a", "W_h", "b_att", "V"), [], []
    shares = zip(*(np.split(weights[name], heads) for name in names), strict=True)
    for j, (key, ask, bias, value) in enumerate(shares):
        query = affine(ask, seen.hidden, bias)
        scores = [score_of(j, affine(key, each), query) for each in seen.annotations]
        values = np.array([affine(value, each) for each in seen.annotations])
        alphas.append(softmax(scores))
        contexts.append(expectation(alphas[-1], values))
    return Look(sum(alphas) / heads, np.concatenate(contexts))


def dot(weights: Weights, seen: Seen, nonlinearity: str, heads: int) -> Look:
    """Vaswani et al. 2017, sections 3.2.1 and 3.2.2."""

    def scaled(j: int, key: np.ndarray, query: np.ndarray) -> float:
        return sum(key * query) / math.sqrt(len(key))

    return headed(weights, seen, heads, scaled)


def multihead(weights: Weights, seen: Seen, nonlinearity: str, heads: int) -> Look:
    """Equation (4) in each head."""

    def additive(j: int, key: np.ndarray, query: np.ndarray) -> float:
        return score(weights["v"][j], key, query, nonlinearity)

    return headed(weights, seen, heads, additive)


def adaptive(weights: Weights, seen: Seen, nonlinearity: str, heads: int) -> Look:
    """Lu et al. 2017, section 2.3: the softmax of equation (11) runs over L + 1 scores."""
    drive = affine(weights["W_g"], np.concatenate([seen.word, seen.hidden]), weights["b_g"])
    sentinel = sigmoid(drive) * np.tanh(seen.cell)
    asked = affine(weights["W_h"], seen.hidden, weights["b_att"])
    keys = [affine(weights["W_a"], annotation) for annotation in seen.annotations]
    keys.append(affine(weights["W_s"], sentinel))
    *shares, rest = softmax([score(weights["v"], key, asked, nonlinearity) for key in keys])
    context = expectation(shares, seen.annotations) + rest * affine(weights["P_s"], sentinel)
    return Look(np.array(shares) / sum(shares), context, np.array([1 - rest]))


KINDS = (soft, hard, none, dot, multihead, adaptive)
LOOKS = {kind.__name__: kind for kind in KINDS}


class Written(NamedTuple):
    """What a cell decides, and its memories afterwards. Each (H,)."""

    input: np.ndarray
    forget: np.ndarray
    output: np.ndarray
    candidate: np.ndarray
    cell: np.ndarray
    hidden: np.ndarray


def drives(
    weights: Weights, word: np.ndarray, hidden: np.ndarray, context: np.ndarray
) -> list[np.ndarray]:
    """Equation (1) before its bends: rows of the affine map, H at a time."""
    affined = (
        affine(weights["T_y"], word)
        + affine(weights["T_h"], hidden)
        + affine(weights["T_z"], context)
        + weights["b"]
    )
    return np.split(affined, len(affined) // len(hidden))


def lstm(
    weights: Weights, word: np.ndarray, hidden: np.ndarray, context: np.ndarray, cell: np.ndarray
) -> Written:
    """Equations (1)–(3)."""
    i, f, o, g = drives(weights, word, hidden, context)
    return remembered(sigmoid(i), sigmoid(f), sigmoid(o), g, cell)


def remembered(
    i: np.ndarray, f: np.ndarray, o: np.ndarray, g: np.ndarray, cell: np.ndarray
) -> Written:
    """Equations (2) and (3), with g still to be bent."""
    g = np.array([math.tanh(value) for value in g])
    new_cell = np.array([f[j] * cell[j] + i[j] * g[j] for j in range(len(cell))])
    new_hidden = np.array([o[j] * math.tanh(new_cell[j]) for j in range(len(cell))])
    return Written(i, f, o, g, new_cell, new_hidden)


def peephole(
    weights: Weights, word: np.ndarray, hidden: np.ndarray, context: np.ndarray, cell: np.ndarray
) -> Written:
    """Gers and Schmidhuber 2000: o sees the new cell, so it comes last."""
    i, f, o, g = drives(weights, word, hidden, context)
    i, f = sigmoid(i + weights["p_i"] * cell), sigmoid(f + weights["p_f"] * cell)
    new_cell = remembered(i, f, np.zeros(len(cell)), g, cell).cell
    return remembered(i, f, sigmoid(o + weights["p_o"] * new_cell), g, cell)


def coupled(
    weights: Weights, word: np.ndarray, hidden: np.ndarray, context: np.ndarray, cell: np.ndarray
) -> Written:
    """Greff et al. 2017, CIFG: i = 1 − f."""
    f, o, g = drives(weights, word, hidden, context)
    return remembered(1 - sigmoid(f), sigmoid(f), sigmoid(o), g, cell)


def gru(
    weights: Weights, word: np.ndarray, hidden: np.ndarray, context: np.ndarray, cell: np.ndarray
) -> Written:
    """Cho et al. 2014, (5)–(8): update gate z as the forget gate, reset gate r as the output."""
    z, r, _ = drives(weights, word, hidden, context)
    z, r = sigmoid(z), sigmoid(r)
    g = np.tanh(drives(weights, word, r * hidden, context)[2])
    new = np.array([z[j] * hidden[j] + (1 - z[j]) * g[j] for j in range(len(hidden))])
    return Written(1 - z, z, r, g, new, new)


CELLS = {"lstm": lstm, "peephole": peephole, "coupled": coupled, "gru": gru}


def step(
    weights: Weights,
    annotations: np.ndarray,
    word: int,
    hidden: np.ndarray,
    cell: np.ndarray,
    nonlinearity: str = "tanh",
    output_tanh: bool = False,
    kind: str = "soft",
    heads: int = 1,
    unit: str = "lstm",
    scaled: bool = False,
) -> Step:
    """One word further: (4)–(6), the gate β of 4.2.1, (1)–(3), and the scores of (7)."""
    embedded = weights["E"][word]
    seen = Seen(annotations, embedded, hidden, cell)
    alpha, context, beta = LOOKS[kind](weights, seen, nonlinearity, heads)
    if beta is None:
        beta = np.ones(1)
        if "f_beta" in weights:
            beta = sigmoid(affine(weights["f_beta"], hidden, weights["b_beta"]))
        context = beta * context
    read = math.sqrt(len(embedded)) * embedded if scaled else embedded
    written = CELLS[unit](weights, read, hidden, context, cell)
    total = affine(weights["L_h"], written.hidden, weights["b_h"])
    if "L_z" in weights:
        total = embedded + total + affine(weights["L_z"], context)
    if output_tanh:
        total = np.tanh(total)
    logits = affine(weights["L_o"], total, weights.get("b_o"))
    return Step(logits, alpha, beta, *written)


def cross_entropy(logits: list[np.ndarray], targets: list[int]) -> float:
    """The first term of equation (14) for one caption: −Σ_t log p(y_t)."""
    return -sum(
        math.log(softmax(scores)[target]) for scores, target in zip(logits, targets, strict=True)
    )


def penalty(alphas: list[np.ndarray]) -> float:
    """The second term of equation (14) for one caption, without λ: Σ_i (1 − Σ_t α_ti)²."""
    total = 0.0
    for i in range(len(alphas[0])):
        total += (1 - sum(alpha[i] for alpha in alphas)) ** 2
    return total
