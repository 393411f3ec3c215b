"""Per image: `probe depth`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from probe.base.errors import ProbeError
from probe.commands.options import as_json, cache_folder, data_source, one_arch, one_weights, out_folder, settings
from probe.records.text import text_table
from probe.settings import Depths, Extraction, Network, Reading

SHOWN = 8  # images in each row of the figure


@click.command()
@one_arch
@one_weights
@data_source
@click.option("--seed", default=0, show_default=True, help="Of scratch weights and of splits that are drawn.")
@out_folder
@cache_folder
@as_json
@settings(Depths, Reading, Network, Extraction)
def depth(
    arch: str, weights: str, data: str, seed: int, out: Path, cache: Path | None, as_json: bool,
    depths: Depths, reading: Reading, network: Network, extraction: Extraction,
) -> None:  # fmt: skip
    """Tell for every image the tap from which on its prediction stays, and show the earliest and the latest.

    \b
    Example:
      probe depth --arch resnet50 --data my_images/labels.csv
    """
    from probe.backbones import NetworkSpec
    from probe.base.runtime import check_folder, default_folder, probing_device
    from probe.data import dataset
    from probe.features.named import features_of
    from probe.records.rows import append_rows, to_json
    from probe.studies.depth import depth_rows, sample_depths

    check_folder(out)
    images = dataset(data, seed=seed, cache=cache, **asdict(reading))
    features = features_of(NetworkSpec.of(network, arch, weights, seed), images, extraction, cache or default_folder())
    device = probing_device(extraction.device)
    table = sample_depths(features, k=depths.k, readout=depths.readout, split=depths.split, device=device)
    rows = depth_rows(features, table, depths)
    try:
        out.mkdir(parents=True, exist_ok=True)
        table.to_csv(out / "depth.csv", index=False)
        append_rows(out / "results.jsonl", rows.to_dict(orient="records"))
        files = [str(out / name) for name in ("depth.csv", "results.jsonl")]
        files += _draw(features, table, depths, seed, out)
    except OSError as error:
        raise ProbeError(f"cannot write results to '{out}': {error.strerror or error}; the features are kept") from None
    if as_json:
        click.echo(to_json({"rows": rows.to_dict(orient="records"), "files": files}))
        return
    click.echo("\n".join(_lines(rows)))
    click.echo("written: " + ", ".join(files))


def _lines(rows: Any) -> list[str]:
    """Two tables: shares settled by tap, mean depths by class."""
    settled, means = rows[rows["metric"] == "settled"], rows[rows["metric"].str.startswith("prediction_depth")]
    by_tap = [[row.tap, f"{row.depth:.2f}", *_interval(row)] for row in settled.itertuples()]
    by_kind = [
        [row.metric.removeprefix("prediction_depth").lstrip("_") or kind, *_interval(row)]
        for row, kind in zip(means.itertuples(), means["class"], strict=True)
    ]
    return [
        text_table(["tap", "depth", "settled", "95 % interval"], by_tap),
        "",
        text_table(["images", "mean depth", "95 % interval"], by_kind),
    ]


def _interval(row: Any) -> list[str]:
    return [f"{row.value:.3f}", f"{row.ci_low:.3f}-{row.ci_high:.3f}"]


def _draw(features: Any, table: Any, depths: Depths, seed: int, out: Path) -> list[str]:
    import numpy as np

    from figures.prediction_depth import figure_of
    from figures.style import save
    from probe.records.labels import weights_name
    from probe.studies.depth import extremes

    data, origin = features.data, features.origin
    readout = f"{depths.k} nearest neighbours" if depths.readout == "knn" else "linear probes"
    words = [data.name, origin["arch"], weights_name(origin["weights"]), readout]
    title = f"{', '.join(words)}; {len(table)} {'' if depths.split == 'all' else depths.split + ' '}images"
    shown: dict[str, Any] = {"taps": list(features), "title": title}
    for end, rows in zip(("first", "last"), extremes(table, SHOWN, np.random.default_rng(seed)), strict=True):
        shown[end] = rows["id"].to_numpy(str)
        shown |= {f"{end}_{at}": np.asarray(data.images.load(row)) for at, row in enumerate(rows.index)}
    np.savez_compressed(out / "depth.npz", **shown)
    return [str(out / "depth.npz"), *save(figure_of(out / "depth.csv", out / "depth.npz"), out / "depth")]
