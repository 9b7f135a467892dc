"""The loop over words of the paper's decoder with its gradient written out, for speed on a CPU.

Autograd notes each small operation of a step, and goes back through them one by one. Here a step
back is what the chain rule makes of the step's equations: backpropagation through time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from captioner.models.additive import growth, ways
from captioner.models.attention import Memory, SoftAttention
from captioner.models.decoder import Decoder, Recurred
from captioner.models.lstm import Gates, LSTMCell, State
from captioner.models.ragged import Places, everyone, places_of
from captioner.precision import at_least_float32, for_products, without_autocast


def is_the_papers(decoder: Decoder) -> bool:
    """Whether attention, β and cell are the paper's: soft with a tanh, a scalar, an LSTM.

    On the CPU. Equations that someone has changed are not: a few numbers tell.
    """
    attention, beta = decoder.attention, decoder.beta.gate
    return (
        type(attention) is SoftAttention
        and attention.nonlinearity is torch.tanh
        and beta is not None
        and beta.out_features == 1
        and type(decoder.cell) is LSTMCell
        and _agrees(decoder)
    )


@torch.no_grad()
def _agrees(decoder: Decoder) -> bool:
    """Whether both loops find the same, of two images with two captions of two words each."""
    draw = torch.Generator().manual_seed(0)
    hidden, cell = torch.randn(2, 2, 2, decoder.cell.recur.in_features, generator=draw)
    words = torch.randn(8, decoder.cell.embed.in_features, generator=draw)
    annotations = torch.randn(2, 3, decoder.cell.context.in_features, generator=draw)
    memory, mask = decoder.attention.remember(annotations), torch.ones(2, 2, 2, dtype=torch.bool)
    given = words, decoder.cell.embed(words), State(hidden, cell), memory
    try:
        one, other = LoopByHand(decoder)(*given, mask), decoder.recur(*given, places_of(mask))
        parts = zip(one[:-1], other[:-1], strict=True)
        return all(torch.allclose(*both, rtol=1e-3, atol=1e-4) for both in parts)
    except RuntimeError:  # of sizes that have become others
        return False


class LoopByHand:
    """`Decoder.recur` of a decoder that `is_the_papers`: the same values, and gradients."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder

    def __deepcopy__(self, _: dict) -> None:
        """A copied decoder has other weights."""

    def __call__(
        self, words: Tensor, drives: Tensor, state: State, memory: Memory, mask: Tensor
    ) -> Recurred:
        """As a `Loop`."""
        attention, beta, cell = self.decoder.attention, self.decoder.beta.gate, self.decoder.cell
        read_ahead = memory.annotations.shape[-1] != cell.context.in_features
        readers = torch.cat([cell.recur.weight, attention.query.weight])  # of h_{t-1}: T_h, W_h
        bias = torch.cat([readers.new_zeros(len(drives[0])), attention.query.bias])
        hidden, context, alpha = _Loop.apply(
            places_of(mask),
            drives,
            *state,
            memory.annotations,
            memory.keys[:, None],
            for_products(readers),
            for_products(bias),
            for_products(beta.weight),
            for_products(beta.bias),
            None if read_ahead else for_products(cell.context.weight),
            at_least_float32(attention.score.weight[0]),
        )
        output = self.decoder.output.context
        if output is None:
            context = context[:, :0]
        elif not read_ahead:
            context = output(context)
        return Recurred(words, hidden, context, alpha)


class _Step(NamedTuple):
    """What the way back needs of a step, at which M captions have a word."""

    places: Places
    before: int  # captions that had one at the step before, or could have
    lasting: Tensor | None  # (M,) which of those go on; None: all
    hidden: Tensor  # (M, H) h_{t-1}
    cell: Tensor  # (M, H) c_{t-1}
    query: Tensor  # (N, K, A) e^{2q}, see `additive.tanh_scores`
    alpha: Tensor  # (N, K, L)
    beta: Tensor  # (N, K, 1)
    context: Tensor  # (M, D) ẑ_t, behind β
    gates: Gates  # each (M, H)
    shown: Tensor  # (M, H) tanh(c_t)

    def back_through_cell(self, of_hidden: Tensor, of_cell: Tensor | float) -> tuple[Gates, Tensor]:
        """From ∂L/∂h_t and ∂L/∂c_t to those at the sums of equation (1), and ∂L/∂c_{t-1}.

        c_t is a conveyor belt backward too: what comes goes on as it is, but for a product with f.
        """
        i, f, o, g = self.gates
        of_cell = of_cell + of_hidden * o * (1 - self.shown.square())  # (3)
        of_sums = Gates(
            of_cell * g * (i - i.square()),  # (2)
            of_cell * self.cell * (f - f.square()),
            of_hidden * self.shown * (o - o.square()),
            of_cell * i * (1 - g.square()),
        )
        return of_sums, of_cell * f

    def back_through_look(
        self, of_context: Tensor, of_alpha: Tensor, annotations: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From ∂L/∂ẑ_t, (N, K, D), and ∂L/∂α_t, (N, K, L), to those at e_t and at f_β(h_{t-1})."""
        of_weight = at_least_float32(of_context @ annotations.mT)  # at α_t β_t
        of_beta = (of_weight * self.alpha).sum(-1, keepdim=True)
        of_alpha = of_alpha + of_weight * self.beta
        of_score = self.alpha * (of_alpha - (of_alpha * self.alpha).sum(-1, keepdim=True))
        return of_score, of_beta * (self.beta - self.beta.square())

    def back_to_all(self, values: Tensor) -> Tensor:
        """(M, …) → a row for each caption of the step before, zero where it has ended."""
        if self.lasting is None:
            return values
        every = values.new_zeros(self.before, *values.shape[1:])
        return every.index_copy(0, self.lasting, values)


class _Loop(torch.autograd.Function):
    """Drives, first state, memory and weights → h_t, what the output reads of ẑ_t, and α_t.

    A gradient is named for what it is at: `of_cell` is ∂L/∂c.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        places: Sequence[Places],
        drives: Tensor,
        hidden: Tensor,
        cell: Tensor,
        annotations: Tensor,
        keys: Tensor,
        readers: Tensor,
        bias: Tensor,
        gate: Tensor,
        gate_bias: Tensor,
        reader: Tensor | None,
        v: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """reader: T_z; where there is none it was read ahead, and ẑ_t begins with T_z ẑ_t."""
        size = hidden.shape[-1]
        before = everyone(*hidden.shape[:2], hidden.device)
        ctx.start, ctx.steps, hiddens = hidden.shape, [], []
        hidden, cell = hidden.flatten(0, 1), cell.flatten(0, 1)
        scores, _ = ways(keys)
        for here, drive in zip(places, drives.split([each.count for each in places]), strict=True):
            lasting = here.lasting(before)
            if lasting is not None:
                hidden, cell = hidden[lasting], cell[lasting]
            read = hidden.to(readers.dtype)
            recurred, query = F.linear(read, readers, bias).split([4 * size, len(v)], dim=-1)
            query = growth(here.spread(query))
            beta = at_least_float32(here.spread(F.linear(read, gate, gate_bias))).sigmoid()
            with without_autocast(keys.device):
                alpha = scores(query, keys, v).softmax(-1)  # (4), (5)
                context = here.pick((alpha * beta).to(annotations.dtype) @ annotations)  # (13)
            seen = context[:, : 4 * size] if reader is None else F.linear(context, reader)
            i, f, o, g = at_least_float32(drive + seen + recurred).chunk(4, dim=-1)  # (1)
            gates = i, f, o, g = Gates(i.sigmoid(), f.sigmoid(), o.sigmoid(), g.tanh())
            now = f * cell + i * g  # (2)
            shown = now.tanh()
            found = query, alpha, beta, context, gates, shown
            ctx.steps.append(_Step(here, before.count, lasting, hidden, cell, *found))
            hidden, cell, before = o * shown, now, here  # (3)
            hiddens.append(hidden)
        ctx.save_for_backward(annotations, keys, readers, gate, reader, v)
        ctx.dtype = drives.dtype
        contexts = torch.cat([step.context for step in ctx.steps])
        alphas = torch.cat([step.places.pick(step.alpha) for step in ctx.steps])
        return torch.cat(hiddens), contexts[:, 4 * size :] if reader is None else contexts, alphas

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, of_hiddens: Tensor, of_contexts: Tensor, of_alphas: Tensor
    ) -> tuple[Tensor | None, ...]:
        annotations, keys, readers, gate, reader, v = ctx.saved_tensors
        _, gradients = ways(keys)
        size, attention = of_hiddens.shape[-1], len(v)
        of_read = of_hiddens.new_empty(len(of_hiddens), len(readers), dtype=readers.dtype)
        of_gate = of_read.new_empty(len(of_read), 1)
        of_keys, of_v, looks = torch.zeros_like(keys), torch.zeros_like(v), []
        of_hidden = of_cell = 0.0
        counts = [step.places.count for step in ctx.steps]
        parts = (of_hiddens, of_contexts, of_alphas, of_read, of_gate)
        steps = zip(ctx.steps, *(part.split(counts) for part in parts), strict=True)
        for step, of_h, of_z, of_alpha, of_r, of_g in reversed(list(steps)):
            here = step.places
            of_drive, of_query = of_r.split([4 * size, attention], dim=-1)
            of_sums, of_cell = step.back_through_cell(of_h + of_hidden, of_cell)
            for part, of_sum in zip(of_drive.chunk(4, dim=-1), of_sums, strict=True):
                part.copy_(of_sum)
            if reader is None:
                of_context = torch.cat([of_drive, of_z.to(of_drive)], dim=-1)
            else:
                of_context = of_drive @ reader + of_z
            of_context = here.spread(of_context.to(annotations.dtype))
            looks.append((step.alpha * step.beta, of_context))
            look = of_context, here.spread(of_alpha), annotations
            of_score, of_sum = step.back_through_look(*look)
            found, more_keys, more_v = gradients(step.query, keys, v, of_score)
            of_query.copy_(here.pick(found))
            of_g.copy_(here.pick(of_sum))
            of_keys += more_keys
            of_v += more_v
            of_hidden = step.back_to_all(at_least_float32(of_r @ readers + of_g * gate))
            of_cell = step.back_to_all(of_cell)
        hiddens = torch.cat([step.hidden for step in ctx.steps]).to(readers.dtype)
        of_drives = of_read[:, : 4 * size]
        of_annotations = of_reader = None
        if ctx.needs_input_grad[4]:
            weights, of_context = (torch.cat(parts, dim=1) for parts in zip(*looks, strict=True))
            of_annotations = weights.to(annotations.dtype).mT @ of_context
        if reader is not None:
            of_reader = of_drives.mT @ torch.cat([step.context for step in ctx.steps])
        return (
            None,  # places
            of_drives.to(ctx.dtype),
            of_hidden.view(ctx.start),
            of_cell.view(ctx.start),
            of_annotations,
            of_keys,
            of_read.mT @ hiddens,
            of_read.sum(0),
            of_gate.mT @ hiddens,
            of_gate.sum(0),
            of_reader,
            of_v,
        )
