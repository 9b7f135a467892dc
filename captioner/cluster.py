"""Many pictures, captioned by a pool of captioners on a Ray cluster, some of which may be lost."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from captioner.caption import Source
from captioner.config import CaptionOptions
from captioner.exported import load_writer
from captioner.process import keep_freed_memory
from captioner.rows import Row, as_row


class CaptionBatch:
    """What each actor holds: a captioner, which is given one batch of pictures after another."""

    def __init__(self, options: CaptionOptions, pictures: int):
        """`pictures` are about as many as it will be given."""
        keep_freed_memory()
        self.writer = load_writer(
            options.checkpoint, options.device, options.search, options.precision
        )
        self.writer.expect(pictures)

    def __call__(self, batch: dict[str, bytes]) -> list[dict[str, str]]:
        """The rows of all the batch's pictures. Before they are done there are none of them."""
        sources = pickle.loads(batch["sources"])  # noqa: S301  (pickled below)
        results = self.writer.stream(sources, len(sources))
        return [{"row": json.dumps(as_row(*pair))} for pair in zip(sources, results, strict=True)]


def caption_on_cluster(sources: Sequence[Source], options: CaptionOptions) -> Iterator[Row]:
    """The pictures' rows in order, each once: those that a single captioner would write.

    Each of `options.actors` captioners takes a core and, where the cluster has some, a GPU. One
    that dies is started anew, and its batch is done again. The cluster is that which the variable
    RAY_ADDRESS names, or else one of this machine alone, as long as this takes. Every machine of it
    must find checkpoint and pictures under the same path.

    Raises ValueError where Ray is missing, and as `load_writer` does.
    """
    # A mistake shows here, in one line.
    load_writer(options.checkpoint, "cpu", options.search, options.precision)
    starts = range(0, len(sources), options.batch)
    batches = [{"sources": pickle.dumps(sources[n : n + options.batch])} for n in starts]
    with _ray_data() as (data, gpus):
        rows = data.from_items(batches, override_num_blocks=len(batches)).flat_map(
            CaptionBatch,
            fn_constructor_args=(options, len(sources) // options.actors),
            compute=data.ActorPoolStrategy(size=options.actors),
            num_cpus=1,
            num_gpus=1 if gpus and options.device != "cpu" else 0,
        )
        for row in rows.iter_rows():
            yield json.loads(row["row"])


@contextmanager
def _ray_data() -> Iterator[tuple[Any, float]]:
    """Ray Data on a cluster that has been joined or started, and how many GPUs there are."""
    try:
        import ray.data
    except ImportError as error:
        raise ValueError("a cluster needs Ray: pip install 'captioner[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        yield ray.data, ray.cluster_resources().get("GPU", 0)
    finally:
        ray.shutdown()
