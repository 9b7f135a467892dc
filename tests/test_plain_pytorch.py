"""The data classes serve anyone's training loop: the README's lines, and a loop around them."""

from __future__ import annotations

import torch
from tiny import SIDE, SIZES
from torch import nn
from torch.utils.data import DataLoader

from captioner.data.images import Transform
from captioner.data.loader import CaptionedImages, ImageSource, collate
from captioner.data.shapes import read_shapes
from captioner.vocabulary import Vocabulary


def test_a_loop_in_plain_pytorch_learns_from_the_readers():
    data = read_shapes(**SIZES)
    vocabulary = Vocabulary.build(data.captions("train"))
    images = ImageSource(Transform(SIDE, "squash"))
    dataset = CaptionedImages(data.split("train"), vocabulary, images)
    loader = DataLoader(dataset, batch_size=4, shuffle=True, collate_fn=collate)

    look = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 32))
    embed, say = nn.Embedding(len(vocabulary), 32), nn.Linear(32, len(vocabulary))
    parameters = [*look.parameters(), *embed.parameters(), *say.parameters()]
    optimiser, losses = torch.optim.Adam(parameters, 0.03), []
    for _ in range(8):
        total = 0.0
        for batch in loader:
            seen = look(batch.images / 255)[:, None, None]  # (N, 1, 1, 32), of (N, 3, S, S)
            logits = say(torch.tanh(embed(batch.tokens) + seen))  # (N, K, T, V)
            loss = nn.functional.cross_entropy(logits[batch.mask], batch.targets[batch.mask])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) / len(loader)
        losses.append(total)
    assert losses[-1] < 0.5 * losses[0]


def test_a_batch_holds_each_caption_of_each_image_once():
    data = read_shapes(**SIZES)
    vocabulary = Vocabulary.build(data.captions("train"))
    dataset = CaptionedImages(
        data.split("train"), vocabulary, ImageSource(Transform(SIDE, "squash"))
    )
    batch = next(iter(DataLoader(dataset, len(dataset), collate_fn=collate)))
    assert batch.images.shape == (SIZES["train"], 3, SIDE, SIDE)
    assert batch.captions == len(data.captions("train"))
    written = {
        " ".join(vocabulary.decode(row)) for image in batch.targets.tolist() for row in image
    }
    assert written - {""} == {
        " ".join(vocabulary.decode(vocabulary.encode(text))) for text in data.captions("train")
    }
