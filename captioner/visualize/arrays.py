"""The numbers behind a caption as an `.npz` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from captioner.files import whole_file


def save_arrays(caption: Any, path: str | Path) -> None:
    """Save what the decoder did at each of T words; `np.load` reads it without pickle.

    Keys: `words` (T,) unicode, `log_probs` (T,), `alpha` (T, H, W), the centres of its locations
    as fractions of the square that the encoder saw, `rows` (H,) and `columns` (W,), and where the
    model has them `beta` (T,) and one `gates_<name>` (T, hidden) per gate. All numbers are float32.

    Args:
        caption: a `Caption`, or anything with its attributes.
    """
    numbers = {"log_probs": caption.word_log_probs, "alpha": caption.alpha}
    numbers |= caption.centres._asdict()
    if caption.beta is not None:
        numbers["beta"] = caption.beta
    numbers |= {f"gates_{name}": gate for name, gate in caption.gates.items()}
    arrays = {name: np.asarray(values, np.float32) for name, values in numbers.items()}
    with whole_file(Path(path)) as part, part.open("wb") as file:  # a bare name would gain .npz
        np.savez_compressed(file, words=np.array(caption.words, dtype=str), **arrays)
