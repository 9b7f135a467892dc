"""Times it all beside the textbook and beside the machine's limits; see --help."""

from captioner.cli import command
from captioner.config import BenchmarkOptions


@command("benchmark", BenchmarkOptions)
def main(options: BenchmarkOptions) -> None:
    from captioner.benchmark.suite import benchmark
    from captioner.benchmark.table import as_json, print_report, write_json

    report = benchmark(options)
    if options.out == "-":
        print(as_json(report))
        return
    print_report(report)
    print(f"written: {write_json(report, options.out)}")


if __name__ == "__main__":
    main()
