"""Trains a captioner; see --help."""

from captioner.cli import command
from captioner.config import TrainOptions


@command("train", TrainOptions)
def main(options: TrainOptions) -> None:
    from captioner.run import train  # torch is not needed for --help

    finished = train(options)
    if finished is not None:
        finished.report()


if __name__ == "__main__":
    main()
