"""A model card: what a checkpoint is, told from its own options, scores and words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from captioner.config import TrainOptions
from captioner.vocabulary import TOKENIZER, Vocabulary

_DATA = {
    "shapes": "generated scenes of coloured shapes",
    "flickr8k": "Flickr8k",
    "karpathy": "a data set in Karpathy's JSON",
    "coco": "COCO captions",
    "csv": "a table of images and captions",
    "webdataset": "shards of images and captions",
}
_CARD = """---
library_name: captioner
pipeline_tag: image-to-text
tags:
- image-captioning
- attention
- {encoder}
---

# An image captioner that shows where it looked

The encoder, {encoder}, turns a picture into a grid of annotation vectors; a decoder looks at them
anew before every word, after [Show, Attend and Tell](https://arxiv.org/abs/1502.03044).

```python
from captioner.captioner import Captioner

captioner = Captioner.load("PATH OR OWNER/NAME")
caption = captioner("photo.jpg")
caption.text, caption.alpha, caption.beta, caption.gates
```

## Data

Trained on {data}{limit}. It knows {words} words: the {tokenizer} that occur at least \
{min_count} times in the training captions.

## Recipe

Every option stands in `config.yaml`.

| | |
|---|---|
{recipe}

## Scores

{scores}

## Limits

{limits}
"""


def model_card(options: TrainOptions, metrics: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    """Markdown, with the front matter that Hugging Face's Hub reads."""
    data = options.data
    return _CARD.format(
        encoder=options.encoder.name,
        data=_DATA[data.kind],
        limit=f", the first {data.limit} images of each split" if data.limit else "",
        words=len(vocabulary),
        tokenizer=TOKENIZER,
        min_count=data.min_count,
        recipe="\n".join(f"| {name} | {value} |" for name, value in _recipe(options)),
        scores="\n".join(_scores(metrics, options.training.best)),
        limits="\n".join(f"- {limit}" for limit in _limits(options)),
    )


def _recipe(options: TrainOptions) -> Iterator[tuple[str, object]]:
    encoder, decoder, training = options.encoder, options.decoder, options.training
    part = f" above {encoder.fixed_node}" if encoder.fixed_node else ""
    tuned = f"trained{part} from epoch {encoder.fine_tune_from}" if encoder.tuned else "frozen"
    start = "random weights" if encoder.weights is None else "pretrained weights"
    if options.start is not None:
        start = "weights of an earlier run"
    yield "encoder", f"{encoder.name}, {start}, {tuned}"
    yield "pictures", f"{encoder.image_size} × {encoder.image_size} pixels, {encoder.fit}"
    yield "attention", decoder.attention_kind
    yield "gate β", decoder.beta
    yield "cell", f"{decoder.cell}, {decoder.hidden} units"
    yield "dropout", decoder.dropout
    yield "objective", options.loss.objective
    yield "doubly stochastic penalty λ", f"{options.loss.penalty:g} per {options.loss.per}"
    yield "label smoothing", options.loss.label_smoothing
    yield "epochs, at most", training.epochs
    yield "images per update", training.batch_images
    rate = f"peak {training.learning_rate:g}, {training.schedule}"
    yield "optimiser", f"{training.optimizer}, {rate}, weight decay {training.weight_decay:g}"
    yield "averaged weights", training.ema or "none"
    yield "seed", training.seed


def _scores(metrics: Mapping[str, Any], best: str) -> Iterator[str]:
    shown = {name: value for name, value in metrics.items() if isinstance(value, float)}
    for hidden in ("loss", "penalty", "reward", "baseline", "captions_per_second", "seconds"):
        shown.pop(hidden, None)  # of training
    if not shown:
        yield "None are stored with this checkpoint."
        return
    epoch = f" after epoch {metrics['epoch']}" if "epoch" in metrics else ""
    yield f"On the validation split{epoch}, decoded freely; it chose this checkpoint by {best}, so"
    yield "a test split would be a fairer judge."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield from (f"| {name} | {value:.2f} |" for name, value in shown.items())


def _limits(options: TrainOptions) -> Iterator[str]:
    size = options.encoder.image_size
    if options.data.kind == "shapes":
        yield "It has seen drawn shapes alone; of a photograph it says nothing true."
    else:
        yield "It names what its training captions name, and has their errors and their bias."
        yield "Of people, places and things unlike those it was trained on it may say anything."
    yield f"It sees {size} × {size} pixels: what is small in the picture is lost."
    yield "Words outside its vocabulary are never written, and it does not say when it is unsure."
    yield "Attention tells where the decoder looked, not why it wrote a word."
