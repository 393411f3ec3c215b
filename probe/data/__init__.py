"""Data: labelled images as one table, from the forms in which researchers keep them."""

from probe.data.file_hashes import FileHashes
from probe.data.manifests import read_labels
from probe.data.masks import Masks, find_masks
from probe.data.npz import read_npz
from probe.data.open_dataset import dataset
from probe.data.splits import draw_folds, draw_order
from probe.data.table import Dataset, Images, TornGroups, make_dataset
from probe.data.unlabelled import find_images
from probe.settings.image_reading import SPLITS

__all__ = [
    "SPLITS",
    "Dataset",
    "FileHashes",
    "Images",
    "Masks",
    "TornGroups",
    "dataset",
    "draw_folds",
    "draw_order",
    "find_images",
    "find_masks",
    "make_dataset",
    "read_labels",
    "read_npz",
]
