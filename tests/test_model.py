from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captioner.models.encoder import Encoder, build_encoder
from captioner.models.model import CaptioningModel


@pytest.fixture
def model(make_decoder) -> CaptioningModel:
    return CaptioningModel(build_encoder("tiny", 32), make_decoder(annotation=130, scale=0.1))


@pytest.fixture
def pixels() -> Tensor:
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)


TOKENS = torch.tensor([[[1, 4, 5]], [[1, 6, 0]]])
MASK = torch.tensor([[[True, True, True]], [[True, True, False]]])


def test_the_model_is_its_decoder_on_its_encoders_annotations(model, pixels: Tensor):
    whole = model(pixels, TOKENS, MASK)
    annotations = model.encoder(pixels)
    assert annotations.shape == (2, 16, 130)
    parts = model.decoder(TOKENS, MASK, annotations)
    torch.testing.assert_close(whole.logits, parts.logits)
    torch.testing.assert_close(whole.attended, parts.attended)


def test_cached_annotations_stand_for_the_pixels(model, pixels: Tensor):
    cached = model.annotate(pixels).half()
    assert model.annotate(cached).dtype == torch.float32
    fresh, stored = (model(images, TOKENS, MASK).logits for images in (pixels, cached))
    torch.testing.assert_close(stored, fresh, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("tuned", [False, True])
def test_gradients_reach_the_encoder_only_while_it_is_tuned(model, pixels: Tensor, tuned: bool):
    model.tuned = tuned
    model(pixels, TOKENS, MASK).logits.logsumexp(-1).sum().backward()
    reached = [parameter.grad is not None for parameter in model.encoder.parameters()]
    assert all(reached) if tuned else not any(reached)
    assert model.decoder.embedding.weight.grad.abs().sum() > 0


def test_nothing_is_kept_for_gradients_where_they_are_switched_off(model, pixels: Tensor):
    model.tuned = True
    with torch.no_grad():
        assert not model.annotate(pixels).requires_grad
    assert model.annotate(pixels).requires_grad


def test_a_fixed_trunk_does_not_drift_while_the_model_trains(make_decoder, pixels: Tensor):
    trunk = nn.Sequential(nn.Conv2d(3, 6, 8, stride=8), nn.BatchNorm2d(6), nn.Dropout())
    encoder = Encoder(trunk, 32, fixed=True)
    model = CaptioningModel(encoder, make_decoder(), tuned=True).train()
    model(pixels, TOKENS, MASK)
    assert model.decoder.training and model.encoder.training
    assert not any(part.training for part in trunk)
    assert trunk[1].num_batches_tracked == 0
    assert torch.equal(model.annotate(pixels), model.annotate(pixels))
