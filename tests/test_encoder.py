from __future__ import annotations

import copy
import pickle
import urllib.error
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from captioner.models.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, build_encoder

PRESETS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (Path(__file__).parents[1] / "conf" / "encoder").glob("*.yaml")
}
GRIDS = {  # D, and H = W, as the presets' comments state them
    "convnext_tiny": (768, 7),
    "efficientnet_b0": (1280, 7),
    "mobilenet_v2": (1280, 9),
    "resnet50": (2048, 7),
    "resnet101": (2048, 7),
    "timm": (384, 16),
    "tiny": (130, 8),
    "vgg19": (512, 14),
    "vit_b_16": (768, 14),
}

OFF_CENTRE = {"efficientnet_b0", "mobilenet_v2", "resnet50", "resnet101"}
"""Those whose odd kernels, padded evenly, are centred on every second pixel from the first on."""


def noise(count: int, size: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), path)
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_grid_and_the_weights_that_they_state(name: str):
    preset = PRESETS[name]
    if name == "timm":
        pytest.importorskip("timm")
    with torch.device("meta"):  # shapes alone: no weights, no work
        encoder = build_encoder(preset["name"], preset["image_size"], preset.get("node"))
    size = GRIDS[name][1]
    assert (encoder.annotation, *encoder.grid[:2]) == (GRIDS[name][0], size, size)
    assert encoder.grid.stride == preset["image_size"] / size
    assert encoder.grid.offset == (0.5 if name in OFF_CENTRE else encoder.grid.stride / 2)
    if name not in ("tiny", "timm"):
        assert preset["weights"] in get_model_weights(preset["name"]).__members__


@pytest.mark.parametrize(
    ("name", "node", "size", "annotation", "side"),
    [
        ("tiny", None, 48, 130, 6),
        ("mobilenet_v2", "features.13", 64, 96, 4),
        ("resnet18", "layer3", 64, 256, 4),
        ("resnet18", "layer3.1.relu_1", 64, 256, 4),
        ("vit_b_16", "encoder.ln", 224, 768, 14),
    ],
)
def test_images_become_annotations(name: str, node: str, size: int, annotation: int, side: int):
    encoder = build_encoder(name, size, node).eval()
    with torch.no_grad():
        pixels = noise(2, size)
        annotations = encoder(pixels)
        alone = encoder(pixels[1:])
    assert annotations.shape == (2, side**2, annotation)
    assert encoder.grid[:3] == (side, side, size / side)
    torch.testing.assert_close(annotations[1:], alone, rtol=1e-3, atol=1e-4)


def test_pixels_are_normalised_as_imagenet_was():
    encoder = Encoder(nn.Identity(), image_size=4)
    mean = torch.tensor([round(255 * value) for value in IMAGENET_MEAN], dtype=torch.uint8)
    annotations = encoder(mean.view(1, 3, 1, 1).expand(2, 3, 4, 4))
    assert annotations.abs().max() < 0.5 / 255 / min(IMAGENET_STD)
    white = encoder(torch.full((1, 3, 4, 4), 255, dtype=torch.uint8))
    expected = [(1 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    torch.testing.assert_close(white, torch.tensor(expected).expand(1, 16, 3))


def test_a_location_of_tiny_sees_what_lies_around_its_own_cell():
    trunk = build_encoder("tiny", 96).trunk
    pixels = torch.rand(1, 3, 96, 96, requires_grad=True)
    trunk(pixels)[0, :-2, 6, 5].sum().backward()
    rows, columns = pixels.grad[0].abs().sum(0).nonzero().T
    assert (int(columns.min()), int(columns.max())) == (5 * 8 + 4 - 21, 5 * 8 + 3 + 21)
    assert (int(rows.min()), int(rows.max())) == (6 * 8 + 4 - 21, 6 * 8 + 3 + 21)


def test_locations_go_row_by_row():
    encoder = Encoder(nn.MaxPool2d(2), image_size=8)
    pixels = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    pixels[..., 4, 3] = 255  # row 2, column 1 of the 4 × 4 grid
    assert encoder(pixels)[0, :, 0].argmax() == 2 * 4 + 1
    assert encoder.grid == (4, 4, 2.0, 1.0, 8)


class Tokens(nn.Module):
    """Stands for a ViT: so many class tokens, then a grid's tokens, numbered."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, pixels: Tensor) -> Tensor:
        numbers = torch.arange(-self.classes, 9.0)
        return numbers[None, :, None].expand(len(pixels), -1, 5)


@pytest.mark.parametrize("classes", [0, 1, 5])
def test_class_tokens_are_left_out(classes: int):
    encoder = Encoder(Tokens(classes), image_size=48)
    assert encoder.grid == (3, 3, 16.0, 8.0, 48) and encoder.annotation == 5
    assert encoder(noise(2, 48))[1, :, 0].tolist() == list(range(9))


def test_a_trunk_with_weights_stays_fixed_while_the_model_trains(resnet_file: Path):
    fixed = build_encoder("resnet18", 64, "layer4", str(resnet_file)).train()
    free = build_encoder("resnet18", 64, "layer4").train()
    drifted = []
    for encoder in (fixed, free):
        before = {name: value.clone() for name, value in encoder.named_buffers()}
        encoder(noise(4, 64))
        drifted.append(any(not torch.equal(v, before[k]) for k, v in encoder.named_buffers()))
    assert drifted == [False, True]
    assert fixed.training and not any(part.training for part in fixed.trunk.modules())
    assert all(parameter.requires_grad for parameter in fixed.parameters())


@pytest.mark.parametrize(
    ("name", "node", "fixed_node", "below"),
    [
        ("mobilenet_v2", "features.18", "features.13", (96, 4)),
        ("resnet18", "layer4", "layer3.0", (256, 4)),
    ],
)
def test_a_trunk_in_two_parts_is_the_same_trunk(
    name: str, node: str, fixed_node: str, below: tuple[int, int]
):
    encoder = build_encoder(name, 64, node, fixed_node=fixed_node).eval()
    assert encoder.state_dict().keys() == build_encoder(name, 64, node).state_dict().keys()
    pixels = noise(2, 64)
    with torch.no_grad():
        kept = encoder.lower(pixels)
        assert kept.shape == (2, below[1] ** 2, below[0])
        torch.testing.assert_close(encoder.finish(kept), encoder(pixels))
        quick = encoder.lower.folded()(pixels)
        torch.testing.assert_close(quick, kept, rtol=0, atol=1e-4 * float(kept.abs().max()))


def test_only_the_upper_part_of_a_trunk_can_learn():
    encoder = build_encoder("resnet18", 64, "layer4", fixed_node="layer3").requires_grad_(False)
    encoder.upper.requires_grad_(True)
    learning = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert learning == {name for name, _ in encoder.named_parameters() if ".layer4." in name}
    encoder.finish(encoder.lower(noise(2, 64))).sum().backward()
    assert all((w.grad is not None) == w.requires_grad for w in encoder.parameters())


def test_without_parts_what_is_kept_are_the_annotations():
    encoder = build_encoder("tiny", 48)
    kept = encoder(noise(2, 48))
    assert encoder.lower is encoder.upper is encoder
    assert torch.equal(encoder.finish(kept), kept)


def test_building_leaves_batch_statistics_as_they_were():
    counts = [
        value
        for name, value in build_encoder("resnet18", 64, "layer4").named_buffers()
        if name.endswith("num_batches_tracked")
    ]
    assert counts and not any(counts)


def test_weights_of_a_file_are_those_in_use(resnet_file: Path):
    encoder = build_encoder("resnet18", 64, "layer4", str(resnet_file))
    stored = torch.load(resnet_file, weights_only=True)
    ours = {name.partition(".")[2]: value for name, value in encoder.trunk.state_dict().items()}
    assert set(stored) - set(ours) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, stored[name]) for name, value in ours.items())


def test_real_imagenet_weights_load(shared: Path):
    file = shared / "weights" / "mobilenet_v2-imagenet.pth"
    if not file.exists():
        pytest.skip(f"needs {file}, which is not here")
    encoder = build_encoder("mobilenet_v2", 96, "features.18", str(file)).eval()
    with torch.no_grad():
        grey = encoder(torch.full((1, 3, 96, 96), 124, dtype=torch.uint8))
        varied = encoder(noise(1, 96))
    assert varied.min() >= 0 and varied.max() <= 6  # ReLU6
    assert (varied - grey).abs().mean() > 0.1


def test_a_head_may_be_missing_but_nothing_else(tmp_path: Path, resnet_file: Path):
    state = torch.load(resnet_file, weights_only=True)
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch.save(headless, tmp_path / "headless.pth")
    assert build_encoder("resnet18", 64, "layer4", str(tmp_path / "headless.pth")).fixed
    del headless["layer2.0.conv1.weight"]
    torch.save(headless, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"less\.pth .* lacks 'layer2\.0\.conv1\.weight'"):
        build_encoder("resnet18", 64, "layer4", str(tmp_path / "less.pth"))


class Trap:
    """Unpickling this would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "run")


@pytest.mark.parametrize(
    "save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))]
)
def test_code_in_a_weights_file_is_never_run(tmp_path: Path, save):
    save({"conv1.weight": Trap(tmp_path / "trap")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth is no state dict") as caught:
        build_encoder("resnet18", 64, "layer4", str(tmp_path / "evil.pth"))
    assert not (tmp_path / "trap").exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2"])
@pytest.mark.parametrize(
    "content", ["resnet", "wrapped", "list", "shapes", "text", "half", "empty", "folder", "absent"]
)
def test_a_file_that_does_not_fit_is_named(
    tmp_path: Path, resnet_file: Path, name: str, content: str
):
    path = tmp_path / "weights.pth"
    state = torch.load(resnet_file, weights_only=True)
    if content == "shapes":
        trunk = build_encoder("tiny", 48).trunk if name == "tiny" else get_model(name)
        state = {key: torch.zeros(3, 2) for key in trunk.state_dict()}
    match content:
        case "resnet" | "shapes":
            torch.save(state, path)
        case "wrapped":
            torch.save({"state_dict": state}, path)
        case "list":
            torch.save(list(state.values()), path)
        case "text":
            path.write_text("hello")
        case "half":
            path.write_bytes(resnet_file.read_bytes()[:1000])
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
    with pytest.raises(ValueError, match=r"weights\.pth") as caught:
        build_encoder(name, 48, None if name == "tiny" else "features.18", str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet5", 64, "layer4"), "no encoder 'resnet5'"),
        (("fasterrcnn_resnet50_fpn", 64, "backbone"), "no encoder 'fasterrcnn_resnet50_fpn'"),
        (("resnet18", 64, "layer"), "resnet18 has no node 'layer'.*layer4.1.relu_1"),
        (("resnet18", 64, None), "resnet18 has no node None"),
        (("resnet18", 64, "flatten"), r"\(1, 512\), which has no grid"),
        (("resnet18", 64, "avgpool"), "single location"),
        (("resnet18", 32, "layer4"), "single location"),
        (("swin_t", 64, "features.7"), r"\(1, 2, 2, 768\), which has no grid"),
        (("resnet18", 64, "layer4", None, "layer5"), "resnet18 has no node 'layer5'"),
        (("resnet18", 64, "layer3", None, "layer3"), "encoder.fine_tune_above must name a node"),
        (("resnet18", 64, "layer3", None, "layer4"), "encoder.fine_tune_above must name a node"),
        (("resnet18", 64, "layer4", None, "layer4.0.bn2"), "encoder.fine_tune_above must name"),
        (("tiny", 64, None, None, "2"), "tiny has no nodes"),
        (("resnet18", 64, "layer4", "IMAGENET"), "no weights 'IMAGENET' .* one of IMAGENET1K_V1"),
    ],
)
def test_mistakes_are_named_in_one_line(arguments: tuple, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        build_encoder(*arguments)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched_are_named(monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ValueError, match=r"resnet18's IMAGENET1K_V1 .*no route.*path of a state"):
        build_encoder("resnet18", 64, "layer4", "IMAGENET1K_V1")


def test_images_too_small_or_of_another_size_are_refused():
    with pytest.raises(ValueError, match="the encoder takes no 8×8 images"):
        Encoder(nn.Conv2d(3, 4, 16), image_size=8)
    with pytest.raises(ValueError, match="expects 48×48 images, got 64×32"):
        build_encoder("tiny", 48)(torch.zeros(1, 3, 32, 64, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("name", "node"), [("mobilenet_v2", "features.18"), ("resnet18", "layer3"), ("tiny", None)]
)
def test_folded_batch_norms_change_no_annotation(name: str, node: str | None):
    encoder = build_encoder(name, 64, node)
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias)
    before = copy.deepcopy(encoder.state_dict())
    quick = encoder.folded()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in quick.modules())
    assert not quick.training
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = encoder.eval()(pixels)
        torch.testing.assert_close(quick(pixels), expected, rtol=0, atol=1e-4 * expected.max())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_a_cpu_takes_few_images_at_a_time_for_the_same_annotations():
    folded = build_encoder("tiny", 48).folded()
    assert folded.at_once > 5
    pixels, seen = noise(5, 48), []
    folded.trunk.register_forward_hook(lambda trunk, inputs, output: seen.append(len(inputs[0])))
    together = folded(pixels)
    folded.at_once = 2
    torch.testing.assert_close(folded(pixels), together)
    assert seen == [5, 2, 2, 1]
    assert build_encoder("tiny", 512).folded().at_once == 1
