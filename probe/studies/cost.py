"""What a network costs up to each tap, measured on this machine, and the scores that set quality beside it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from probe.backbones import Backbone, Networks, NetworkSpec
from probe.backbones.tap_costs import tap_costs
from probe.base.errors import ProbeError
from probe.base.files import plain
from probe.base.runtime import default_folder, hardware, log, pick_device
from probe.records.cell import Cell, Outcome
from probe.records.record import Entry, Record, Run, read_results
from probe.records.result_rows import frame, records
from probe.settings import Network
from probe.studies.engine import complete, is_done
from probe.studies.identity import built_identity, in_words, network_identity, setting_words
from probe.studies.recorded_probes import STUDY as LAYERWISE

STUDY = "cost"


@dataclass(frozen=True)
class Cost:
    """What a network costs: one cell."""

    record: Record
    run: Run
    entries: list[Entry]

    @property
    def taps(self) -> list[dict[str, Any]]:
        """Per tap `params`, `macs`, `latency_ms` with quartiles, `memory_mb`; see `backbones.tap_costs.tap_costs`."""
        return list(self.entries[0].facts["taps"])

    @property
    def measured(self) -> dict[str, Any]:
        """How it was measured: arch, batch_size, repeats, machine, cores, device, threads."""
        return dict(self.entries[0].facts["measured"])

    @property
    def scores(self) -> pd.DataFrame:
        """Rows of linear probes at these taps, where results were given."""
        return frame(self.run.facts["scores"])


def cost(
    arch: str | Backbone,
    *,
    batch_size: int = 8,
    repeats: int = 10,
    device: str = "auto",
    results: str | Path | Record | None = None,
    network: Network | None = None,
    cache: str | Path | None = None,
    out: str | Path | Record | None = None,
) -> Cost:
    """Measure a network, given by name or built, up to every tap; recorded in `out`.

    What was measured before with the same settings, versions and hardware is read. `results` of `probe layerwise`
    set scores beside the costs. Raises ProbeError when they are of other networks.
    """
    record, network, place = out if isinstance(out, Record) else Record(out), network or Network(), pick_device(device)
    name = arch if isinstance(arch, str) else arch.origin.arch
    if results is not None:
        _probe_rows(results, name)  # before anything is measured
    passes = {"batch_size": batch_size, "repeats": repeats}
    measured = {"arch": name, **passes, **hardware(place)}
    cell = _cell(arch, network, {**passes, "device": place}, measured, Path(cache) if cache else default_folder())
    asked = {"network": in_words(arch), **measured, "device": device, **asdict(network)}
    run = Run.of(STUDY, asked, [cell], {"scores": []})
    record.enter(run)
    if is_done(record, cell):
        log.info("%s was measured before; take another folder to measure it again", name)

    def work(_: Cell) -> Outcome:
        net = NetworkSpec.of(network, arch, "scratch").build() if isinstance(arch, str) else arch
        return Outcome(rows=[], facts={"taps": tap_costs(net, batch_size, place, repeats), "measured": measured})

    entries = complete(record, [cell], work, doing="networks")
    if results is not None:
        taps = [tap["tap"] for tap in entries[0].facts["taps"]]
        run = replace(run, facts={**run.facts, "scores": plain(_probe_rows(results, name, taps))})
        record.enter(run)
    return Cost(record, run, entries)


def _cell(
    arch: str | Backbone, network: Network, passes: dict[str, Any], measured: dict[str, Any], cache: Path
) -> Cell:
    if isinstance(arch, str):
        identity = network_identity(NetworkSpec.of(network, arch, "scratch"), cache, Networks())
    else:
        identity = built_identity(arch)
    return Cell(
        kind="cost", asked={"network": identity, "passes": passes, "hardware": list(measured.items())},
        labels={"arch": measured["arch"], "setting": setting_words(network)},
    )  # fmt: skip


def _probe_rows(results: str | Path | Record, arch: str, taps: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The AUROC of linear probes at the taps of an architecture, or at any. Raises ProbeError where there are none."""
    rows = read_results(results)
    probes = rows["study"].eq(LAYERWISE) & rows["method"].eq("linear") & rows["metric"].eq("auroc")
    chosen = rows[probes & rows["arch"].eq(arch)]
    if taps:
        chosen = chosen[chosen["tap"].isin(taps)]
    if chosen.empty:
        archs = ", ".join(sorted(set(rows["arch"].dropna()))) or "none"
        raise ProbeError(f"'{results}' has no scores at these taps of {arch}; it has results of {archs}")
    if len(names := sorted(set(chosen["dataset"].dropna()))) > 1:
        raise ProbeError(f"'{results}' has scores of {arch} on {', '.join(names)}; give a folder of one data set")
    settings = chosen["setting"].fillna("")
    return records(chosen[settings.eq(settings.iloc[-1])])  # of those probed last
