"""Puts captions of several captioners side by side; see --help."""

from captioner.cli import command
from captioner.config import CompareOptions


@command("compare", CompareOptions)
def main(options: CompareOptions) -> None:
    from captioner.comparison_report import side_by_side

    side_by_side(options)


if __name__ == "__main__":
    main()
