"""A whole training run: from options to a folder with checkpoints, logs, scores and pictures."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
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
from captioner.checkpoint import TrainingState, open_checkpoint, save_checkpoint
from captioner.config import TrainOptions
from captioner.data.images import ImageError
from captioner.data.loader import CaptionedImages, EpochBatches, training_loader
from captioner.data.records import Record
from captioner.files import locked
from captioner.logs import RunLog
from captioner.models.loops import take_faster_loop
from captioner.models.model import CaptioningModel
from captioner.pictures import draw_all, names
from captioner.progress import console
from captioner.provenance import note_start
from captioner.rehearsal import Splits, print_parts, rehearse
from captioner.report import print_metrics, report_problems, write_evaluation
from captioner.run_folder import (
    begun,
    check_options,
    check_vocabulary,
    last_checkpoint,
    new_folder,
    options_of,
)
from captioner.scoring import Facts
from captioner.stopping import Stopped, Stopping
from captioner.training import Trainer
from captioner.validation import Validation
from captioner.vocabulary import Vocabulary

FEW = 60  # updates, in which hardly more than the commonest words are learnt


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

    A dry run, too, ends in None: it prints what the run will take, and leaves nothing behind.

    With `options.start` the recipe begins with the weights of a checkpoint, and its data and model.
    Raises ValueError for a user's mistake, before anything is written.
    """
    resumed = options.resume is not None
    if resumed:
        folder, device = Path(options.resume), options.device
        options = options_of(folder)
        options.device = device or options.device
    elif options.start is not None:
        options = options.from_start(open_checkpoint(options.start).options)
    accelerator = build_accelerator(options)
    if not resumed:
        folder = new_folder(options, accelerator)
    with ExitStack() as held:
        if resumed and accelerator.is_main_process:
            held.enter_context(locked(folder))
        return _run(folder, options, accelerator, held)


def _run(
    folder: Path, options: TrainOptions, accelerator: Accelerator, held: ExitStack
) -> Finished | None:
    """`train` in a folder; one that is not there yet is made, and locked as long as `held` is."""
    last = last_checkpoint(folder, accelerator)
    begin = last or (open_checkpoint(options.start) if options.start else None)
    set_seed(options.training.seed)
    if options.training.threads is not None:
        torch.set_num_threads(options.training.threads)
    collection = build_collection(options.data, ["train"] if options.loss.grounding else [])
    records = {split: collection.split(split, options.data.limit) for split in ("train", "val")}
    captions = collection.captions("train", options.data.limit)
    vocabulary = Vocabulary.build(captions, options.data.min_count)
    model = build_model(options.encoder, options.decoder, vocabulary).to(accelerator.device)
    if begin is not None:  # before features are made with its encoder
        check_vocabulary(begin, vocabulary)
        if begin is last:
            check_options(last, options)
        begin.load_weights(model)
    take_faster_loop(model.decoder, accelerator.device)
    words = options.training.epochs * sum(len(caption.split()) for caption in captions)
    fused = model.decoder.expect(words, model.encoder.grid.height * model.encoder.grid.width)
    if accelerator.is_main_process:
        _announce(options, folder, records, vocabulary, model)
        if fused:
            console.print("note: for so long a run, torch.compile makes attention's scores faster")
        report_problems(collection)

    def build(options: TrainOptions, folder: Path, records: Splits) -> Trainer:
        return _build_trainer(options, folder, records, captions, vocabulary, model, accelerator)

    if options.dry_run:
        parts = rehearse(build, options, folder, records, model.encoder, accelerator.device)
        if accelerator.is_main_process:
            print_parts(parts)
        return None
    trainer = build(options, folder, records)
    if trainer.total < FEW and accelerator.is_main_process:
        console.print(f"note: {trainer.total} updates in all are few; experiment=small makes more")
    if last is not None:
        trainer.restore(last.training_state())
    if accelerator.is_main_process:
        if not (folder / "config.yaml").exists():
            held.enter_context(begun(folder, options))
        note_start(folder, options.training.seed, accelerator)
    accelerator.wait_for_everyone()
    log = RunLog(folder, trainer.position.updates, accelerator.is_main_process)
    try:
        trainer.fit(log)
        if not accelerator.is_main_process:
            return None
        return _finish(folder, options, records["val"], str(accelerator.device))
    except Stopped as stopped:
        raise Stopped(stopped.number, f"stopped; resume={folder} goes on exactly here") from None
    finally:
        log.close()


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
    align = None
    if options.loss.grounding:
        align = Alignment(model.encoder.grid, sources["train"].transform)
    images = CaptionedImages(
        records["train"],
        vocabulary,
        sources["train"],
        options.training.captions_together,
        align,
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
    stopping = Stopping()
    validation = Validation(
        model,
        records["val"],
        vocabulary,
        sources["val"],
        options.search,
        accelerator,
        training=captions,
        stopping=stopping,
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
        training_loader(images, batches, options.data.loader_processes),
        accelerator,
        options.training,
        options.loss,
        build_objective(options.loss, model, images.records, vocabulary, options.search.max_length),
        options.encoder.fine_tune_from,
        validation,
        save,
        stopping,
    )


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
