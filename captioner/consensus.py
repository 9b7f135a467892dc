"""Which caption of a search says best what all of them say: minimum Bayes risk.

The likeliest caption tends to be short and bare, for what can be said in many ways is likely as a
whole and unlikely in each. Kumar and Byrne (2004) take what is expected to be most like the truth,
Devlin et al. (2015) what is most like the other captions; both are this, with a search's captions
for all that could be said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics.cider import similarity, vector


def agreement(
    captions: Sequence[Sequence[int]], scores: Sequence[float], sharpness: float
) -> np.ndarray:
    """How alike each of K captions is to all K on average, (K,), from 0 to 1.

    captions: word ids. In that average a caption weighs exp(sharpness · its score). Two are as
    alike as CIDEr-D has it where every n-gram is equally rare, so that a model needs to know
    nothing of what it was trained on.
    """
    vectors = [vector(caption, {}, otherwise=1.0) for caption in captions]
    alike = np.array([[similarity(one, other) for other in vectors] for one in vectors])
    weights = np.exp(sharpness * (np.array(scores) - max(scores)))
    return alike @ weights / weights.sum()
