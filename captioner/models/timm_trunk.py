"""timm's models as trunks: CNNs and transformers, DINOv2 and its registers among them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

PREFIX = "timm/"
"""Of `encoder.name`: the rest is timm's name of a model, with its tag."""


class TimmTrunk(nn.Module):
    """A timm model up to one of its feature levels: (N, 3, S, S) → (N, D, H, W).

    Class and register tokens are left out. Images want the model's own `mean` and `std`.
    """

    def __init__(self, name: str, model: nn.Module, level: int):
        super().__init__()
        self.name, self.model = name, model
        self.mean, self.std = (model.pretrained_cfg[key] for key in ("mean", "std"))
        # What lies behind goes: it would get no gradient. From then on levels count from the first.
        (self.level,) = model.prune_intermediate_layers([level])

    def forward(self, pixels: Tensor) -> Tensor:
        (grid,) = self.model.forward_intermediates(
            pixels, indices=[self.level], norm=True, intermediates_only=True
        )
        return grid

    def extra_repr(self) -> str:
        return f"{self.name}, level={self.level}"


def build_timm_trunk(
    name: str, image_size: int, node: str | None, weights: str | None
) -> TimmTrunk:
    """`name` is timm's own; `node` counts its feature levels, −1 or None being the last.

    `weights` is `pretrained` (fetched by timm if they are not on disk yet), the path of a state
    dict as timm or the model's authors keep it, also as safetensors, or None for random weights.
    Raises ValueError for an unknown name or level, weights that do not fit, or without timm.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError("timm/… encoders need timm: pip install 'captioner[timm]'") from error
    if not timm.is_model(name):
        raise ValueError(f"no timm model {name!r}; timm.list_models(pretrained=True) names them")
    if weights not in (None, "pretrained") and not Path(weights).is_file():
        raise ValueError(f"no weights {weights!r} for {name}: neither a file nor pretrained")
    try:
        model = _create(timm, name, image_size, weights)
    except Exception as error:  # of many kinds, from the network, the file or the model
        reason = str(error).strip().rpartition("\n")[2].strip() or type(error).__name__
        if weights == "pretrained":
            reason += "; give encoder.weights the path of a state dict instead"
        raise ValueError(f"timm can't make {name} with weights {weights!r}: {reason}") from error
    try:
        return TimmTrunk(name, model, int(-1 if node is None else node))
    except (ValueError, AssertionError, AttributeError) as error:
        raise ValueError(f"{name} has no feature level {node}: say -1, -2, … or 0, 1, …") from error


def _create(timm: ModuleType, name: str, image_size: int, weights: str | None) -> nn.Module:
    options = {}
    if timm.get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = image_size  # a transformer's positions are resampled to it
    if weights not in (None, "pretrained"):
        options["pretrained_cfg_overlay"] = {"file": weights, "custom_load": False}
    return timm.create_model(name, pretrained=weights is not None, **options)
