"""Scores a checkpoint on a split; see --help."""

import json

from captioner.cli import command
from captioner.config import EvaluateOptions


@command("evaluate", EvaluateOptions)
def main(options: EvaluateOptions) -> None:
    from pathlib import Path

    from captioner.attention_scores import Probe
    from captioner.build import (
        build_collection,
        build_device,
        build_source,
        is_half,
        restore_model,
    )
    from captioner.checkpoint import open_checkpoint
    from captioner.evaluation import decode, evaluate
    from captioner.progress import track
    from captioner.report import (
        print_metrics,
        report_problems,
        report_skipped,
        write_evaluation,
    )
    from captioner.scoring import check_tokenizer

    check_tokenizer(options.metrics)
    checkpoint = open_checkpoint(options.checkpoint)
    device = build_device(options.device)
    model = restore_model(checkpoint, device)
    data = options.data.over(checkpoint.options.data)
    collection = build_collection(data)
    report_problems(collection)
    records = collection.split(data.split, data.limit)
    source = build_source(data, checkpoint.options.encoder, model.encoder, records, device)
    if is_half(options.precision, device):
        model = model.for_captioning(half=True)  # else it repeats to the digit what training saw
    grid, transform = model.encoder.grid, source.transform
    probe = Probe(model.decoder, checkpoint.vocabulary, grid, transform)
    decoded = decode(
        model, records, source, options.search, workers=data.workers, trace=True, probe=probe
    )
    evaluation = evaluate(
        track(decoded, "captions", len(records)),
        checkpoint.vocabulary,
        grid,
        transform,
        options.search,
        options.metrics,
        collection.captions("train", checkpoint.options.data.limit),
    )
    report_skipped(evaluation.scores.skipped)
    if options.out == "-":
        print(json.dumps(evaluation.metrics))
        return
    out = Path(options.out)
    write_evaluation(evaluation, out / "metrics.json", out / "captions.json")
    print_metrics(evaluation.metrics, f"{data.split} split")
    print(f"written: {out / 'metrics.json'}, {out / 'captions.json'}")


if __name__ == "__main__":
    main()
