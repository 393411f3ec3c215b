"""Data: labelled images as one table, from the forms in which researchers keep them."""

from probe.data.fingerprints import FileHashes
from probe.data.sources import dataset
from probe.data.splits import SPLITS
from probe.data.table import Dataset, make_dataset

__all__ = ["SPLITS", "Dataset", "FileHashes", "dataset", "make_dataset"]
