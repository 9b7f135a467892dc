"""Trains a captioner; see --help."""

from captioner.cli import command, refuse_contradictions, refuse_overrides_but
from captioner.config import TrainOptions


@command("train", TrainOptions)
def main(options: TrainOptions) -> float | None:
    """Returns the validation split's score that `training.best` names, for sweepers to optimise."""
    from captioner.run import train

    if options.resume is not None:
        refuse_overrides_but("resume", "device", "debug")
    elif options.start is not None:
        refuse_contradictions()
    finished = train(options)
    if finished is None:
        return None
    finished.report()
    return finished.metrics[options.training.best]


if __name__ == "__main__":
    main()
