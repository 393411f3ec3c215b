"""What attributions are made of, by what method, and how they are checked."""

from dataclasses import dataclass

from probe.base.errors import ProbeError
from probe.settings.option import check_choices, check_draws, option
from probe.settings.reading import SPLITS

METHODS = ("gradcam", "integrated-gradients", "saliency", "occlusion", "gradient-shap")
BASELINES = ("mean", "black", "white", "blur")


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """How it is told which pixels of an image a class rests on."""

    method: str = option(
        "gradcam",
        "How pixels are told apart.",
        choices=METHODS,
    )
    target: str = option("label", "The class whose logit is attributed: label, predicted, or the name of a class.")
    split: str = option("test", "Where the images are from.", choices=(*SPLITS, "all"))
    images: int = option(32, "Images attributed, drawn from the split with its class frequencies; 0 for all.")
    checked: int = option(
        8, "Of these, images whose deletion and insertion curves and maps under random weights are told; 0 for none."
    )
    baseline: str = option(
        "mean", "What stands for nothing: the mean colour, black, white, or the image blurred.",
        choices=BASELINES,
    )  # fmt: skip
    steps: int = option(50, "Steps of integrated gradients.")
    samples: int = option(20, "Baselines that gradient-shap draws from training images, per image.")
    patch: int | None = option(None, "Side in pixels of what occlusion hides; by default an eighth of the image's.")
    draws: int = option(1000, "Bootstrap draws behind each interval.", compared=False)

    def __post_init__(self) -> None:
        for name, least in (("images", 0), ("checked", 0), ("steps", 2), ("samples", 1), ("patch", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ProbeError(f"{name} is {value}; it must be at least {least}")
        check_draws(self.draws)
        check_choices(self)
