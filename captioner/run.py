"""A whole training run: from options to a folder with checkpoints, logs, scores and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object, set_seed

from captioner.build import (
    build_collection,
    build_device,
    build_model,
    build_optimizer,
    build_source,
)
from captioner.captioner import Captioner
from captioner.checkpoint import (
    TrainingState,
    load_options,
    open_checkpoint,
    save_checkpoint,
    save_options,
)
from captioner.config import TrainOptions
from captioner.data.loader import CaptionedImages, EpochBatches, ImageSource, training_loader
from captioner.data.records import Collection, Record
from captioner.evaluation import Evaluation, decode, evaluate
from captioner.logs import RunLog
from captioner.models.model import CaptioningModel
from captioner.pictures import draw
from captioner.progress import console
from captioner.report import print_metrics, report_problems, write_evaluation
from captioner.training import Trainer, batch_loss
from captioner.vocabulary import Vocabulary


@dataclass
class Finished:
    """What a run leaves behind."""

    folder: Path
    checkpoint: Path  # the best
    evaluation: Evaluation  # of the validation split
    pictures: list[Path]

    def report(self) -> None:
        """Prints the scores and where everything is."""
        print_metrics(self.evaluation.metrics, "validation split")
        console.print(f"best checkpoint   {self.checkpoint}", soft_wrap=True)
        for kind, suffix in (("attention, words", ".png"), ("attention, page ", ".html")):
            first = next((path for path in self.pictures if path.suffix == suffix), None)
            if first:
                console.print(f"{kind}  {first}", soft_wrap=True)


class Validation:
    """Scores a model on the validation split, images shared out over the processes."""

    def __init__(
        self,
        options: TrainOptions,
        model: CaptioningModel,
        records: Sequence[Record],
        vocabulary: Vocabulary,
        source: ImageSource,
        accelerator: Accelerator,
    ):
        self.options, self.model, self.accelerator = options, model, accelerator
        self.records, self.vocabulary, self.source = records, vocabulary, source
        images = CaptionedImages(records, vocabulary, source)
        lengths = [len(captions[0]) for captions in images.captions]
        batches = EpochBatches(lengths, min(64, len(records)))
        self.loader = training_loader(images, batches)

    def evaluation(self) -> Evaluation:
        """Decoded freely; on every process the whole split's scores."""
        accelerator, options = self.accelerator, self.options
        mine = self.records[accelerator.process_index :: accelerator.num_processes]
        traced = options.data.kind == "shapes"
        decoded = list(decode(self.model, mine, self.source, options.search, trace=traced))
        if accelerator.num_processes > 1:
            order = {record.image_id: i for i, record in enumerate(self.records)}
            decoded = sorted(gather_object(decoded), key=lambda d: order[d.record.image_id])
        grid = self.model.encoder.grid
        return evaluate(decoded, self.vocabulary, (grid.height, grid.width), options.search.width)

    @torch.no_grad()
    def loss(self) -> float:
        """Teacher-forced cross-entropy in nats per word: for curves, not for choosing."""
        total, words = 0.0, 0
        for batch in self.loader:
            batch = batch.to(self.accelerator.device)
            total += float(batch_loss(self.model, batch).cross_entropy)
            words += batch.words
        return total / words

    def __call__(self) -> dict[str, float]:
        """A line's worth of scores, without intervals."""
        metrics = self.evaluation().metrics
        plain = {k: v for k, v in metrics.items() if not k.endswith(("-low", "-high"))}
        kept = {k: v for k, v in plain.items() if isinstance(v, float) and not k.endswith("-bp")}
        return {"val_loss": self.loss(), **kept}


def train(options: TrainOptions) -> Finished | None:
    """Runs a recipe to its end, or goes on with `options.resume`; None off the main process.

    Raises ValueError for a user's mistake, before anything is written.
    """
    accelerator = build_accelerator(options)
    set_seed(options.training.seed)
    folder, options, resumed = _folder_and_options(options, accelerator)
    collection = build_collection(options.data)
    train_records, val_records = (collection.split(s, options.data.limit) for s in ("train", "val"))
    captions = [text for record in train_records for text in record.captions]
    vocabulary = Vocabulary.build(captions, options.data.min_count)
    model = build_model(options.encoder, options.decoder, vocabulary)
    model.encoder.requires_grad_(options.encoder.tuned)
    model.to(accelerator.device)
    if accelerator.is_main_process:
        _report(collection, train_records, val_records, vocabulary, model, options, folder)

    def source(records: Sequence[Record]) -> ImageSource:
        return build_source(options.data, options.encoder, model.encoder, records, model_device)

    model_device = accelerator.device
    with accelerator.main_process_first():  # the others find the features cached
        train_source, val_source = source(train_records), source(val_records)
    images = CaptionedImages(train_records, vocabulary, train_source)
    batches = EpochBatches(
        [len(captions[0]) for captions in images.captions],
        options.training.batch_images,
        options.training.seed,
        options.training.accumulation,
        accelerator.process_index,
        accelerator.num_processes,
    )
    validation = Validation(options, model, val_records, vocabulary, val_source, accelerator)

    def save(name: str, metrics: dict, state: TrainingState | None) -> None:
        if accelerator.is_main_process:
            target = folder / "checkpoints" / name
            save_checkpoint(target, model, options, vocabulary, metrics, state)
        accelerator.wait_for_everyone()

    trainer = Trainer(
        model,
        build_optimizer(model, options.encoder.learning_rate, options.training),
        batches,
        training_loader(images, batches, options.data.workers),
        accelerator,
        options.training,
        options.loss,
        options.encoder.fine_tune_from,
        validation,
        save,
    )
    if resumed:
        last = open_checkpoint(folder / "checkpoints" / "last")
        last.load_weights(model)
        trainer.restore(last.training_state())
    elif accelerator.is_main_process:
        folder.mkdir(parents=True)
        save_options(folder / "config.yaml", options)
    accelerator.wait_for_everyone()
    log = RunLog(folder, trainer.position.updates, accelerator.is_main_process)
    try:
        trainer.fit(log)
    finally:
        log.close()
    best = folder / "checkpoints" / "best"
    open_checkpoint(best).load_weights(model)
    model.eval()
    evaluation = validation.evaluation()
    if not accelerator.is_main_process:
        return None
    scores = folder / "evaluation"
    write_evaluation(evaluation, scores / "val.json", scores / "val-captions.json")
    captioner = Captioner.load(best, str(accelerator.device))
    shown = val_records[: options.training.pictures]
    pictures = [
        draw(captioner, Path(r.image_id).stem, r.image, folder / "attention") for r in shown
    ]
    pictures = list(chain.from_iterable(pictures))
    return Finished(folder, best, evaluation, pictures)


def build_accelerator(options: TrainOptions) -> Accelerator:
    """Devices, mixed precision and processes. Raises ValueError for a device that is not there."""
    device = build_device(options.device)
    precision = options.training.precision
    if precision == "auto":
        precision = "bf16" if has_fast_bf16(device) else "fp32"
    unused = options.encoder.fine_tune_from not in (None, 0)
    return Accelerator(
        mixed_precision="bf16" if precision == "bf16" else "no",
        cpu=device.type == "cpu",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpu = torch.cpu
    return device.type == "cpu" and (
        cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
    )


def _folder_and_options(
    options: TrainOptions, accelerator: Accelerator
) -> tuple[Path, TrainOptions, bool]:
    """Where the run lives; its own options again, where it is resumed."""
    if options.resume is not None:
        folder = Path(options.resume)
        if not (folder / "config.yaml").exists():
            raise ValueError(f"resume={folder} is no run: it has no config.yaml")
        return folder, load_options(folder / "config.yaml"), True
    runs = Path(options.runs)
    name = options.name or _free_name(runs, f"{options.data.kind}")
    if (runs / name).exists():
        raise ValueError(
            f"{runs / name} exists already; go on with it by resume={runs / name}, "
            "or give this run another name="
        )
    accelerator.wait_for_everyone()
    return runs / name, options, False


def _free_name(runs: Path, name: str) -> str:
    """`name`, or the first of `name-2`, `name-3`, … that is not taken."""
    names = chain([name], (f"{name}-{n}" for n in count(2)))
    return next(n for n in names if not (runs / n).exists())


def _report(
    collection: Collection,
    train_records: Sequence[Record],
    val_records: Sequence[Record],
    vocabulary: Vocabulary,
    model: CaptioningModel,
    options: TrainOptions,
    folder: Path,
) -> None:
    """Says what is about to be trained, and what the data reader left out."""
    grid = model.encoder.grid
    size = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    console.print(
        f"{len(train_records)} training and {len(val_records)} validation images, "
        f"{len(vocabulary)} words; {options.encoder.name} {grid.height}×{grid.width}, "
        f"{size:.1f} million trained weights; run folder {folder}",
        soft_wrap=True,
    )
    report_problems(collection)
    if options.encoder.weights is None and not options.encoder.tuned:
        console.print("note: the encoder is frozen and has random weights (encoder.weights=null)")
