"""Writes a checkpoint as ONNX; see --help."""

from captioner.cli import command
from captioner.config import ExportOptions


@command("export", ExportOptions)
def main(options: ExportOptions) -> None:
    from captioner.captioner import Captioner
    from captioner.export import export

    captioner = Captioner.load(options.checkpoint, "cpu", options.search)
    folder = export(captioner, options.out)
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size / 1e6:8.1f} MB   {path}")


if __name__ == "__main__":
    main()
