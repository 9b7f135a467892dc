"""Puts captions of several captioners side by side; see --help."""

from captioner.cli import command
from captioner.config import CompareOptions


@command("compare", CompareOptions)
def main(options: CompareOptions) -> None:
    from pathlib import Path

    from captioner.build import build_collection
    from captioner.comparison import compare, find_entries
    from captioner.comparison_report import print_comparison, write_comparison
    from captioner.report import report_problems, report_skipped

    data = options.data
    entries = find_entries(options.captions, data.split)
    collection = build_collection(data)
    report_problems(collection)
    comparison = compare(
        entries,
        collection.split(data.split, data.limit),
        options.metrics,
        collection.captions("train"),
    )
    written = write_comparison(comparison, Path(options.out))
    report_skipped(comparison.skipped)
    print_comparison(comparison)
    print("written:", *written)


if __name__ == "__main__":
    main()
