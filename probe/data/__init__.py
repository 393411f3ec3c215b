"""Data: labelled images as one table, from the forms in which researchers keep them."""

from probe.data.fingerprints import FileHashes
from probe.data.sources import dataset
from probe.data.splits import SPLITS
from probe.data.table import Dataset, Images, TornGroups, make_dataset
from probe.data.unlabelled import find_images

__all__ = ["SPLITS", "Dataset", "FileHashes", "Images", "TornGroups", "dataset", "find_images", "make_dataset"]
