"""Probes of several kinds over depth: folds, controls, smaller training sets, features made elsewhere."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from helpers import shapes_data, tiny_net
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import probe
from analysis.transferability import transferability
from probe.commands import main
from probe.data import draw_folds, draw_order
from probe.features import Features, make_features, read_features
from probe.probes import layerwise, sweep
from probe.scoring.trials import subset_trials, whole_trial
from probe.settings import Controls, ProbeGrid
from probe.studies.given_features import run_features

GRID = ProbeGrid(
    draws=100,
    c_grid=(0.01, 1.0),
    k_grid=(3, 9),
    mlp_hidden=8,
    mlp_dropout=(0.0,),
    mlp_weight_decay=(0.01,),
    mlp_seeds=2,
)  # fmt: skip
TASKS = ("binary", "multiclass", "multilabel")


def write(folder: Path, task: str = "multiclass", n: int = 160, groups: bool = False, splits: bool = True) -> Path:
    """Two taps of normal features, the second of which tells the classes apart better."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2 if task == "binary" else 3, n)
    shift = np.eye(3)[kinds] @ rng.normal(size=(3, 6))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "block10.npy", (rng.normal(size=(n, 6)) + 0.8 * shift).astype(np.float32))
    np.save(folder / "block2.npy", (rng.normal(size=(n, 6)) + 0.3 * shift).astype(np.float32))
    table = pd.DataFrame({"label": [f"class{kind}" for kind in kinds]})
    if task == "multilabel":
        unknown = np.array(["", "?"])[(rng.uniform(size=n) < 0.1).astype(int)]
        names = [
            f"{mark}a|{'b' * int(kind > 0)}" if kind < 2 else "b" for kind, mark in zip(kinds, unknown, strict=True)
        ]
        table = pd.DataFrame({"labels": names})
    if splits:
        table["split"] = rng.permutation(
            np.repeat(["train", "val", "test"], [n * 3 // 5, n // 5, n - n * 3 // 5 - n // 5])
        )
    if groups:
        table["group"] = [f"p{i // 2}" for i in range(n)]
    table.to_csv(folder / "rows.csv", index=False)
    return folder


@pytest.fixture
def given_features(tmp_path: Path) -> Features:
    return read_features(write(tmp_path / "net"))


def value(rows: pd.DataFrame, **of: str) -> float:
    mine = rows[rows["class"] == "macro"]
    for name, wanted in of.items():
        mine = mine[mine[name] == wanted]
    assert len(mine) == 1
    return float(mine["value"].iloc[0])


@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_probe_reads_the_better_tap_better(tmp_path: Path, task: str) -> None:
    rows = layerwise(read_features(write(tmp_path, task)), ["linear", "mlp", "knn", "ncm"], GRID)
    for method in ("linear", "mlp", "knn", "ncm"):
        scores = [value(rows, method=method, tap=tap, split="test", metric="auroc") for tap in ("block2", "block10")]
        assert 0.55 < scores[0] < scores[1]
        gaps = rows[(rows.method == method) & (rows.metric == "auroc_gap")].set_index("tap")["value"]
        assert gaps["block10"] == 0
    chosen = {
        "linear": {"chosen_c"},
        "mlp": {"chosen_weight_decay", "chosen_dropout", "chosen_epochs"},
        "knn": {"chosen_k"},
    }
    for method, names in chosen.items():
        assert names <= set(rows[rows.method == method].metric)


def test_cross_validation_equals_scikit_learn_by_hand(given_features: Features) -> None:
    """Every image of train and val is read once by a probe that was not fitted to it; the refit takes all of them."""
    grid = replace(GRID, folds=4)
    rows, trial = layerwise(given_features, grid=grid), whole_trial(given_features.data, grid)
    x, y = np.asarray(given_features["block2"], np.float64), given_features.labels
    assert sorted(trial.held.tolist()) == sorted(np.flatnonzero(given_features.splits != "test").tolist())

    def fit(c: float, on: np.ndarray) -> LogisticRegression:
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=9999)).fit(x[on], y[on])

    found = {}
    for c in grid.c_grid:
        held = np.concatenate([fit(c, fitted).predict_proba(x[held]) for fitted, held in trial.folds])
        found[c] = roc_auc_score(y[trial.held], held, multi_class="ovr")
    best = max(found, key=lambda c: found[c])
    assert value(rows, tap="block2", split="val", metric="auroc") == pytest.approx(found[best], abs=1e-3)
    test = roc_auc_score(y[trial.test], fit(best, trial.seen).predict_proba(x[trial.test]), multi_class="ovr")
    assert value(rows, tap="block2", split="test", metric="auroc") == pytest.approx(test, abs=1e-3)
    assert set(rows.n_train.dropna()) == {len(trial.seen)}


@pytest.mark.parametrize("folds", [0, 3])
@pytest.mark.parametrize("method", ["linear", "mlp", "knn", "ncm"])
def test_nothing_that_is_chosen_or_fitted_sees_the_test_split(
    given_features: Features, method: str, folds: int
) -> None:
    """Other test images and other test labels: the same settings, the same scores on train and val, the same gaps."""
    on_test, rng = given_features.splits == "test", np.random.default_rng(1)
    labels = np.where(on_test, rng.permutation(given_features.labels), given_features.labels)
    arrays = {tap: np.where(on_test[:, None], 1e3, given_features[tap]) for tap in given_features}
    known = {"splits": given_features.splits, "classes": given_features.data.classes}
    pair = [
        make_features({tap: given_features[tap] for tap in given_features}, given_features.labels, **known),
        make_features(arrays, labels, **known),
    ]
    controls = Controls(n_train=("60",), subsets=1)
    before, after = (layerwise(each, [method], replace(GRID, folds=folds), controls) for each in pair)
    for rows in (before, after):
        assert (rows.split == "test").any()
    pd.testing.assert_frame_equal(before[before.split != "test"], after[after.split != "test"])
    assert not before[before.split == "test"].value.equals(after[after.split == "test"].value)


def test_no_group_crosses_a_fold_and_none_is_in_test(tmp_path: Path) -> None:
    data = read_features(write(tmp_path, groups=True, splits=False)).data
    assert data.groups is not None
    grid = replace(GRID, folds=3)
    for trial in (whole_trial(data, grid), *subset_trials(data, [30, 0.5], 2, grid)):
        assert not set(trial.seen) & set(trial.test)
        for fitted, held in trial.folds:
            assert not set(data.groups[fitted]) & set(data.groups[held])
        assert len(trial.held) == len(set(trial.held)) == len(trial.seen)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), classes=st.integers(2, 5), grouped=st.booleans())
def test_every_beginning_of_an_order_is_stratified(seed: int, classes: int, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(60), 2) if grouped else None
    labels = np.repeat(rng.choice(classes, 60, p=rng.dirichlet(np.full(classes, 9.0))), 2)
    order = draw_order(labels, None if groups is None else groups.astype(str), seed)
    assert sorted(order.tolist()) == list(range(120))
    shares = np.bincount(labels, minlength=classes) / 120
    for size in (30, 60, 90):
        counts = np.bincount(labels[order[:size]], minlength=classes)
        assert np.abs(counts - shares * size).max() <= (4 if grouped else 2)
    if groups is not None:
        assert (np.diff(groups[order]) != 0).sum() == 59  # a group's images follow each other


def test_subsets_are_nested_of_the_size_asked_and_differ_by_seed(given_features: Features) -> None:
    trials = subset_trials(given_features.data, [40, 0.25, 1.0], 3, GRID)
    pool = (given_features.splits != "test").sum()
    assert [trial.n_train for trial in trials] == [round(pool / 4)] * 3 + [40] * 3 + [pool] * 3
    for seed in range(3):
        small, middle, whole = (set(trial.seen) for trial in trials if trial.seed == seed)
        assert small < middle < whole
        assert [len(part) for part in (small, middle, whole)] == [round(pool / 4), 40, pool]
    assert set(trials[0].seen) != set(trials[1].seen)


def test_scores_from_fewer_images_are_those_of_a_probe_of_these_images(given_features: Features) -> None:
    controls = Controls(n_train=("40", "100%"), subsets=2)
    rows = layerwise(given_features, grid=GRID, controls=controls)
    sized = rows[rows.study == "training_size"]
    test = sized[(sized.split == "test") & (sized.tap == "block10") & (sized.metric == "auroc")]
    assert test["n_train"].value_counts().to_dict() == {40: 3, 128: 3}
    small = test[test.n_train == 40].set_index("seed")
    assert small.value[np.nan] == pytest.approx((small.value[0] + small.value[1]) / 2)
    assert small.ci_low[np.nan] <= small.value[np.nan] <= small.ci_high[np.nan]
    trial = subset_trials(given_features.data, [40], 1, GRID)[0]
    data = replace(given_features.data, splits=np.where(np.isin(np.arange(160), trial.seen), "train", "test"), drawn=())
    x = np.asarray(given_features["block10"], np.float64)
    scores = [
        roc_auc_score(
            data.labels[trial.test],
            make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=9999))
            .fit(x[trial.seen], data.labels[trial.seen])
            .predict_proba(x[trial.test]),
            multi_class="ovr",
        )
        for c in GRID.c_grid
    ]
    assert min(abs(score - small.value[0]) for score in scores) < 1e-3


def test_what_learnt_nothing_scores_at_chance(tmp_path: Path) -> None:
    features = read_features(write(tmp_path, n=400))
    controls = Controls(control=("permuted", "noise", "majority"), permutations=4)
    rows = layerwise(features, ["linear", "knn"], GRID, controls)
    control = rows[(rows.study == "control") & (rows.metric == "auroc") & (rows["class"] == "macro")]
    assert set(control.method) == {
        f"{probe}, {kind}" for probe in ("linear", "knn") for kind in ("permuted labels", "noise")
    } | {"majority"}
    assert ((control.ci_low <= 0.5) & (control.ci_high >= 0.5)).all()
    gain = value(rows, method="linear", tap="block10", metric="auroc_selectivity")
    real = value(rows, method="linear", tap="block10", split="test", metric="auroc")
    assert gain == pytest.approx(real - value(rows, method="linear, permuted labels", tap="block10", metric="auroc"))
    share = np.bincount(features.labels[features.splits != "test"]).argmax()
    majority = value(rows, method="majority", metric="accuracy")
    assert majority == pytest.approx((features.labels[features.splits == "test"] == share).mean())


def test_selection_by_another_metric(given_features: Features) -> None:
    rows = layerwise(given_features, grid=replace(GRID, metric="log_loss"))
    by_val = rows[(rows.metric == "log_loss") & (rows.split == "val")].set_index("tap").value
    gaps = rows[rows.metric == "log_loss_gap"].set_index("tap")
    assert gaps.value[by_val.idxmin()] == 0
    assert gaps.value.max() == pytest.approx(by_val.max() - by_val.min())
    study = run_features([given_features.folder], grid=replace(GRID, metric="log_loss"))
    assert study.summaries()[0]["best"]["tap"] == by_val.idxmin()


@pytest.mark.parametrize(("metric", "best"), [("log_loss", min), ("auroc", max)])
def test_the_strength_that_scores_best_on_val_is_taken(given_features: Features, metric: str, best: Callable) -> None:
    grids = {c: replace(GRID, metric=metric, c_grid=(c,)) for c in (100.0, 1e-4, 1.0)}
    alone = {c: layerwise(given_features, grid=grid) for c, grid in grids.items()}
    rows = layerwise(given_features, grid=replace(GRID, metric=metric, c_grid=(100.0, 1e-4, 1.0)))
    for tap in given_features:
        scores = {c: value(found, tap=tap, split="val", metric=metric) for c, found in alone.items()}
        chosen = rows[(rows.tap == tap) & (rows.metric == "chosen_c")].value.item()
        assert scores[chosen] == best(scores.values())
        on_test = {"tap": tap, "split": "test", "metric": metric}
        assert value(rows, **on_test) == pytest.approx(value(alone[chosen], **on_test), abs=1e-4)


def test_differences_are_paired_and_adjusted(tmp_path: Path) -> None:
    folders = [write(tmp_path / "a"), write(tmp_path / "b")]
    better = np.load(folders[0] / "block10.npy")
    np.save(folders[1] / "block2.npy", better)
    study = run_features(folders, grid=GRID)
    table = study.differences()
    assert set(table["arch"]) == {"a", "b"}
    own = table[(table["arch"] == "a")].iloc[0]
    assert (own["tap"], own["against_tap"]) == ("block2", "block10")
    score = {tap: value(study.rows, arch="a", tap=tap, split="test", metric="auroc") for tap in ("block2", "block10")}
    assert own["difference"] == pytest.approx(score["block2"] - score["block10"])
    assert own["ci_low"] < own["difference"] < own["ci_high"]
    assert own["p"] <= own["p_holm"] <= 1
    same = table[(table["arch"] == "b")].iloc[0]
    assert same["difference"] == 0
    assert same["p"] == 1


def test_intervals_may_be_bca(given_features: Features) -> None:
    plain, bca = (layerwise(given_features, grid=replace(GRID, interval=kind)) for kind in ("percentile", "bca"))
    key = (plain.metric == "auroc") & (plain.split == "test")
    pd.testing.assert_series_equal(plain[key].value, bca[key].value)
    assert not np.allclose(plain[key].ci_low, bca[key].ci_low)
    assert np.abs(plain[key].ci_low - bca[key].ci_low).max() < 0.1


def test_seeds_of_mlp_probes_are_averaged(given_features: Features) -> None:
    rows = {seeds: layerwise(given_features, ["mlp"], replace(GRID, mlp_seeds=seeds)) for seeds in (1, 2)}
    one, two = (value(rows[seeds], tap="block2", split="test", metric="auroc") for seeds in (1, 2))
    assert one != two
    pd.testing.assert_frame_equal(rows[2], layerwise(given_features, ["mlp"], GRID))


def test_more_subsets_do_not_show_more_than_one_can(given_features: Features) -> None:
    """The bound on the loss at a training size is that of a single subset, however many are drawn."""
    bounds = {}
    for subsets in (1, 8):
        rows = layerwise(given_features, grid=GRID, controls=Controls(n_train=("40",), subsets=subsets))
        sized = rows[(rows.study == "training_size") & (rows.metric == "auroc_gap")]
        bounds[subsets] = sized.set_index("tap").ci_high
    assert bounds[8]["block2"] > 0.7 * bounds[1]["block2"]


def test_seeds_of_other_sizes_share_their_training_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), rng.integers(1, 9, 60)).astype(str)
    labels, x = rng.integers(0, 2, len(groups)), rng.normal(size=(len(groups), 3))
    arms = {seed: make_features({"a": x, "b": x + 1}, labels, groups=groups, seed=seed) for seed in (0, 1, 2)}
    assert len({(arm.splits != "test").sum() for arm in arms.values()}) > 1
    rows = layerwise(arms, grid=GRID, controls=Controls(n_train=("30%", "100%"), subsets=3))
    means = rows[(rows.study == "training_size") & rows.seed.isna() & (rows.metric == "auroc") & (rows.split == "test")]
    assert means.groupby("n_train")["tap"].value_counts().eq(1).all()
    assert means["n_train"].nunique() == 2


def test_sources_that_cannot_be_set_side_by_side_are_refused(tmp_path: Path) -> None:
    first, other = write(tmp_path / "a"), write(tmp_path / "b")
    with pytest.raises(probe.ProbeError, match="two sources of features are called a, given"):
        run_features([first, first], grid=GRID)
    table = pd.read_csv(other / "rows.csv")
    table["split"] = table["split"].to_numpy()[::-1]
    table.to_csv(other / "rows.csv", index=False)
    with pytest.raises(probe.ProbeError, match="do not have the same splits in the same order"):
        run_features([first, other], grid=GRID)


def test_several_seeds_redraw_the_splits_of_given_features(tmp_path: Path) -> None:
    study = run_features([write(tmp_path, splits=False)], seeds=(0, 1), grid=GRID)
    assert set(study.rows["seed"].dropna()) == {0, 1}
    arrays = study.arms[0].entry.arrays
    assert set(arrays["rows/test/0"]) != set(arrays["rows/test/1"])


def test_kappa_brings_its_order_and_odd_metrics_their_figures(tmp_path: Path) -> None:
    folder = write(tmp_path / "net")
    for metric in ("quadratic_kappa", "ece"):
        shown = ["--metric", metric, "--n-train", 60, "--subsets", 2, "--control", "majority", "--draws", 100]
        result = run("--features", folder, *shown, "--out", tmp_path / metric)
        assert result.exit_code == 0, result.output
        assert "control, majority" in result.stdout


def test_a_test_split_without_a_score_is_drawn_and_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "net", "binary")
    table = pd.read_csv(folder / "rows.csv")
    table.loc[(table["split"] == "test") & (table["label"] == "class1"), "split"] = "train"
    table.to_csv(folder / "rows.csv", index=False)
    result = run(
        "--features", folder, "--metric", "auprc", "--draws", 100, "--out", tmp_path / "out", "--transferability"
    )
    assert result.exit_code == 0, result.output
    found = pd.read_json(tmp_path / "out" / "results.jsonl", lines=True)
    scores = found[found.metric == "log_me"].set_index("tap").value
    assert f"transferability, highest at: LogME {scores.idxmax()} ({scores.max():.3f}), H-score" in result.stdout


def test_transferability_is_of_training_images_alone(given_features: Features) -> None:
    rows = layerwise(given_features, grid=GRID, controls=Controls(transferability=True))
    found = rows[rows.method == "none"]
    assert {"log_me", "h_score", "fisher_ratio", "rank_me"} <= set(found.metric)
    assert set(found.split) == {"train"}
    train = given_features.splits == "train"
    direct = transferability(np.asarray(given_features["block2"])[train], given_features.labels[None, train])
    assert value(found, tap="block2", metric="h_score") == pytest.approx(direct["h_score"])
    better = found[found.metric == "log_me"].set_index("tap").value
    assert better["block10"] > better["block2"]


def test_a_dead_tap_is_said_and_scores_at_chance(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(write(tmp_path) / "block10.npy", np.ones((160, 4), np.float32))
    rows = layerwise(read_features(tmp_path), ["linear", "knn", "ncm", "mlp"], GRID)
    assert "tap 'block10'" in caplog.text
    assert "is dead" in caplog.text
    for method in ("linear", "knn", "ncm", "mlp"):
        assert value(rows, tap="block10", method=method, split="test", metric="auroc") == pytest.approx(0.5)


def test_draws_are_of_the_metric_that_selects(given_features: Features) -> None:
    found = sweep(given_features, ["knn"], GRID)
    assert found.draws["knn", "test"].shape == (2, 101)
    assert found.draws["knn", "test"][0, 0] == value(found.rows, tap="block2", split="test", metric="auroc")


def test_taps_are_in_natural_order_and_an_npz_holds_the_same(tmp_path: Path) -> None:
    folder = write(tmp_path / "net")
    features = read_features(folder)
    assert list(features) == ["block2", "block10"]
    (folder / "block10.npy").rename(folder / "stem.npy")
    assert list(read_features(folder)) == ["stem", "block2"]
    (folder / "stem.npy").rename(folder / "block10.npy")
    arrays = {tap: features[tap] for tap in features}
    np.savez(tmp_path / "net.npz", **arrays, labels=features.labels, splits=features.splits, ids=features.ids)
    again = read_features(tmp_path / "net.npz")
    np.savez(tmp_path / "b.npz", z=arrays["block2"], a=arrays["block10"], labels=features.labels)
    assert list(read_features(tmp_path / "b.npz")) == ["z", "a"]  # as they were saved
    a, b = layerwise(features, grid=GRID), layerwise(again, grid=GRID)
    shared = ["tap", "metric", "split", "value", "ci_low"]
    plain = a["class"].isin(["macro"])
    pd.testing.assert_frame_equal(a[plain][shared], b[plain][shared])


def test_arrays_in_memory_can_be_probed(given_features: Features) -> None:
    arrays = {tap: given_features[tap] for tap in given_features}
    names = np.array(given_features.data.label_names())
    again = make_features(arrays, names, splits=given_features.splits)
    scores = [layerwise(each, grid=GRID).value for each in (given_features, again)]
    pd.testing.assert_series_equal(*scores)
    with pytest.raises(probe.ProbeError, match="names 2 classes for 3 of its labels"):
        make_features(arrays, names, classes=["a", "b"])
    with pytest.raises(probe.ProbeError, match="has 160 labels and 3 groups"):
        make_features(arrays, names, groups=["a", "b", "c"])


def test_a_fold_of_one_class_is_said() -> None:
    labels = np.array([0] * 30 + [1])
    x, splits = np.random.default_rng(0).normal(size=(31, 2)), ["train"] * 20 + ["val"] * 5 + ["test"] * 6
    features = make_features({"tap": x}, labels, splits=splits)
    with pytest.raises(probe.ProbeError, match="the training split of features holds a single class"):
        layerwise(features)


def test_an_entry_of_the_cache_can_be_probed_as_a_folder(tmp_path: Path) -> None:
    """Unknown labels too: `rows.csv` says which they are."""
    data = shapes_data(task="multilabel")
    data.labels[3, 0] = -1
    features = probe.extract(tiny_net(), data)
    again = read_features(features.folder)
    np.testing.assert_array_equal(
        again.labels[:, [again.data.classes.index(name) for name in data.classes]], data.labels
    )
    assert list(again) == list(features)
    assert again.taps == features.taps


REFUSED = {
    "nothing there": ([], "no features at '.*gone': give a folder of .npy with rows.csv, or an .npz"),
    "no rows": (["rm rows.csv"], "has no rows.csv that says what the rows of its arrays are"),
    "no arrays": (["rm block2.npy", "rm block10.npy"], "holds no features"),
    "rows": (["cut"], r"'block2' of '.*' has 12 rows, but there are 160 labels"),
    "infinite": (["inf"], r"tap 'block2' of .*: 2 rows of features are not finite, the first of them row 5"),
    "not an array": (["text"], "'block2' of '.*' is not a readable .npy"),
    "objects": (["objects"], "'block2' of '.*' is not a readable .npy"),
    "three axes": (["map"], r"'block2' of '.*' is \(160, 2, 2\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_given_features_is_said_in_one_line(tmp_path: Path, case: str) -> None:
    (steps, message) = REFUSED[case]
    folder = write(tmp_path / "net") if steps else tmp_path / "gone"
    block = folder / "block2.npy"
    for step in steps:
        if step.startswith("rm "):
            (folder / step[3:]).unlink()
        elif step == "text":
            block.write_text("hello")
        else:
            x = np.load(block)
            x[[5, 9], 1] = np.inf if step == "inf" else x[[5, 9], 1]
            changed = {"cut": x[:12], "map": x[:, :4].reshape(160, 2, 2), "objects": x.astype(object)}
            np.save(block, changed.get(step, x))
    result = run("--features", folder, "--draws", 100)
    assert result.exit_code == 1, result.output
    assert len(result.stderr.strip().splitlines()[-1:]) == 1
    assert pd.Series([result.stderr]).str.contains(message).all(), result.stderr


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["layerwise", *map(str, arguments)])


BAD = {
    "n_train": (["--n-train", "161"], "n_train is 161, but net has 128 images in train and val together"),
    "n_train 0": (["--n-train", "0"], "n_train is '0'; give a number of images such as 50, or a share such as 10%"),
    "n_train share": (["--n-train", "101%"], "n_train is '101%'; give a number"),
    "few for folds": (["--n-train", "3"], "3 training images of net make no 5 folds: 3 images are too few"),
    "folds": (["--folds", "200"], "128 training images of net make no 200 folds"),
    "one fold": (["--folds", "1"], "folds is 1; give at least 2, or 0 to choose on validation"),
    "metric": (["--metric", "auc"], "unknown metric 'auc'; did you mean"),
    "neighbours": (["--probe", "knn", "--k-grid", "1000"], "fewer than every number of neighbours"),
    "k 0": (["--k-grid", "0"], "numbers of neighbours must be whole and positive"),
    "seeds of mlp": (["--mlp-seeds", "0"], "mlp_seeds is 0; it must be at least 1"),
    "kappa of several": (["--metric", "quadratic_kappa"], "quadratic kappa takes one class per image, in order"),
    "several in order": (["--ordinal"], "takes one class per image, in order; these data are multi-label"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_answered_in_one_line(tmp_path: Path, case: str) -> None:
    arguments, message = BAD[case]
    folder = write(tmp_path / "net", "multilabel" if "several" in case else "multiclass")
    result = run("--features", folder, "--out", tmp_path / "out", "--draws", 100, *arguments)
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_usage_is_exit_code_two(tmp_path: Path) -> None:
    folder = write(tmp_path / "net")
    for arguments in (["--probe", "tree"], ["--control", "luck"], ["--k-grid", "a"], ["--arch", "resnet18"]):
        result = run("--features", folder, *arguments)
        assert result.exit_code == 2, result.output


@pytest.mark.usefixtures("print_quality")
def test_the_command_probes_given_features(tmp_path: Path) -> None:
    folder, out = write(tmp_path / "net"), tmp_path / "out"
    shown = ["--probe", "linear", "--probe", "knn", "--n-train", 40, "--n-train", "50%", "--subsets", 2,
             "--control", "permuted", "--permutations", 2, "--control", "majority",
             "--draws", 100, "--folds", 3, "--out", out]  # fmt: skip
    result = run("--features", folder, *shown)
    assert result.exit_code == 0, result.output
    for text in (
        "linear probes, macro AUROC",
        "nearest neighbours",
        "best on validation: block10",
        "control, majority",
    ):
        assert text in result.stdout
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "layerwise.csv",
        "differences.csv",
        "results.jsonl",
        "study.json",
        "training_sizes.pdf",
        "layerwise.pdf",
    }
    answer = json.loads(run("--features", folder, *shown, "--json").stdout)
    assert [(arm["method"], arm["best"]["tap"]) for arm in answer["arms"]] == [
        ("linear", "block10"),
        ("knn", "block10"),
    ]
    assert [size["n_train"] for size in answer["arms"][0]["training_sizes"]] == [40, 64]


def test_folds_are_of_even_size_and_all_different() -> None:
    labels = np.arange(50) % 3
    folds = draw_folds(labels, None, 5, 0)
    assert np.bincount(folds).tolist() == [10] * 5
    assert (folds != draw_folds(labels, None, 5, 1)).any()
