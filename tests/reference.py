"""The decoder of Xu et al. 2015 in plain NumPy, loop by loop: what the fast code must equal.

Weights are a dictionary of float64 arrays, named as in the paper; a matrix is (outputs, inputs).
What is not in the dictionary is not in the model: no `f_beta`, no gate; no `L_z`, no deep output;
no `f_shared` or `P`, no layer before the initial heads and no projected annotations.
"""

from __future__ import annotations

import math
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
    cell = np.tanh(affine(weights["f_init_c"], mean, weights["b_init_c"]))
    return hidden, cell


def attend(
    weights: Weights, annotations: np.ndarray, hidden: np.ndarray, nonlinearity: str
) -> tuple[np.ndarray, np.ndarray]:
    """Equations (4), (5) and (13): α over the annotations (L, D), and their expectation ẑ."""
    bend = {"tanh": math.tanh, "relu": lambda value: max(value, 0.0)}[nonlinearity]
    scores = np.zeros(len(annotations))
    for i, annotation in enumerate(annotations):
        seen, asked = affine(weights["W_a"], annotation), affine(weights["W_h"], hidden)
        for j in range(len(seen)):
            scores[i] += weights["v"][j] * bend(seen[j] + asked[j] + weights["b_att"][j])
    alpha = softmax(scores)
    context = np.zeros(annotations.shape[1])
    for i, annotation in enumerate(annotations):
        context += alpha[i] * annotation
    return alpha, context


def lstm(
    weights: Weights, word: np.ndarray, hidden: np.ndarray, context: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Equations (1)–(3): i, f, o, g, c_t and h_t."""
    affined = (
        affine(weights["T_y"], word)
        + affine(weights["T_h"], hidden)
        + affine(weights["T_z"], context)
        + weights["b"]
    )
    size = len(cell)
    i, f, o = (sigmoid(affined[gate * size : (gate + 1) * size]) for gate in range(3))
    g = np.array([math.tanh(value) for value in affined[3 * size :]])
    new_cell = np.array([f[j] * cell[j] + i[j] * g[j] for j in range(size)])
    new_hidden = np.array([o[j] * math.tanh(new_cell[j]) for j in range(size)])
    return i, f, o, g, new_cell, new_hidden


def step(
    weights: Weights,
    annotations: np.ndarray,
    word: int,
    hidden: np.ndarray,
    cell: np.ndarray,
    nonlinearity: str = "tanh",
    output_tanh: bool = False,
) -> Step:
    """One word further: (4)–(6), the gate β of 4.2.1, (1)–(3), and the scores of (7)."""
    alpha, context = attend(weights, annotations, hidden, nonlinearity)
    beta = np.ones(1)
    if "f_beta" in weights:
        beta = sigmoid(affine(weights["f_beta"], hidden, weights["b_beta"]))
    context = beta * context
    embedded = weights["E"][word]
    *gates, cell, hidden = lstm(weights, embedded, hidden, context, cell)
    total = affine(weights["L_h"], hidden, weights["b_h"])
    if "L_z" in weights:
        total = embedded + total + affine(weights["L_z"], context)
    if output_tanh:
        total = np.tanh(total)
    logits = affine(weights["L_o"], total, weights.get("b_o"))
    return Step(logits, alpha, beta, *gates, cell, hidden)


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
