"""Data: labelled images as one table, from the forms in which researchers keep them."""

from probe.data.fingerprints import FileHashes
from probe.data.sources import dataset
from probe.data.splits import SPLITS
from probe.data.table import Dataset, TornGroups, make_dataset

__all__ = ["SPLITS", "Dataset", "FileHashes", "TornGroups", "dataset", "make_dataset"]
