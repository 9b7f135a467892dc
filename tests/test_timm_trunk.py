"""timm's CNNs and transformers give grids, whatever tokens they have beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import needs
from safetensors.torch import save_file
from torch import Tensor, nn

from captioner.models import timm_trunk
from captioner.models.encoder import IMAGENET_MEAN, build_encoder

pytestmark = needs("timm")

VIT, DINO, RESNET = "test_vit.r160_in1k", "vit_small_patch14_reg4_dinov2", "resnet10t.c3_in1k"


def noise(count: int, size: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "size", "node", "annotation", "side"),
    [
        (VIT, 64, None, 64, 4),
        (VIT, 64, "0", 64, 4),
        (DINO, 28, None, 384, 2),
        (RESNET, 64, None, 512, 2),
        (RESNET, 64, "-2", 256, 4),
        ("convnext_atto", 64, None, 320, 2),
    ],
)
def test_images_become_annotations(name: str, size: int, node: str, annotation: int, side: int):
    encoder = build_encoder(f"timm/{name}", size, node).eval()
    with torch.no_grad():
        pixels = noise(2, size)
        annotations = encoder(pixels)
        alone = encoder(pixels[1:])
    assert annotations.shape == (2, side**2, annotation)
    assert encoder.grid[:3] == (side, side, size / side)
    torch.testing.assert_close(annotations[1:], alone, rtol=1e-3, atol=1e-4)


def test_class_and_register_tokens_are_not_locations():
    import timm

    encoder = build_encoder(f"timm/{DINO}", 28).eval()
    model = timm.create_model(DINO, img_size=28).eval()
    model.load_state_dict(encoder.trunk.model.state_dict())
    pixels = noise(1, 28)
    with torch.no_grad():
        tokens = model.forward_features((pixels / 255 - encoder.mean) / encoder.std)
        torch.testing.assert_close(encoder(pixels), tokens[:, 1 + 4 :])


def test_pixels_are_normalised_as_the_model_was_trained():
    assert build_encoder(f"timm/{VIT}", 64).mean.flatten().tolist() == [0.5, 0.5, 0.5]
    mean = build_encoder(f"timm/{RESNET}", 64).mean.flatten()
    torch.testing.assert_close(mean, torch.tensor(IMAGENET_MEAN))


@pytest.mark.parametrize("name", [RESNET, VIT])
def test_an_earlier_level_is_timm_s_own_and_all_that_is_left_learns(name: str):
    import timm

    model = timm.create_model(name)
    weights, pixels = model.state_dict(), noise(2, 160)
    encoder = build_encoder(f"timm/{name}", 160, "-2").eval()
    encoder.trunk.model.load_state_dict(weights, strict=False)
    annotations = encoder(pixels)
    normalised = (pixels / 255 - encoder.mean) / encoder.std
    (expected,) = model.eval().forward_intermediates(
        normalised, indices=[-2], norm=True, intermediates_only=True
    )
    torch.testing.assert_close(annotations, expected.flatten(2).transpose(1, 2))
    (annotations**2).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_come_from_a_file_and_positions_are_resampled(tmp_path: Path, suffix: str):
    import timm

    path, model = tmp_path / f"weights.{suffix}", timm.create_model(VIT)
    (torch.save if suffix == "pth" else save_file)(model.state_dict(), path)
    encoder = build_encoder(f"timm/{VIT}", 64, weights=str(path)).train()
    loaded = encoder.trunk.model
    assert torch.equal(loaded.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)
    assert loaded.pos_embed.shape[1] < model.pos_embed.shape[1]
    assert not any(part.training for part in encoder.trunk.modules())


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def test_a_file_that_holds_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Harm()}, "weights.pth")
    with pytest.raises(ValueError, match=r"with weights 'weights\.pth'"):
        build_encoder(f"timm/{VIT}", 64, weights="weights.pth")
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    ("name", "node", "weights", "message"),
    [
        ("resnet5", None, None, "no timm model 'resnet5'"),
        ("resnet10t.no_such_tag", None, None, "Invalid pretrained tag"),
        (RESNET, "layer3", None, "no feature level layer3: say -1, -2"),
        (RESNET, "9", None, "no feature level 9"),
        (RESNET, None, "no.pth", "no weights 'no.pth'.* neither a file nor pretrained"),
        (RESNET, None, "other.pth", "with weights 'other.pth': "),
    ],
)
def test_mistakes_are_named_in_one_line(
    tmp_path: Path, monkeypatch, name: str, node: str, weights: str, message: str
):
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Linear(2, 2).state_dict(), "other.pth")
    with pytest.raises(ValueError, match=message) as caught:
        build_encoder(f"timm/{name}", 64, node, weights)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched_are_named(monkeypatch: pytest.MonkeyPatch):
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm_trunk, "_create", offline)
    with pytest.raises(ValueError, match="no route to host; give"):
        build_encoder(f"timm/{RESNET}", 64, weights="pretrained")
