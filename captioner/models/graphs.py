"""The loop over words as one CUDA graph: hundreds of small kernels, but a single launch.

On a GPU what a step computes takes less time than to start its kernels one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.func import functional_call
from torch.nn import functional as F

from captioner.models.attention import Memory
from captioner.models.decoder import Decoder, Recurred
from captioner.models.lstm import State
from captioner.models.ragged import Places, everyone

IMAGES, WORDS = 8, 4
"""Images and words are filled up to multiples of these, for a graph serves one shape alone."""

WARM_UP = 3  # runs before a capture, in which libraries choose their kernels

Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class GraphedLoop:
    """`Decoder.recur` with all captions at every step, whether they have a word there or not.

    That is more arithmetic, but what is computed does not depend on any length. A batch whose shape
    is new takes longer, since it is captured; a graph holds on to its activations. Between a
    forward pass and its backward pass no other of the same shape may come.
    """

    def __init__(self, decoder: Decoder, capture: Callable[..., Run] | None = None):
        """capture: makes a `Run` of a function of tensors and weights, and samples of both."""
        self.loop = _Loop(decoder)
        self.capture = capture or Captured
        self.found: dict[tuple, Run] = {}

    def __deepcopy__(self, _: dict) -> None:
        """A copied decoder has other weights, and no graphs yet."""

    def __call__(
        self, words: Tensor, drives: Tensor, state: State, memory: Memory, mask: Tensor
    ) -> Recurred:
        """As a `Loop`."""
        images, _, length = mask.shape
        more, longer = -images % IMAGES, -length % WORDS
        steps = F.pad(mask, (0, longer, 0, 0, 0, more)).movedim(2, 0).flatten(1)  # (T, N K)
        places = Places(steps, len(words))  # of all steps at once

        def fill(rows: Tensor) -> Tensor:
            return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, more))

        inputs = [*map(places.spread, (words, drives)), *map(fill, (*state, *memory))]
        key = tuple((part.shape, part.dtype, part.requires_grad) for part in inputs)
        if key not in self.found:
            self.loop.kind = type(memory)
            weights = {name: w for name, w in self.loop.named_parameters() if w.requires_grad}
            self.found[key] = self.capture(self._run, inputs, weights)
        return Recurred(words, *map(places.pick, self.found[key](inputs)))

    def _run(self, inputs: Sequence[Tensor], weights: dict[str, Tensor]) -> Sequence[Tensor]:
        return functional_call(self.loop, weights, tuple(inputs))


class _Loop(nn.Module):
    """`Decoder.recur` as a function of tensors alone, (T, N K, …) or with a row per image."""

    kind: type[Memory]

    def __init__(self, decoder: Decoder):
        super().__init__()
        self.decoder = decoder

    def forward(
        self, words: Tensor, drives: Tensor, hidden: Tensor, cell: Tensor, *memory: Tensor
    ) -> Sequence[Tensor]:
        steps = [everyone(*hidden.shape[:2], hidden.device)] * len(words)
        state, memory = State(hidden, cell), self.kind(*memory)
        done = self.decoder.recur(words.flatten(0, 1), drives.flatten(0, 1), state, memory, steps)
        parts = (done.hidden, done.context, done.alpha)
        return tuple(part.unflatten(0, words.shape[:2]) for part in parts)


class Captured:
    """A function of tensors and weights, and its gradient, each replayed from a CUDA graph.

    The weights are read where they lie, and must stay there: they may be changed in place.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Tensor], dict[str, Tensor]], Sequence[Tensor]],
        inputs: Sequence[Tensor],
        weights: dict[str, Tensor],
    ):
        self.weights = list(weights.values())
        self.inputs = [
            torch.zeros(part.shape, dtype=part.dtype, device=part.device) for part in inputs
        ]
        for mine, part in zip(self.inputs, inputs, strict=True):
            mine.requires_grad_(part.requires_grad)
        # Leaves of their own: those of the weights belong to another stream, where DDP holds them.
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        every = (*self.inputs, *leaves.values())

        def forward() -> None:
            self.outputs = function(self.inputs, leaves)

        def backward() -> None:
            learnt, wanted = _learning(self.outputs), _learning(every)
            found = iter(torch.autograd.grad(learnt, wanted, self.incoming, allow_unused=True))
            self.gradients = [next(found) if part.requires_grad else None for part in every]

        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with _uncached_autocast():
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    forward()
                    self.incoming = [torch.zeros_like(part) for part in _learning(self.outputs)]
                    backward()
            torch.cuda.current_stream().wait_stream(stream)
            del self.outputs, self.gradients
            # Other threads, such as the one that pins batches, may go on with what they do.
            options = {"stream": stream, "capture_error_mode": "thread_local"}
            with torch.cuda.graph(self.forward, **options):
                forward()
            with torch.cuda.graph(self.backward, pool=self.forward.pool(), **options):
                backward()

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        return _Replay.apply(self, *inputs, *self.weights)


def _learning(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Those that gradients go through."""
    return [part for part in tensors if part.requires_grad]


def _uncached_autocast() -> torch.autocast:
    """As it is, but weights that it has cast outside are not read inside, where they would stay."""
    dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    return torch.autocast("cuda", dtype, enabled, cache_enabled=False)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, captured: Captured, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.captured = captured
        for mine, part in zip(captured.inputs, tensors, strict=False):  # weights need no copy
            mine.detach().copy_(part)
        captured.forward.replay()
        found = tuple(part.detach().clone() for part in captured.outputs)
        pairs = zip(found, captured.outputs, strict=True)
        ctx.mark_non_differentiable(*(mine for mine, part in pairs if not part.requires_grad))
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        captured = ctx.captured
        pairs = zip(gradients, captured.outputs, strict=True)
        learnt = [gradient for gradient, part in pairs if part.requires_grad]
        for mine, part in zip(captured.incoming, learnt, strict=True):
            mine.copy_(part)
        captured.backward.replay()
        return None, *(part if part is None else part.clone() for part in captured.gradients)
