"""The paper's decoder as a textbook writes it: what ours is timed against, and must equal.

One image per caption, each step whole: the annotations are projected anew for every word, and the
output layer stands inside the loop over time. Nothing here is for use elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.models.decoder import Decoder
from captioner.vocabulary import END, PAD, START, UNKNOWN


class TextbookDecoder(nn.Module):
    """Soft attention, scalar β, LSTM and deep output of Xu et al. 2015, equations (1)–(7), (13)."""

    def __init__(
        self,
        vocabulary: int,
        annotation: int,
        hidden: int,
        embedding: int,
        attention: int,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.init_hidden = nn.Linear(annotation, hidden)
        self.init_cell = nn.Linear(annotation, hidden)
        self.attend_annotation = nn.Linear(annotation, attention, bias=False)
        self.attend_hidden = nn.Linear(hidden, attention)
        self.score = nn.Linear(attention, 1, bias=False)
        self.beta = nn.Linear(hidden, 1)
        self.lstm = nn.LSTMCell(embedding + annotation, hidden)
        self.output_hidden = nn.Linear(hidden, embedding)
        self.output_context = nn.Linear(annotation, embedding, bias=False)
        self.output_words = nn.Linear(embedding, vocabulary, bias=False)
        self.dropout = nn.Dropout(dropout)

    def start(self, annotations: Tensor) -> tuple[Tensor, Tensor]:
        """h_0 and c_0, (B, H), of annotations (B, L, D)."""
        mean = annotations.mean(1)
        return torch.tanh(self.init_hidden(mean)), torch.tanh(self.init_cell(mean))

    def step(
        self, words: Tensor, hidden: Tensor, cell: Tensor, annotations: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """From the words before, (B,), to logits (B, V), h_t, c_t (B, H) and α_t (B, L)."""
        embedded = self.dropout(self.embedding(words))
        keys, query = self.attend_annotation(annotations), self.attend_hidden(hidden)
        alpha = self.score(torch.tanh(keys + query[:, None])).squeeze(2).softmax(1)
        context = (alpha[:, :, None] * annotations).sum(1)
        context = torch.sigmoid(self.beta(hidden)) * context
        hidden, cell = self.lstm(torch.cat([embedded, context], dim=1), (hidden, cell))
        total = embedded + self.output_hidden(self.dropout(hidden)) + self.output_context(context)
        return self.output_words(self.dropout(total)), hidden, cell, alpha

    def loss(self, annotations: Tensor, targets: Tensor) -> Tensor:
        """Equation (14) with λ = 1, a mean over captions.

        annotations: (B, L, D). targets: (B, T), `<pad>` behind `<end>`, the longest caption first,
        so that those which are still going on stand first at every step.
        """
        hidden, cell = self.start(annotations)
        words = torch.full_like(targets[:, 0], START)
        attended = annotations.new_zeros(annotations.shape[:2])
        loss = annotations.new_zeros(())
        for t in range(targets.shape[1]):
            alive = int((targets[:, t] != PAD).sum())
            logits, hidden, cell, alpha = self.step(
                words[:alive], hidden[:alive], cell[:alive], annotations[:alive]
            )
            words = targets[:alive, t]
            loss = loss + F.cross_entropy(logits, words, reduction="sum")
            attended = attended + F.pad(alpha, (0, 0, 0, len(targets) - alive))
        return (loss + (1 - attended).square().sum()) / len(targets)

    @torch.no_grad()
    def search(
        self, annotations: Tensor, width: int, max_length: int, length_penalty: float
    ) -> list[int]:
        """The best caption's ids, by beam search, of one image's annotations (L, D)."""
        annotations = annotations.expand(width, -1, -1)
        hidden, cell = self.start(annotations[:1])
        live, totals, ended = [[]], annotations.new_zeros(1), []
        for length in range(1, max_length + 1):
            words = torch.tensor([(START, *ids)[-1] for ids in live], device=annotations.device)
            logits, hidden, cell, _ = self.step(words, hidden, cell, annotations[: len(live)])
            log_probs = logits.log_softmax(1)
            log_probs[:, [PAD, START, UNKNOWN] + [END] * (length == 1)] = float("-inf")
            sums = (totals[:, None] + log_probs).flatten()
            best = (sums / length**length_penalty).topk(width)
            going = [
                (score, [*live[place // logits.shape[1]], place % logits.shape[1]], place)
                for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
            beam = sorted([*ended, *going], key=lambda entry: -entry[0])[:width]
            ended = [entry for entry in beam if entry[1][-1] == END]
            going = [entry for entry in beam if entry[1][-1] != END]
            if not going:
                break
            live = [ids for _, ids, _ in going]
            places = torch.tensor([place for *_, place in going], device=annotations.device)
            totals, rows = sums[places], places // logits.shape[1]
            hidden, cell = hidden[rows], cell[rows]
        return [word for word in beam[0][1] if word != END]


def as_textbook(decoder: Decoder, dropout: float = 0.0) -> TextbookDecoder:
    """The textbook's decoder with the weights of ours, which must be the paper's model."""
    has = {name: value.detach() for name, value in decoder.state_dict().items()}
    vocabulary, embedding = has["embedding.weight"].shape
    attention, annotation = has["attention.key.weight"].shape
    hidden = has["init.hidden.weight"].shape[0]
    textbook = TextbookDecoder(vocabulary, annotation, hidden, embedding, attention, dropout)
    of_word, bias = has.pop("cell.embed.weight"), has.pop("cell.embed.bias")
    of_context, of_hidden = has.pop("cell.context.weight"), has.pop("cell.recur.weight")
    names = {
        "embedding": "embedding",
        "init.hidden": "init_hidden",
        "init.cell": "init_cell",
        "attention.key": "attend_annotation",
        "attention.query": "attend_hidden",
        "attention.score": "score",
        "beta.gate": "beta",
        "output.hidden": "output_hidden",
        "output.context": "output_context",
        "output.words": "output_words",
    }
    weights = {}
    for name, value in has.items():
        module, _, kind = name.rpartition(".")
        weights[f"{names[module]}.{kind}"] = value
    weights["lstm.weight_ih"] = torch.cat([_as_lstm(of_word), _as_lstm(of_context)], dim=1)
    weights["lstm.weight_hh"] = _as_lstm(of_hidden)
    weights["lstm.bias_ih"], weights["lstm.bias_hh"] = _as_lstm(bias), torch.zeros_like(bias)
    textbook.to(bias).load_state_dict(weights)
    return textbook


def _as_lstm(rows: Tensor) -> Tensor:
    """Rows of T in our order i, f, o, g, in the order of `nn.LSTMCell`: i, f, g, o."""
    i, f, o, g = rows.chunk(4)
    return torch.cat([i, f, g, o])
