"""Captions pictures; see --help."""

import sys

from captioner.cli import command
from captioner.config import CaptionOptions


@command("caption", CaptionOptions, torch=False)
def main(options: CaptionOptions) -> int:
    from captioner.cluster import caption_on_cluster
    from captioner.data.sources import find_sources
    from captioner.exported import load_writer
    from captioner.progress import track
    from captioner.rows import as_row, write_rows

    sources = find_sources(options.images)
    if options.actors:
        rows = caption_on_cluster(sources, options)
    else:
        writer = load_writer(options.checkpoint, options.device, options.search, options.precision)
        writer.expect(len(sources))
        rows = map(as_row, sources, writer.stream(sources, options.batch))
    counts = write_rows(track(rows, "captions", len(sources)), options.out)
    print(f"{counts.captions} captioned, {counts.errors} could not be read", file=sys.stderr)
    return 0 if counts.captions else 1


if __name__ == "__main__":
    main()
