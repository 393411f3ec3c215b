"""One network and the images it is asked about: maps of what a class rests on, and numbers for each image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.attribution import METHODS, AtTap, attribute, make_baseline, raw_maps
from analysis.attribution.faithfulness import KINDS, agreement, area, completeness_gap, perturbation_curves
from analysis.attribution.pointing import area_share, energy_in_mask, pointing_game
from analysis.attribution.summaries import long_rows
from probe.backbones import Preprocessing
from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.base.runtime import log
from probe.data import Dataset, Masks, draw_order
from probe.features.network_reader import moments, normalised
from probe.features.walk import read_batches, read_chunks, transform
from probe.settings import Attribution, Batches
from probe.truncation import Truncated, cascade

REFERENCES = 64  # training images that GradientSHAP draws its baselines from
FAR = 0.1  # mean completeness gap that is told


class Pictures:
    """Images and masks of a data set as networks take them, read once for all networks that take them alike."""

    def __init__(self, data: Dataset, masks: Masks | None, batches: Batches) -> None:
        self.data, self._masks, self._batches = data, masks, batches
        self._read: dict[Any, Tensor] = {}

    def images(self, sizes: Preprocessing, rows: NDArray[np.int64]) -> Tensor:
        """As bytes, (n, 3, h, w)."""
        key = (sizes.image_size, sizes.interpolation, sizes.crop, tuple(rows.tolist()))
        if key not in self._read:
            batches = read_batches(self.data.images, transform(sizes), self._batches, rows.tolist())
            self._read[key] = torch.cat(list(batches))
        return self._read[key]

    def masks(self, sizes: Preprocessing, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """What is inside, resized and cropped as the images are, (n, h, w); nothing where there is no mask."""
        made = torch.zeros(len(rows), sizes.image_size, sizes.image_size, dtype=torch.bool)
        known = np.flatnonzero(self._masks.known[rows]) if self._masks else np.array([], int)
        key = ("masks", sizes.image_size, sizes.crop, tuple(rows.tolist()))
        if self._masks is not None and len(known) and key not in self._read:
            prepare = transform(replace(sizes, interpolation="nearest"))
            made[known] = next(read_chunks(self._masks, prepare, self._batches.num_workers, [rows[known]]))[:, 0] > 0
        found: NDArray[np.bool_] = self._read.setdefault(key, made).numpy()
        return found


def places_of(target: str, data: Dataset, classes: Sequence[str]) -> NDArray[np.int64] | None:
    """Per image (n,) the class of a network to ask of it; None where that is what it predicts.

    Raises ProbeError for a target that is none of its classes, or labels that are not.
    """
    if target == "predicted":
        return None
    if target != "label":
        if target not in classes:
            raise unknown("target", target, ["label", "predicted", *classes])
        return np.full(len(data), list(classes).index(target))
    of_image = data.task.row_classes(data.labels)
    if of_image is None:
        raise ProbeError("images with several labels have no one target: take predicted, or the name of a class")
    missing = next((name for name in data.classes if name not in classes), None)
    if missing is not None:
        raise ProbeError(f"the network knows no class '{missing}', which the images have; take the target predicted")
    return np.array([list(classes).index(name) for name in data.classes])[of_image]


class AttributionRun:
    """A network in eval mode on the device, some rows of a data set as it takes them, and a class to ask of each.

    `pictures` (n, 3, h, w) are the images as bytes, `masks` (n, h, w) what is inside, `targets` (n,) the classes.
    """

    def __init__(
        self, model: Truncated, pictures: Pictures, rows: NDArray[np.int64], settings: Attribution, batches: Batches,
        device: str, seed: int,
    ) -> None:  # fmt: skip
        self.model, self.settings, self.batches = model.eval().requires_grad_(False).to(device), settings, batches
        self.data, self.device, self.seed = pictures.data, device, seed
        sizes = model.preprocessing
        self.pictures, self.masks = pictures.images(sizes, rows), pictures.masks(sizes, rows)
        self.images = self._normalised(self.pictures)
        self.targets = self._targets(rows)
        self.mean, self.std = sizes.mean, sizes.std
        self.references = self._references(pictures) if settings.method == "gradient-shap" else None

    def maps(self) -> Tensor:
        """The maps, (n, h, w)."""
        found = attribute(_at_tap(self.model), self.images, self.targets, **self._how(len(self.images)))
        empty = int((found.flatten(1).amax(1) <= 0).sum())
        if empty:
            log.info("%d of %d maps have no positive value: nothing there speaks for the class", empty, len(found))
        return found

    def numbers(self, maps: Tensor, **known: str) -> list[dict[str, Any]]:
        """A row per number and image."""
        values: dict[str, NDArray[Any]] = {"probability": self._probability()}
        if self.settings.method == "integrated-gradients":
            filler = self._baseline(self.images)
            values["completeness_gap"] = completeness_gap(
                self.model, self.images, self.targets, maps, filler, self.batches.batch_size
            )
            missing = float(np.nanmean(values["completeness_gap"]))
            if missing > FAR:
                log.warning("the maps miss the change of the logit by %.0f %% of it; take more --steps", 100 * missing)
        if self.masks.any():
            found, covered = maps.cpu().numpy(), area_share(self.masks)
            inside = energy_in_mask(found, self.masks)
            values |= {"energy_in_mask": inside, "mask_area": np.where(np.isnan(inside), np.nan, covered)}
            values |= {"energy_above_area": inside - covered, "pointing_game": pointing_game(found, self.masks)}
        few = min(self.settings.checked, len(maps))
        rows = long_rows(values, **known)
        return rows + (long_rows(self._curves(maps[:few]), **known) + self._cascade(maps[:few], known) if few else [])

    def _curves(self, maps: Tensor) -> dict[str, NDArray[Any]]:
        """Areas under deletion (to the baseline) and insertion (into the blurred image), and of pixels at random."""
        images, targets = self.images[: len(maps)], self.targets[: len(maps)]
        fillers = self._baseline(images), make_baseline(images, "blur", self.mean, self.std)
        found = {}
        for kind, filler in zip(KINDS, fillers, strict=True):
            for end, ranked in (("", maps), ("_random", torch.zeros_like(maps))):
                how = {"seed": self.seed, "batch_size": self.batches.batch_size}
                curves = perturbation_curves(self._probabilities, images, targets, ranked, filler, kind, **how)
                found[f"{kind}_area{end}"] = area(curves)
        return found

    def _cascade(self, maps: Tensor, known: dict[str, str]) -> list[dict[str, Any]]:
        """Rank correlations with the maps of the network as ever more of it is drawn anew, of values and of sizes."""
        rows, count = [], len(maps)
        before = maps.cpu().numpy()
        for part, drawn in cascade(self.model):
            after = raw_maps(_at_tap(drawn), self.images[:count], self.targets[:count], **self._how(count))
            found = {"rank_correlation": agreement(before, after.cpu().numpy())}
            if METHODS[self.settings.method].signed:
                found["rank_correlation_of_sizes"] = agreement(np.abs(before), after.abs().cpu().numpy())
            rows += long_rows(found, randomised=part, **known)
        return rows

    def _how(self, count: int) -> dict[str, Any]:
        chosen, batch_size = self.settings, self.batches.batch_size
        numbers = {"steps": chosen.steps, "samples": chosen.samples, "seed": self.seed, "batch_size": batch_size}
        return {
            "method": chosen.method,
            "baseline": self._baseline(self.images[:count]),
            **numbers,
            "patch": chosen.patch,
            "references": self.references,
        }

    def _baseline(self, images: Tensor) -> Tensor:
        return make_baseline(images, self.settings.baseline, self.mean, self.std)

    def _references(self, pictures: Pictures) -> Tensor:
        train = np.flatnonzero(self.data.splits == "train")
        order = train[draw_order(self.data.strata(train), None, self.seed)]
        return self._normalised(pictures.images(self.model.preprocessing, order[:REFERENCES]))

    def _targets(self, rows: NDArray[np.int64]) -> Tensor:
        """Per image the class whose logit is attributed."""
        places = places_of(self.settings.target, self.data, self.model.classes)
        if places is None:
            return self._logits().argmax(1)
        return torch.from_numpy(places[rows]).to(self.device)

    def _normalised(self, pictures: Tensor) -> Tensor:
        return normalised(pictures.to(self.device), *moments(self.model.preprocessing, self.device))

    def _logits(self) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.model(batch) for batch in self.images.split(self.batches.batch_size)])

    def _probability(self) -> NDArray[Any]:
        chosen = self.model.task.prediction(self._logits()).gather(1, self.targets[:, None])
        found: NDArray[Any] = chosen[:, 0].cpu().double().numpy()
        return found

    def _probabilities(self, images: Tensor) -> Tensor:
        return self.model.task.prediction(self.model(images))


def _at_tap(model: Truncated) -> AtTap:
    tap = model.trunk.tap(-1)
    return AtTap(model.trunk, model.head, tap.maps, tap.name)
