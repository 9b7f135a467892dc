"""Encoders: a CNN (or ViT) cut where it still has a grid, so that there is somewhere to look."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from captioner.grid import Grid
from captioner.models.halves import halves
from captioner.models.timm_trunk import PREFIX, build_timm_trunk
from captioner.models.tiny_trunk import Tiny
from captioner.precision import lower

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PIXELS_AT_ONCE = 250_000
"""Of more, a CNN's feature maps are so large that the C library takes each from the system anew,
which clears its pages first: with MobileNetV2 that took two thirds of the arithmetic's time."""


class Encoder(nn.Module):
    """Annotation vectors a_1…a_L of images (Xu et al. 2015, section 3.1.1).

    The trunk maps normalised (N, 3, S, S) to (N, D, H, W), or to tokens (N, L, D) of a square
    grid, with or without class tokens in front. A `fixed` trunk stays in eval mode whatever the
    model around it does, so that its batch statistics never drift. Of a trunk in two `parts`, made
    of its own layers, only the upper learns, and what the lower gives can be kept.
    """

    def __init__(
        self,
        trunk: nn.Module,
        image_size: int,
        fixed: bool = False,
        parts: tuple[nn.Module, nn.Module] | None = None,
    ):
        super().__init__()
        self.trunk = trunk
        self.image_size = image_size
        self.fixed = fixed
        self.at_once: int | None = None  # images that a CPU takes together; None: all
        self._parts = None  # in a tuple, or their layers would be there twice
        if parts is not None:
            lower = Encoder(nn.Sequential(parts[0]), image_size, fixed=True)
            self._parts = (lower, parts[1])
        for name, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            values = torch.tensor(getattr(trunk, name, usual)).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.eval()  # measuring must not touch batch statistics
        self.grid, self.annotation = self._measure()
        self.train()

    @torch.no_grad()
    def _measure(self) -> tuple[Grid, int]:
        """Grid and D, found by encoding one black image."""
        size = self.image_size
        try:
            with _places(self.trunk, size) as places:
                output = self.trunk(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"the encoder takes no {size}×{size} images: {reason}") from error
        shape = tuple(getattr(output, "shape", ()))  # some nodes give numbers
        if len(shape) == 4 and shape[2] == shape[3]:
            _, annotation, height, width = shape
        elif len(shape) == 3:
            annotation, height = shape[2], math.isqrt(shape[1])
            width = height
        else:
            raise ValueError(
                f"the encoder's node gives shape {shape}, which has no grid; choose "
                "an earlier node, one that gives (N, D, H, W) or (N, L, D)"
            )
        if height * width < 2:
            raise ValueError("the encoder's node gives a single location; choose an earlier node")
        stride, offset = places.get(height, (size / height, size / height / 2))
        return Grid(height, width, stride, offset, size), annotation

    @property
    def lower(self) -> Encoder:
        """What is a fixed function of pixels, unless all learns."""
        return self if self._parts is None else self._parts[0]

    @property
    def upper(self) -> nn.Module:
        """What learns, if anything does."""
        return self if self._parts is None else self._parts[1]

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        if self.fixed:
            self.trunk.eval()
        return self

    def folded(self, half: bool = False) -> Encoder:
        """A copy in eval mode that gives the same annotations for less.

        Each batch norm of a torchvision trunk is multiplied into the convolution before it, and no
        longer passes over the grid on its own; and a CPU takes few images at a time. With `half`
        its weights are in bfloat16, for a block of such products. The copy is not to be trained or
        saved.
        """
        from torch.fx.experimental.optimization import fuse

        encoder = copy.deepcopy(self).eval()
        pixels = PIXELS_AT_ONCE * (2 if half else 1)  # of half the size
        encoder.at_once = max(1, pixels // self.image_size**2)
        for name, part in encoder.trunk.named_children():
            if isinstance(part, fx.GraphModule):
                setattr(encoder.trunk, name, fuse(fx.GraphModule(part, part.graph).eval()))
        if half:
            lower(encoder)
        return encoder

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (N, 3, S, S) uint8 as `Transform` gives them → annotations (N, L, D)."""
        if pixels.shape[2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"the encoder expects {self.image_size}×{self.image_size} images, "
                f"got {pixels.shape[3]}×{pixels.shape[2]}"
            )
        if self.at_once is None or pixels.device.type != "cpu":
            return self._encode(pixels)
        return torch.cat([self._encode(few) for few in pixels.split(self.at_once)])

    def _encode(self, pixels: Tensor) -> Tensor:
        normalised = (pixels.float() / 255 - self.mean) / self.std
        return self._rows(self.trunk(normalised.contiguous(memory_format=torch.channels_last)))

    def finish(self, kept: Tensor) -> Tensor:
        """The annotations, (N, L, D), of images of which `lower` gave `kept`, (N, L′, D′)."""
        if self._parts is None:
            return kept
        lower, upper = self._parts
        return self._rows(upper(kept.mT.unflatten(2, (lower.grid.height, lower.grid.width))))

    def _rows(self, output: Tensor) -> Tensor:
        if output.ndim == 4:
            return output.flatten(2).transpose(1, 2)
        return output[:, output.shape[1] - self.grid.height * self.grid.width :]


@contextmanager
def _places(trunk: nn.Module, size: int) -> Iterator[dict[int, tuple[float, float]]]:
    """While the trunk runs, gathers where its feature maps stand on the image, by their sides.

    Gives the stride and the centre of the first location, in pixels. A layer's output i is centred
    on place s i + d (k − 1) / 2 − p of its input, of kernel k, stride s, padding p and dilation d.
    Maps of one side stand on the same places, since layers that keep the side pad evenly; so what
    lies between such layers (sums, norms, attention) does not matter.
    """
    places = {size: (1.0, 0.5)}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        before, after = inputs[0].shape[-1], output.shape[-1]
        if before in places and after not in places:
            stride, first = places[before]
            k, s, p = (_last(getattr(layer, n)) for n in ("kernel_size", "stride", "padding"))
            shift = _last(getattr(layer, "dilation", 1)) * (k - 1) / 2 - (0 if p == "valid" else p)
            places[after] = (stride * s, first + stride * shift)

    layers = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    found = [layer for layer in trunk.modules() if isinstance(layer, layers)]
    hooks = [layer.register_forward_hook(note) for layer in found]
    try:
        yield places
    finally:
        for hook in hooks:
            hook.remove()


def _last(value: int | str | tuple[int, ...]) -> int | str:
    return value[-1] if isinstance(value, tuple) else value


def build_encoder(
    name: str,
    image_size: int,
    node: str | None = None,
    weights: str | None = None,
    fixed_node: str | None = None,
) -> Encoder:
    """`tiny`, any torchvision classification model cut at `node`, or `timm/` and a model of timm's.

    The last as `build_timm_trunk` has it; for the others `weights` is a torchvision weight name
    (fetched by torchvision if it is not on disk yet), the path of a state dict, or None for random
    weights. A trunk with weights is fixed: always in eval mode, also where it is fine-tuned, since
    batches here are too small for batch statistics. Up to `fixed_node` a torchvision trunk does not
    learn even then.
    Raises ValueError for an unknown name, node or weight, or a state dict that does not fit.
    """
    if fixed_node is not None and (name == "tiny" or name.startswith(PREFIX)):
        raise ValueError(f"{name} has no nodes; only a torchvision encoder learns in part")
    parts = None
    if name.startswith(PREFIX):
        trunk = build_timm_trunk(name.removeprefix(PREFIX), image_size, node, weights)
    elif name == "tiny":
        trunk = Tiny()
        if weights is not None:
            _load_state_dict(trunk, weights)
    else:
        trunk, parts = _build_torchvision_trunk(name, node, weights, fixed_node)
    return Encoder(trunk, image_size, weights is not None, parts)


def _build_torchvision_trunk(
    name: str, node: str, weights: str | None, fixed_node: str | None
) -> tuple[nn.Module, tuple[nn.Module, nn.Module] | None]:
    """A model cut at `node`; and it in two parts, where a node is named to which it is fixed."""
    import torchvision  # takes seconds
    from torchvision.models import get_model, list_models
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    if name not in list_models(module=torchvision.models):
        raise ValueError(
            f"no encoder {name!r}; it is tiny, a torchvision model, e.g. resnet50, or timm/…"
        )
    model = get_model(name, weights=None)
    nodes = get_graph_node_names(model)[1]
    ends = {node: "annotations"} | ({} if fixed_node is None else {fixed_node: "fixed"})
    for end in ends:
        if not any(f"{known}.".startswith(f"{end}.") for known in nodes):
            spatial = ", ".join(nodes[-12:])
            raise ValueError(f"{name} has no node {end!r}; its last nodes are {spatial}")
    if weights is not None:
        _load_weights(model, name, weights)
    trunk = create_feature_extractor(model, ends).eval()  # whose graph it is parted by
    parts = None if fixed_node is None else halves(trunk, ends[fixed_node], ends[node])
    return nn.Sequential(trunk, _Only(ends[node])), parts


class _Only(nn.Module):
    """The one entry of a dictionary."""

    def __init__(self, key: str):
        super().__init__()
        self.key = key

    def forward(self, values: dict[str, Tensor]) -> Tensor:
        return values[self.key]


def _load_weights(model: nn.Module, name: str, weights: str) -> None:
    """By the name that torchvision has for them, or from a file."""
    from torchvision.models import get_model_weights

    known = get_model_weights(name)
    if weights in known.__members__:
        try:
            model.load_state_dict(known[weights].get_state_dict(progress=False))
        except OSError as error:
            raise ValueError(
                f"could not fetch {name}'s {weights} weights ({error}); "
                "give encoder.weights the path of a state dict instead"
            ) from error
    elif Path(weights).exists():
        _load_state_dict(model, weights)
    else:
        names = ", ".join(known.__members__)
        raise ValueError(f"no weights {weights!r} for {name}: neither a file nor one of {names}")


def _load_state_dict(trunk: nn.Module, path: str) -> None:
    """Loads a state dict without unpickling code. A missing classifier head does no harm."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"can't read the encoder's weights {path}: {error.strerror}") from error
    except Exception as error:  # torch raises many kinds for a file that it did not write
        raise ValueError(
            f"{path} is no state dict: it is damaged or holds more than tensors (which was not run)"
        ) from error
    try:
        missing, unexpected = trunk.load_state_dict(state, strict=False)
    except (AttributeError, RuntimeError, TypeError) as error:  # other shapes, or no dictionary
        reason = str(error).rpartition("\n")[2].strip()
        raise ValueError(f"{path} does not fit this encoder: {reason}") from error
    missing = [key for key in missing if not key.startswith(("classifier", "fc.", "head"))]
    if missing or unexpected:
        key = (missing or unexpected)[0]
        problem = "lacks" if missing else "has an unknown"
        raise ValueError(f"{path} does not fit this encoder: it {problem} {key!r}")
