"""Averages the weights of checkpoints; see --help."""

from captioner.cli import command
from captioner.config import AverageOptions


@command("average", AverageOptions)
def main(options: AverageOptions) -> None:
    from captioner.soup import average

    print(f"written: {average(options.checkpoints, options.out, options.shares)}")


if __name__ == "__main__":
    main()
