"""Where locations stand on a picture, and that this is where they see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt, VisionTransformer, densenet121, mobilenet_v2, resnet18, vgg
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.feature_extraction import create_feature_extractor

from captioner.grid import Grid, edges, even
from captioner.models.encoder import Encoder, Tiny

SIDE = 96


def blur(trunk: nn.Module) -> nn.Module:
    """All convolutions become means, so that answers tell what locations see, and no more."""
    for layer in trunk.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.5 / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return trunk


def small_convnext() -> nn.Module:
    return ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]).features


class Tokens(nn.Module):
    """A transformer's grid, its class token in front."""

    def __init__(self):
        super().__init__()
        vit = VisionTransformer(SIDE, 16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64)
        self.vit = create_feature_extractor(vit, ["encoder.ln"])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.vit(pixels)["encoder.ln"]


class Halved(nn.Module):
    """Made smaller by something that is no layer with a kernel, as Swin does."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels[..., ::2, ::2]


def children(model: nn.Module, count: int) -> nn.Module:
    return nn.Sequential(*list(model.children())[:count])


TRUNKS = {  # and (stride, offset) as worked out by hand, with pixel 0 from 0 to 1, centred on 0.5
    "mobilenet": (lambda: blur(mobilenet_v2().features[:14]), (16, 0.5)),
    "resnet": (lambda: blur(children(resnet18(), -3)), (16, 0.5)),
    "vgg": (lambda: blur(vgg.make_layers(vgg.cfgs["A"][:-1], batch_norm=False)), (16, 8)),
    "densenet": (lambda: blur(densenet121().features[:8]), (16, 6.5)),
    "convnext": (small_convnext, (8, 4)),
    "vit": (Tokens, (16, 8)),
}
OTHERS = {
    "tiny": (Tiny, (8, 4)),  # what it sees, and that evenly, is tested with the encoders
    "unpadded": (lambda: nn.Sequential(nn.Conv2d(3, 4, 5, 3), nn.Conv2d(4, 4, 3)), (3, 5.5)),
    "dilated": (lambda: nn.Conv2d(3, 4, 3, 3, padding=1, dilation=2), (3, 1.5)),
    "without a kernel": (Halved, (2, 1)),
}


def build(trunk: nn.Module) -> Encoder:
    return Encoder(trunk, SIDE, fixed=True)


@pytest.mark.parametrize("name", [*TRUNKS, *OTHERS])
def test_places_are_those_worked_out_by_hand(name: str):
    trunk, expected = (TRUNKS | OTHERS)[name]
    grid = build(trunk()).grid
    assert (grid.stride, grid.offset, grid.size) == (*expected, SIDE)


@pytest.mark.parametrize("name", TRUNKS)
def test_a_bright_dot_lights_up_most_the_location_nearest_to_it(name: str):
    """Dots up to 0.3 strides from a location; beyond half a stride the next one is nearer."""
    encoder, random = build(TRUNKS[name][0]()).double(), np.random.default_rng(0)
    grid, inner = encoder.grid, range(1, encoder.grid.height - 1)  # where all see equally much
    cells = random.permutation([(row, column) for row in inner for column in inner])[:6]
    shifts = random.uniform(-0.3, 0.3, cells.shape) * grid.stride
    dots = (grid.offset + grid.stride * cells + shifts).astype(int)
    pixels = torch.full((len(dots) + 1, 3, SIDE, SIDE), 0.5, dtype=torch.double)
    for picture, (y, x) in zip(pixels, dots, strict=False):
        picture[:, y, x] = 2.0
    with torch.no_grad():
        answers = encoder.trunk(pixels)
    if answers.ndim == 4:
        answers = answers.flatten(2).transpose(1, 2)
    lit = (answers[:-1] - answers[-1]).norm(dim=-1)[:, -grid.height * grid.width :].argmax(1)
    assert np.stack(np.divmod(lit.numpy(), grid.width), -1).tolist() == cells.tolist()


def test_even_cells_tile_the_picture():
    rows, columns = even((4, 2))
    assert rows.tolist() == [0.125, 0.375, 0.625, 0.875] and columns.tolist() == [0.25, 0.75]
    assert edges(rows).tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_a_cell_is_what_is_nearest_to_its_location():
    grid = Grid(2, 3, stride=32, offset=0, size=96)
    assert grid.centres.columns.tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert edges(grid.centres.columns).tolist() == pytest.approx([0, 1 / 6, 1 / 2, 1])
    assert edges(grid.centres.rows).tolist() == pytest.approx([0, 1 / 6, 1])
    beyond = Grid(3, 3, stride=32, offset=-20, size=40)  # the first stands left of the picture
    assert edges(beyond.centres.rows).tolist() == pytest.approx([0, 0, 0.7, 1])
