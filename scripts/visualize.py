"""Draws what a captioner looked at; see --help."""

import sys

from captioner.cli import command
from captioner.config import VisualizeOptions


@command("visualize", VisualizeOptions)
def main(options: VisualizeOptions) -> int:
    from pathlib import Path

    from captioner.build import build_collection
    from captioner.captioner import Captioner
    from captioner.checkpoint import open_checkpoint
    from captioner.data.images import ImageError, find_images
    from captioner.pictures import draw_all, names
    from captioner.progress import track

    if options.images is not None:
        sources = find_images(options.images)
        labels = names(sources)
    else:
        data = options.data.over(open_checkpoint(options.checkpoint).options.data)
        records = build_collection(data).split(data.split, data.limit)
        sources = [record.image for record in records]
        labels = names(record.image_id for record in records)
    captioner = Captioner.load(options.checkpoint, options.device, options.search)
    failed = 0
    pictures = track(list(zip(labels, sources, strict=True)), "pictures", len(sources))
    for drawn in draw_all(captioner, pictures, Path(options.out), options.view):
        if isinstance(drawn, ImageError):
            failed += 1
            print(f"left out: {drawn}", file=sys.stderr)
        else:
            print(*drawn, sep="\n")
    return 1 if failed == len(sources) else 0


if __name__ == "__main__":
    main()
