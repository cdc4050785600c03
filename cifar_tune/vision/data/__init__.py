"""Finds, decodes, caches and splits the dataset of a search.

The Lightning part is `cifar_tune.vision.data.datamodule`, what the finals open is
`cifar_tune.vision.data.held_out`; neither is imported here, so that this room needs no torch.
"""

from cifar_tune.vision.data.cache import cache_root, empty_cache, find_dataset, list_entries
from cifar_tune.vision.data.dataset import Dataset, Images, SearchData
from cifar_tune.vision.data.fetch import download
from cifar_tune.vision.data.found import few_steps
from cifar_tune.vision.data.preparation import describe, prepare, prepare_drawn
from cifar_tune.vision.data.splits import search_data, settle

__all__ = [
    "Dataset", "Images", "SearchData", "cache_root", "describe", "download", "empty_cache",
    "few_steps", "find_dataset", "list_entries", "prepare", "prepare_drawn", "search_data",
    "settle",
]  # fmt: skip
