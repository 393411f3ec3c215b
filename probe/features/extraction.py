"""Features extracted: read from the cache, or made in one pass over the images and kept there."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from probe.base.files import digest_of
from probe.base.runtime import default_folder, log, pick_device
from probe.cache.inventory import of_other_versions
from probe.cache.requests import data_fingerprint, network_request
from probe.cache.store import Store
from probe.data import Dataset, FileHashes
from probe.features.features import Features
from probe.settings import Extraction

if TYPE_CHECKING:
    from probe.backbones import Backbone

Walk = Callable[[range], Iterator[dict[str, NDArray[np.float32]]]]  # from rows to blocks of them, in order


def extract(
    net: "Backbone", data: Dataset, settings: Extraction | None = None, *, cache: str | Path | None = None
) -> Features:
    """Pooled features of every tap for every image: read from the cache, or made in one pass and kept there.

    A run that was stopped goes on where it was. Raises ProbeError when an image cannot be read,
    a tap cannot be pooled as asked, or the features do not fit on the disk.
    """
    from probe.features.network_reader import NotCompiledError, settle  # needs torch, which a warm run does without

    settings = settings or Extraction()
    for tap in net.table():
        tap.check_pool(settings.pool)
    device = pick_device(settings.device)
    settled = settle(settings, len(data) * net.macs, device)
    try:
        return _extract(net, data, settled, device, Path(cache) if cache else default_folder())
    except NotCompiledError as error:
        log.warning("%s is read uncompiled: %s", net.origin.arch, error)
        plain = settle(replace(settings, compile="off"), 0, device)
        return _extract(net, data, plain, device, Path(cache) if cache else default_folder())


def _extract(net: "Backbone", data: Dataset, settings: Extraction, device: str, folder: Path) -> Features:
    table = net.table()
    request = {
        **network_request(net, settings, device),
        "widths": {tap.name: tap.pooled_width(settings.pool) for tap in table},
    }

    def begin(batch_size: int) -> Walk:
        from probe.features.network_reader import Reader
        from probe.features.walk import walk_dataset

        read = Reader(net, replace(settings, batch_size=batch_size), device)
        return lambda rows: walk_dataset(read, data, rows)

    facts = {"request": request, "origin": net.describe(), "taps": [tap.to_dict() for tap in table]}
    return keep_arrays(facts, data, settings.batch_size, begin, folder)


def keep_arrays(
    facts: dict[str, Any], data: Dataset, batch_size: int, begin: Callable[[int], Walk], cache: Path
) -> Features:
    """The arrays that `facts` (`request`, `origin`, `taps`) stand for: those in the cache, or made now and kept there.

    `begin`, given the batch size, which is that of an earlier run if one left off, gives a function from rows to
    their blocks. The request names the `widths` of the arrays. Raises ProbeError when they do not fit on the disk.
    """
    store = _store(cache, facts, data)
    with store.locked():
        whole = store.check()
        where = f"{len(store.arrays)} taps x {len(data)} images, {store.nbytes / 1e6:.1f} MB in {store.folder}"
        log.info("features of %s: %s", facts["origin"]["arch"], where)
        if not whole:
            _fill(store, batch_size, begin)
        return _finished(store, data)


def recall(facts: dict[str, Any], data: Dataset, cache: Path) -> Features | None:
    """The features of a network described by `facts` if they are complete, without the network."""
    store = _store(cache, facts, data)
    with store.locked():
        return _finished(store, data) if store.all_entered() and store.check() else None


def _store(cache: Path, facts: dict[str, Any], data: Dataset) -> Store:
    request = {**facts["request"], "data": data_fingerprint(data, FileHashes(cache))}
    facts = {**facts, "request": request, "dataset": data.name}
    return Store(cache / digest_of(request), request["widths"], len(data), facts)


def _finished(store: Store, data: Dataset) -> Features:
    features = Features.of(store, data)
    store.state_rows(features.rows)
    return features


def _fill(store: Store, batch_size: int, begin: Callable[[int], Walk]) -> None:
    """Make the missing rows and commit them chunk by chunk."""
    batch_size = store.kept_batch_size(batch_size)
    walk = begin(batch_size)
    missing = store.prepare(batch_size)
    for digest, difference in of_other_versions(store.folder, store.facts["request"]).items():
        log.info("not used: the same features made with other versions (%s), in %s", difference, digest)
    left = sum(map(len, missing))
    first, name = next(iter(store.arrays)), store.facts["origin"]["arch"]
    with tqdm(total=store.rows, initial=store.rows - left, unit="image", disable=None, desc=name) as bar:
        for rows in missing:
            start, held = rows.start, []
            for batch in walk(rows):
                held.append(batch)
                count = sum(len(part[first]) for part in held)
                bar.update(len(batch[first]))
                if count >= store.chunk_rows or start + count == rows.stop:
                    store.commit(start, {tap: np.concatenate([part[tap] for part in held]) for tap in store.arrays})
                    start, held = start + count, []
