"""Captions pictures; see --help."""

import json
import sys
from contextlib import nullcontext

from captioner.cli import command
from captioner.config import CaptionOptions


@command("caption", CaptionOptions)
def main(options: CaptionOptions) -> int:
    from pathlib import Path

    from captioner.data.images import ImageError, find_images
    from captioner.exported import ExportedCaptioner
    from captioner.files import whole_text
    from captioner.progress import track

    paths = find_images(options.images)
    if ExportedCaptioner.wrote(options.checkpoint):
        kind = ExportedCaptioner
    else:
        from captioner.captioner import Captioner as kind  # noqa: N813  (which needs torch)
    captioner = kind.load(options.checkpoint, options.device, options.search)
    results = zip(paths, captioner.stream(paths, options.batch), strict=True)
    failed = 0
    with nullcontext(sys.stdout) if options.out == "-" else whole_text(Path(options.out)) as out:
        for path, result in track(results, "captions", len(paths)):
            row = {"image": str(path)}
            if isinstance(result, ImageError):
                failed += 1
                row["error"] = str(result)
            else:
                row |= {"caption": result.text, "words": result.words, "log_prob": result.log_prob}
            print(json.dumps(row, ensure_ascii=False), file=out)
    print(f"{len(paths) - failed} captioned, {failed} could not be read", file=sys.stderr)
    return 1 if failed == len(paths) else 0


if __name__ == "__main__":
    main()
