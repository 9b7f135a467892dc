"""Readers of the field's data sets, and of a plain table of one's own.

Each returns a Collection. A file or folder that is missing, or is no such data set, raises
ValueError in one line, and so does a data set with nothing usable in it. Anything smaller (a
malformed line, a missing image, an image in two splits) is left out and named in `problems`.
"""

from captioner.data.readers.coco import read_coco
from captioner.data.readers.entities import read_entities
from captioner.data.readers.flickr8k import read_flickr8k
from captioner.data.readers.karpathy import read_karpathy
from captioner.data.readers.table import read_csv
from captioner.data.readers.webdataset import read_webdataset

__all__ = [
    "read_coco",
    "read_csv",
    "read_entities",
    "read_flickr8k",
    "read_karpathy",
    "read_webdataset",
]
