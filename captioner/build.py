"""The one place that turns options into objects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState

from captioner.checkpoint import Checkpoint
from captioner.config import (
    DataOptions,
    DecoderOptions,
    EncoderOptions,
    LossOptions,
    TrainingOptions,
    TrainOptions,
    check_precision,
)
from captioner.data.features import cache_features
from captioner.data.images import Transform
from captioner.data.loader import ImageSource
from captioner.data.readers import (
    read_coco,
    read_csv,
    read_entities,
    read_flickr8k,
    read_karpathy,
    read_webdataset,
)
from captioner.data.records import Collection, Record, unique
from captioner.data.shapes import read_shapes
from captioner.models.decoder import Decoder
from captioner.models.encoder import Encoder, build_encoder
from captioner.models.model import CaptioningModel
from captioner.objectives import CiderReward, CrossEntropy, Objective, SelfCritical
from captioner.progress import track
from captioner.vocabulary import Vocabulary

COCO_FILES = {"train": "captions_train2017.json", "val": "captions_val2017.json"}
COCO_IMAGES = {"train": "train2017", "val": "val2017"}


def build_device(name: str | None) -> torch.device:
    """The named device, or the best there is. Raises ValueError for one that is not there."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    return device


def build_accelerator(options: TrainOptions) -> Accelerator:
    """Devices, mixed precision and processes. Raises ValueError for a device that is not there."""
    device = build_device(options.device)
    AcceleratorState._reset_state()  # or a sweep's second job could not change the precision
    # DDP must know where weights get no gradient: the encoder's until fine-tuning begins, and those
    # of hard attention where sampled captions are learnt from.
    sampled = options.loss.objective == "self_critical"
    unused = options.encoder.fine_tune_from not in (None, 0)
    unused = unused or (sampled and options.decoder.attention_kind == "hard")
    if device.index is not None:
        torch.cuda.set_device(device)  # accelerate takes the current one
    return Accelerator(
        mixed_precision="bf16" if is_half(options.training.precision, device) else "no",
        cpu=device.type == "cpu",
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=unused),
            # One process fills the feature cache while the others wait.
            InitProcessGroupKwargs(timeout=timedelta(hours=24)),
        ],
    )


def is_half(precision: str, device: torch.device) -> bool:
    """Whether products are in bfloat16, of a precision as options have it: fp32, bf16 or auto.

    Raises ValueError for another.
    """
    check_precision("precision", precision)
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device))


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and fast


def build_collection(options: DataOptions, grounded: Sequence[str] = ()) -> Collection:
    """Reads (or draws up) the data set that the options name. Raises ValueError as its reader.

    Regions of photographs are read for `options.split`, in which attention is scored, and for the
    splits `grounded`, in which it is told where to look: they must have some.
    """
    collection = _read_collection(options)
    if options.entities is not None:
        for split in unique((options.split, *grounded)):
            records = collection.split(split, options.limit)
            collection.problems += read_entities(Path(options.entities), records)
    for split in grounded:
        if all(record.regions is None for record in collection.split(split)):
            raise ValueError(
                "loss.grounding needs regions: those of data=shapes, or for photographs those of "
                "Flickr30k Entities, data.entities=DIR"
            )
    return collection


def _read_collection(options: DataOptions) -> Collection:
    if options.kind == "shapes":
        return read_shapes(**options.sizes, seed=options.seed)
    root = Path(options.root or ".")
    images = Path(options.images) if options.images else None
    if options.kind == "flickr8k":
        return read_flickr8k(root, images)
    if options.kind == "coco":
        folder = images or root
        return read_coco(
            {split: root / "annotations" / name for split, name in COCO_FILES.items()},
            {split: folder / name for split, name in COCO_IMAGES.items()},
        )
    if options.kind == "webdataset":
        shards = {split: getattr(options, split) for split in ("train", "val", "test")}
        return read_webdataset(root, {split: each for split, each in shards.items() if each})
    if options.kind == "karpathy":
        return read_karpathy(root / options.file, images or root)
    return read_csv(root / options.file, images)


def build_transform(options: EncoderOptions) -> Transform:
    return Transform(options.image_size, options.fit)


def build_model(
    encoder: EncoderOptions, decoder: DecoderOptions, vocabulary: Vocabulary
) -> CaptioningModel:
    """An untrained model; its encoder holds the weights that its options name."""
    trunk = _build_encoder(encoder, encoder.weights).requires_grad_(False)
    trunk.upper.requires_grad_(encoder.tuned)
    return CaptioningModel(trunk, build_decoder(decoder, trunk, vocabulary))


def _build_encoder(options: EncoderOptions, weights: str | None) -> Encoder:
    return build_encoder(
        options.name, options.image_size, options.node, weights, options.fixed_node
    )


def build_decoder(options: DecoderOptions, encoder: Encoder, vocabulary: Vocabulary) -> Decoder:
    return Decoder(vocabulary=len(vocabulary), annotation=encoder.annotation, **vars(options))


def restore_model(checkpoint: Checkpoint, device: torch.device) -> CaptioningModel:
    """The model of a checkpoint, in eval mode. Reads nothing outside the checkpoint's folder."""
    options = checkpoint.options.encoder
    trunk = _build_encoder(options, weights=None)
    trunk.fixed = options.weights is not None
    decoder = partial(build_decoder, checkpoint.options.decoder, trunk, checkpoint.vocabulary)
    checkpoint.check_size(decoder)  # before memory is taken
    model = CaptioningModel(trunk, decoder())
    checkpoint.load_weights(model)
    return model.to(device).eval()


def build_source(
    data: DataOptions,
    options: EncoderOptions,
    encoder: Encoder,
    records: Sequence[Record],
    device: torch.device,
    views: int = 1,
) -> ImageSource:
    """How the model gets at images: cached as far as the encoder is fixed, or as pixels."""
    transform = build_transform(options)
    if not options.cached:
        return ImageSource(transform)
    return ImageSource(
        transform,
        cache_features(
            encoder.lower,
            transform,
            records,
            Path(data.cache_folder),
            track,
            device,
            workers=data.loader_processes,
            views=views,
        ),
    )


def build_objective(
    options: LossOptions,
    model: CaptioningModel,
    records: Sequence[Record],
    vocabulary: Vocabulary,
    max_length: int,
) -> Objective:
    """records: of the items of training's batches; max_length: words of a sampled caption."""
    if options.objective == "cross_entropy":
        return CrossEntropy(options.label_smoothing)
    rewards = CiderReward(records, vocabulary)
    return SelfCritical(model, rewards, options.samples, options.baseline, max_length)


def build_optimizer(
    model: CaptioningModel, encoder_rate: float, options: TrainingOptions
) -> torch.optim.Optimizer:
    """Two groups, decoder and encoder; each keeps its peak learning rate as `peak`."""
    groups = [
        {"params": list(model.decoder.parameters()), "peak": options.learning_rate},
        {"params": list(model.encoder.parameters()), "peak": encoder_rate},
    ]
    if options.optimizer == "rmsprop":
        # As the paper's authors have it, after Graves 2013, equations (38)–(45); their 1e-4 is
        # under the root, and so 1e-2 beside it.
        return torch.optim.RMSprop(
            groups,
            alpha=0.95,
            eps=1e-2,
            weight_decay=options.weight_decay,
            momentum=0.9,
            centered=True,
        )
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    return kinds[options.optimizer](groups, weight_decay=options.weight_decay, fused=True)
