"""Captions pictures; see --help."""

import sys

from captioner.cli import command
from captioner.config import CaptionOptions


@command("caption", CaptionOptions)
def main(options: CaptionOptions) -> int:
    from captioner.data.images import find_images
    from captioner.exported import ExportedCaptioner
    from captioner.progress import track
    from captioner.rows import as_row, write_rows

    paths = find_images(options.images)
    if ExportedCaptioner.wrote(options.checkpoint):
        kind = ExportedCaptioner
    else:
        from captioner.captioner import Captioner as kind  # noqa: N813  (which needs torch)
    captioner = kind.load(options.checkpoint, options.device, options.search)
    results = track(captioner.stream(paths, options.batch), "captions", len(paths))
    captioned, failed = write_rows(map(as_row, paths, results), options.out)
    print(f"{captioned} captioned, {failed} could not be read", file=sys.stderr)
    return 0 if captioned else 1


if __name__ == "__main__":
    main()
