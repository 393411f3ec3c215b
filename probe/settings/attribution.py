"""Attribution: which pixels of an image a class rests on, by what method, and how the maps are checked."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.image_reading import SPLITS
from probe.settings.option import check_choices, check_draws, option

METHODS = ("gradcam", "integrated-gradients", "saliency", "occlusion", "gradient-shap")
BASELINES = ("mean", "black", "white", "blur")


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """How a prediction is attributed to the pixels of an image, and how the maps are checked."""

    method: str = option(
        "gradcam",
        "Attribution method, which traces a class back to pixels.",
        choices=METHODS,
    )
    target: str = option(
        "label", "Class whose logit is attributed: label (the true class), predicted, or the name of a class."
    )
    split: str = option("test", "Split from which images are taken.", choices=(*SPLITS, "all"))
    images: int = option(32, "How many images are attributed, sampled from the split by class frequency; 0 for all.")
    checked: int = option(
        8,
        "How many of these images are also checked, by deletion and insertion curves and by re-initialised weights; "
        "0 for none.",
    )
    baseline: str = option(
        "mean", "What replaces a hidden pixel: the mean colour, black, white, or the blurred image.",
        choices=BASELINES,
    )  # fmt: skip
    steps: int = option(50, "Number of steps of integrated gradients.")
    samples: int = option(20, "Baselines per image that gradient-shap samples from training images.")
    patch: int | None = option(
        None, "Side of the patch that occlusion hides, in pixels; by default an eighth of the image side."
    )
    draws: int = option(1000, "Number of bootstrap draws for each interval.", compared=False, group="Statistics")

    def __post_init__(self) -> None:
        for name, least in (("images", 0), ("checked", 0), ("steps", 2), ("samples", 1), ("patch", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ProbeError(f"{name} is {value}; it must be at least {least}")
        check_draws(self.draws)
        check_choices(self)
