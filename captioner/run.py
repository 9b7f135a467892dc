"""A whole training run: from options to a folder with checkpoints, logs, scores and pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed

from captioner.alignment import Alignment
from captioner.build import (
    build_accelerator,
    build_collection,
    build_model,
    build_objective,
    build_optimizer,
    build_source,
)
from captioner.captioner import Captioner
from captioner.checkpoint import (
    Checkpoint,
    TrainingState,
    load_options,
    open_checkpoint,
    save_checkpoint,
    save_options,
)
from captioner.config import TrainOptions
from captioner.data.images import ImageError
from captioner.data.loader import CaptionedImages, EpochBatches, training_loader
from captioner.data.records import Record
from captioner.logs import RunLog
from captioner.models.model import CaptioningModel
from captioner.pictures import draw_all, names
from captioner.progress import console
from captioner.report import print_metrics, report_problems, write_evaluation
from captioner.scoring import Facts
from captioner.training import Trainer
from captioner.validation import Validation
from captioner.vocabulary import Vocabulary


@dataclass
class Finished:
    """What a run leaves behind."""

    checkpoint: Path  # the best
    metrics: Facts  # of the validation split
    pictures: list[Path]

    def report(self) -> None:
        """Prints the scores and where everything is."""
        print_metrics(self.metrics, "validation split")
        print(f"best checkpoint   {self.checkpoint}")
        figures, pages = (
            [path for path in self.pictures if path.suffix == kind] for kind in (".png", ".html")
        )
        for path in (*figures[:1], *pages[-1:]):  # of several pages the last has all pictures
            print(f"where it looked   {path}")


def train(options: TrainOptions) -> Finished | None:
    """Runs a recipe to its end, or goes on with `options.resume`; None off the main process.

    With `options.start` the recipe begins with the weights of a checkpoint, and its data and model.
    Raises ValueError for a user's mistake, before anything is written.
    """
    resumed, begin = options.resume is not None, None
    if resumed:
        folder, device = Path(options.resume), options.device
        options = _options_of(folder)
        options.device = device or options.device
        begin = open_checkpoint(folder / "checkpoints" / "last")
    elif options.start is not None:
        begin = open_checkpoint(options.start)
        options = options.from_start(begin.options)
    accelerator = build_accelerator(options)
    if not resumed:
        folder = _new_folder(options, accelerator)
    set_seed(options.training.seed)
    collection = build_collection(options.data, ["train"] if options.loss.grounding else [])
    records = {split: collection.split(split, options.data.limit) for split in ("train", "val")}
    captions = collection.captions("train", options.data.limit)
    vocabulary = Vocabulary.build(captions, options.data.min_count)
    model = build_model(options.encoder, options.decoder, vocabulary).to(accelerator.device)
    if begin is not None:  # before features are made with its encoder
        _load(begin, model, vocabulary)
    if accelerator.is_main_process:
        _announce(options, folder, records, vocabulary, model)
        report_problems(collection)
    trainer = _build_trainer(options, folder, records, captions, vocabulary, model, accelerator)
    if resumed:
        trainer.restore(begin.training_state())
    elif accelerator.is_main_process:
        folder.mkdir(parents=True)
        save_options(folder / "config.yaml", options)
    accelerator.wait_for_everyone()
    log = RunLog(folder, trainer.position.updates, accelerator.is_main_process)
    try:
        trainer.fit(log)
    finally:
        log.close()
    if not accelerator.is_main_process:
        return None
    return _finish(folder, options, records["val"], str(accelerator.device))


def _build_trainer(
    options: TrainOptions,
    folder: Path,
    records: dict[str, list[Record]],
    captions: list[str],
    vocabulary: Vocabulary,
    model: CaptioningModel,
    accelerator: Accelerator,
) -> Trainer:
    views = options.data.views or 1
    with accelerator.main_process_first():  # the others then find the features cached
        sources = {
            split: build_source(
                options.data,
                options.encoder,
                model.encoder,
                records[split],
                accelerator.device,
                seen,
            )
            for split, seen in (("train", views), ("val", 1))
        }
    align = Alignment(model.encoder.grid, sources["train"].transform)
    images = CaptionedImages(
        records["train"],
        vocabulary,
        sources["train"],
        options.training.captions_together,
        align if options.loss.grounding else None,
    )
    batches = EpochBatches(
        images.lengths,
        options.training.batch_images,
        options.training.seed,
        options.training.accumulation,
        accelerator.process_index,
        accelerator.num_processes,
        views,
        options.training.one_length,
    )
    validation = Validation(
        model,
        records["val"],
        vocabulary,
        sources["val"],
        options.search,
        accelerator,
        training=captions,
    )

    def save(name: str, metrics: dict, state: TrainingState | None) -> None:
        if accelerator.is_main_process:
            if name == "best":
                write_evaluation(validation.latest, *_score_files(folder))
            target = folder / "checkpoints" / name
            save_checkpoint(target, model, options, vocabulary, metrics, state)
        accelerator.wait_for_everyone()

    return Trainer(
        model,
        build_optimizer(model, options.encoder.learning_rate, options.training),
        batches,
        training_loader(images, batches, options.data.workers),
        accelerator,
        options.training,
        options.loss,
        build_objective(options.loss, model, images.records, vocabulary, options.search.max_length),
        options.encoder.fine_tune_from,
        validation,
        save,
    )


def _load(begin: Checkpoint, model: CaptioningModel, vocabulary: Vocabulary) -> None:
    """Raises ValueError where the checkpoint does not belong to these training captions."""
    if begin.vocabulary.hash != vocabulary.hash:
        raise ValueError(
            f"the training captions have changed since {begin.folder} was saved: their vocabulary "
            f"is now {vocabulary.hash}, it was {begin.vocabulary.hash}; restore the data, or start "
            "anew"
        )
    begin.load_weights(model)


def _score_files(folder: Path) -> tuple[Path, Path]:
    """Metrics and captions of the best checkpoint."""
    return folder / "evaluation" / "val.json", folder / "evaluation" / "val-captions.json"


def _finish(folder: Path, options: TrainOptions, records: list[Record], device: str) -> Finished:
    """Draws the first captions of the best checkpoint, and reads what it scored."""
    best = folder / "checkpoints" / "best"
    metrics = json.loads(_score_files(folder)[0].read_text(encoding="utf-8"))
    captioner = Captioner.load(best, device, options.search)
    shown = records[: options.training.pictures]
    named = zip(names(r.image_id for r in shown), (r.image for r in shown), strict=True)
    drawn = draw_all(captioner, named, folder / "attention", "attention")
    found = [paths for paths in drawn if not isinstance(paths, ImageError)]
    return Finished(best, metrics, list(chain.from_iterable(found)))


def _new_folder(options: TrainOptions, accelerator: Accelerator) -> Path:
    """The folder of a new run, which must not exist yet."""
    runs, name = Path(options.runs), options.name
    if name is None:  # the first of shapes, shapes-2, shapes-3, … that is free
        candidates = chain([options.data.kind], (f"{options.data.kind}-{n}" for n in count(2)))
        name = next(name for name in candidates if not (runs / name).exists())
    if (runs / name).exists():
        raise ValueError(
            f"{runs / name} exists already; resume={runs / name} goes on with it, "
            "another name= starts a new run"
        )
    accelerator.wait_for_everyone()  # before one process makes the folder that another looks for
    return runs / name


def _options_of(folder: Path) -> TrainOptions:
    if not (folder / "config.yaml").exists():
        raise ValueError(f"resume={folder} is no run: it has no config.yaml")
    return load_options(folder / "config.yaml")


def _announce(
    options: TrainOptions,
    folder: Path,
    records: dict[str, list[Record]],
    vocabulary: Vocabulary,
    model: CaptioningModel,
) -> None:
    """Says what is about to be trained."""
    grid = model.encoder.grid
    size = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    console.print(
        f"{len(records['train'])} training and {len(records['val'])} validation images, "
        f"{len(vocabulary)} words; {options.encoder.name}, {grid.height}×{grid.width} locations; "
        f"{size:.1f} million trained weights; run folder {folder}",
        soft_wrap=True,
    )
    random = options.encoder.weights is None and options.start is None
    if random and not options.encoder.tuned:
        console.print("note: the encoder is frozen and has random weights (encoder.weights=null)")
