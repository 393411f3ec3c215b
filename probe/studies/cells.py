"""Networks cut and trained one after the other, each kept in a file, so that what is trained once stays so."""

import json
from pathlib import Path
from typing import Any

from probe.backbones import Backbone, Networks, NetworkSpec
from probe.base.files import replace_text
from probe.base.runtime import default_folder, log
from probe.cache.manifest import digest_of
from probe.data import Dataset
from probe.finetuning import finetune, request_of
from probe.records.rows import to_json
from probe.settings import Network, Training, Tuning
from probe.truncation import Truncated, truncate

Known = dict[str, Any]
PARTS = {"weights", "tap", "strategy", "seed", "seconds", "params", "draws", "val", "rows"}  # of a cell


class Trainer:
    """Trains one network after the other; what is finished is read from its file in `folder`.

    A trained network is a dict: what it is, its seconds and parameters, its `rows`, its score on `val`, and on test the
    score with its `draws`.
    """

    def __init__(
        self, arch: str, data: Dataset, network: Network, training: Training, tuning: Tuning, folder: Path,
        cache: str | Path | None, networks: Networks | None = None,
    ) -> None:  # fmt: skip
        self.arch, self.data, self.network, self.training, self.tuning = arch, data, network, training, tuning
        self.folder, self.cache = folder, Path(cache) if cache else default_folder()
        self.networks = networks or Networks()
        self._told: set[Path] = set()

    def recall(self, weights: str, strategy: str, tap: str, seed: int) -> Known | None:
        """One network, if it was trained before."""
        return self._read(self._place(self._model(weights, tap, seed), weights, strategy, seed))

    def cell(self, weights: str, strategy: str, tap: str, seed: int) -> Known:
        """One network, trained or recalled."""
        model = self._model(weights, tap, seed)
        place = self._place(model, weights, strategy, seed)
        found = self._read(place)
        if found is not None:
            return found
        log.info("training %s, %s, cut at %s, %s, seed %d", self.arch, weights, tap, strategy, seed)
        place.parent.mkdir(parents=True, exist_ok=True)
        result = finetune(
            model, self.data.redraw(seed), strategy, seed=seed, training=self.training, tuning=self.tuning,
            checkpoint=place.with_suffix(".ckpt"), cache=self.cache,
        )  # fmt: skip
        cell = {
            "weights": weights, "tap": tap, "strategy": strategy, "seed": seed, "seconds": result.seconds,
            "params": result.model.params, "draws": result.draws["test"].tolist(),
            "val": float(result.draws["val"][0]), "rows": result.rows.to_dict(orient="records"),
        }  # fmt: skip
        written = to_json(cell)
        replace_text(place, written)
        return json.loads(written)  # type: ignore[no-any-return]

    def _model(self, weights: str, tap: str, seed: int) -> Truncated:
        several = self.data.task == "multilabel"
        return truncate(self._net(weights, seed), tap, self.data.classes, multilabel=several, seed=seed)

    def _place(self, model: Truncated, weights: str, strategy: str, seed: int) -> Path:
        data = self.data.redraw(seed)
        request = request_of(model, data, strategy, seed, self.training, self.tuning, self.cache)
        known = {"weights": weights, "tap": model.tap, "strategy": strategy, "seed": seed, "request": request}
        return self.folder / f"{digest_of({**known, 'draws': self.training.draws})}.json"

    def _net(self, weights: str, seed: int) -> Backbone:
        return self.networks(NetworkSpec.of(self.network, self.arch, weights, seed).sized(self.data.image_size))

    def _read(self, place: Path) -> Known | None:
        """What a file holds; one that is damaged is told once, and is as if it were not there."""
        if not place.is_file():
            return None
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if isinstance(found, dict) and set(found) >= PARTS:
            return found
        if place not in self._told:
            self._told.add(place)
            log.warning("'%s' is damaged, so the network that it stood for has to be trained again", place)
        return None
