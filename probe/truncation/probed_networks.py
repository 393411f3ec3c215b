"""Linear probes as networks: cut at a tap, with the tap's probe as the head."""

from collections.abc import Sequence

from probe.backbones import Backbone
from probe.base.errors import ProbeError
from probe.features import Features
from probe.probes import find_method, fit_taps
from probe.scoring.trials import whole_trial
from probe.settings import ProbeGrid
from probe.truncation.probe_head import head_from_probe
from probe.truncation.truncated import Truncated, truncate


def probed(
    net: Backbone, features: Features, taps: Sequence[str], grid: ProbeGrid | None = None
) -> dict[str, Truncated]:
    """The network cut at each tap, in eval mode, with the linear probe of `probe layerwise` there as its head.

    `features` are those of `net`, pooled by their mean; strength chosen on validation, refitted to train and val.
    Raises ProbeError as fitting a probe does, and for features of other weights or another pooling.
    """
    grid, data = grid or ProbeGrid(), features.data
    if features.details.get("pool") != "mean" or features.details.get("state") != net.weights_hash():
        raise ProbeError("a head takes the probe of mean-pooled features of the same network; these are others")
    trial = whole_trial(data, grid)
    fitted = fit_taps(features.only(taps), trial, find_method("linear")(grid, data.task))
    made = {}
    for tap in taps:
        made[tap] = truncate(net, tap, data.task)
        head_from_probe(made[tap], fitted[tap].whole)
    return made
