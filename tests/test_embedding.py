"""Maps of features: what they are made of, how far they are trusted, that a seed settles them; what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_samples
from threadpoolctl import threadpool_limits

from analysis.embedding import embed, embed_arms, judge, reduced, subsample
from probe.base.errors import ProbeError
from probe.tasks import Classes, Labels

ROOT = Path(__file__).parents[1]
CLASSES = np.repeat(["a", "b", "c"], 30)


def clusters(width: int = 40, apart: float = 20.0, seed: int = 0) -> np.ndarray:
    """90 images of three classes, far from the origin, as features after a ReLU are."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(3, width))
    middles *= apart / np.linalg.norm(middles, axis=1, keepdims=True)
    return (np.repeat(middles, 30, 0) + rng.normal(size=(90, width)) + 100).astype(np.float32)


@pytest.mark.parametrize(("rows", "width"), [(90, 12), (90, 70), (20, 300)])
def test_principal_components_are_those_of_the_singular_value_decomposition(rows: int, width: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32) * np.linspace(3, 0.1, width) + 50
    u, s, _ = np.linalg.svd(x.astype(np.float64) - x.mean(0, dtype=np.float64), full_matrices=False)
    for asked in (5, 400):
        found = reduced(x, asked)
        kept = min(asked, rows, width)
        assert found.shape == (rows, kept)
        expected = (u * s)[:, :kept]
        scale = np.linalg.norm(expected[:, 0]) / np.linalg.norm(found[:, 0])
        np.testing.assert_allclose(abs(found * scale), abs(expected), atol=1e-6 * s[0])
    np.testing.assert_allclose(abs(embed(x, "pca")), abs(reduced(x, 5)[:, :2]), rtol=1e-5, atol=1e-6)


def test_rotation_shift_and_scale_of_features_change_no_distance_on_the_map() -> None:
    x = clusters()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(40, 40)))[0]
    same = pdist(embed(x, "pca"))
    np.testing.assert_allclose(pdist(embed(3 * x @ turn - 7, "pca")), same, rtol=1e-3)
    x[:, 0] *= 30  # a single column is not a common scale
    assert not np.allclose(pdist(embed(x, "pca")), same, rtol=0.1)


def check_map(x: np.ndarray, method: str) -> None:
    """It keeps neighbours and classes together, and hangs on the seed alone."""
    found = embed(x, method, seed=3)
    assert found.shape == (90, 2)
    assert found.dtype == np.float32
    quality = judge(x, found, CLASSES)
    random = judge(x, np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32), CLASSES)
    assert quality.trustworthiness > 0.85
    assert random.trustworthiness < 0.6
    assert quality.silhouette_map > 0.5
    assert random.silhouette_map < 0.1
    np.testing.assert_array_equal(embed(x, method, seed=3), found)
    assert (method == "umap") != np.allclose(embed(x, method, seed=4), found, atol=1e-4)


def test_principal_components_and_tsne_keep_neighbours() -> None:
    x = clusters()
    check_map(x, "pca")
    check_map(x, "tsne")
    for option in ({"perplexity": 5.0}, {"components": 2}):
        assert not np.allclose(embed(x, "tsne"), embed(x, "tsne", **option), atol=0.01)


def test_the_number_of_threads_changes_no_digit() -> None:
    x = np.random.default_rng(0).normal(size=(600, 512)).astype(np.float32)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(reduced(x))
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_two_processes_give_the_same_map(tmp_path: Path) -> None:
    """All tests of UMAP in one, for every process compiles it anew, 10 s."""
    x = clusters()
    np.save(tmp_path / "x.npy", x)
    code = (
        "import numpy as np; from analysis.embedding import embed; x = np.load('x.npy')\n"
        "np.savez('maps.npz', **{method: embed(x, method, seed=5) for method in ('umap', 'tsne')})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    ) as other:
        here = {method: embed(x, method, seed=5) for method in ("umap", "tsne")}
        check_map(x, "umap")
        for option in ({"neighbours": 5}, {"min_dist": 0.9}, {"components": 2}):
            assert not np.allclose(here["umap"], embed(x, "umap", seed=5, **option), atol=0.01)
        assert other.wait() == 0
    there = np.load(tmp_path / "maps.npz")
    for method, found in here.items():
        np.testing.assert_array_equal(there[method], found)


def test_quality_is_what_it_is_defined_as() -> None:
    x, labels = clusters(apart=5), CLASSES
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(90, 2)).astype(np.float32)
    found = judge(x, plane, CLASSES, neighbours=4)
    near, near_map = (cdist(each, each) for each in (x.astype(np.float64), plane.astype(np.float64)))
    ranks = near.argsort(1, kind="stable").argsort(1)  # of the image itself 0
    penalty = sum(max(0, ranks[i, j] - 4) for i in range(90) for j in near_map[i].argsort()[1:5])
    assert found.trustworthiness == pytest.approx(1 - 2 * penalty / (90 * 4 * (180 - 12 - 1)))
    assert found.trustworthiness == pytest.approx(trustworthiness(x - x.mean(0), plane, n_neighbors=4))
    for value, distances in ((found.silhouette, near), (found.silhouette_map, near_map)):
        own = np.array([distances[i][(labels == labels[i]) & (np.arange(90) != i)].mean() for i in range(90)])
        next_ = np.array([min(distances[i][labels == c].mean() for c in "abc" if c != labels[i]) for i in range(90)])
        assert value == pytest.approx(((next_ - own) / np.maximum(own, next_)).mean(), abs=1e-6)
        assert value == pytest.approx(silhouette_samples(distances, CLASSES, metric="precomputed").mean(), abs=1e-6)
    assert judge(x[:, :2], x[:, :2]).trustworthiness == 1
    for undefined in (None, np.full(90, "a"), np.arange(90).astype(str)):
        assert np.isnan(judge(x, plane, undefined).silhouette)


def test_images_are_named_by_their_class_or_by_a_finding() -> None:
    one, both = Classes(["cat", "dog"]), Labels(["x", "y"])
    assert one.one_name(np.array([1, 0, 1])).tolist() == ["dog", "cat", "dog"]
    several = np.array([[1, 0], [0, 0], [-1, 0], [-1, 1]])
    assert both.one_name(several).tolist() == ["any finding", "no finding", "unknown", "any finding"]
    assert both.one_name(several, "x").tolist() == ["x", "not x", "unknown", "unknown"]
    with pytest.raises(ProbeError, match="unknown label 'z'; choose from x, y"):
        both.one_name(several, "z")
    with pytest.raises(ProbeError, match="one label"):
        one.one_name(np.array([1, 0]), "x")


def test_subsamples_keep_the_shares_of_classes_and_no_class_is_lost() -> None:
    labels = np.repeat(["many", "some", "few", "one"], [700, 240, 59, 1])
    drawn = subsample(labels, 100, np.random.default_rng(0))
    assert len(set(drawn.tolist())) == len(drawn) == 100
    assert (np.diff(drawn) > 0).all()
    counts = {name: int((labels[drawn] == name).sum()) for name in ("many", "some", "few", "one")}
    assert counts["one"] == 1
    assert abs(counts["many"] - 70) <= 1
    assert abs(counts["some"] - 24) <= 1
    assert abs(counts["few"] - 6) <= 1
    np.testing.assert_array_equal(subsample(labels, 100, np.random.default_rng(0)), drawn)
    assert not np.array_equal(subsample(labels, 100, np.random.default_rng(1)), drawn)
    shares = [subsample(labels, 100, np.random.default_rng(seed)) for seed in range(200)]
    taken = np.bincount(np.concatenate(shares), minlength=1000)[:700] / 200
    assert abs(taken.mean() - 0.1) < 0.002
    assert taken.std() < 0.03  # 0.021 when every image is as likely
    np.testing.assert_array_equal(subsample(labels, 5000, np.random.default_rng(0)), np.arange(1000))


def test_all_taps_of_all_arms_are_drawn_of_the_same_images() -> None:
    arms = {"one": {"low": clusters(), "high": clusters(apart=60)}, "two": {"low": clusters(seed=1)}}
    rows = np.arange(0, 90, 2)
    names = np.array([f"{i}.png" for i in range(90)])
    points, maps = embed_arms(arms, names, CLASSES, rows, method="pca", neighbours=10)
    panels = list(points.groupby(["arm", "tap"], sort=False))
    assert [key for key, _ in panels] == list(zip(maps["arm"], maps["tap"], strict=True))
    assert [key for key, _ in panels] == [("one", "low"), ("one", "high"), ("two", "low")]
    for (arm, tap), panel in panels:
        assert panel["image"].tolist() == names[rows].tolist()
        assert panel["label"].tolist() == CLASSES[rows].tolist()
        x = arms[arm][tap][rows]
        expected = embed(x, "pca")
        np.testing.assert_array_equal(panel[["x", "y"]], expected)
        row = maps[(maps["arm"] == arm) & (maps["tap"] == tap)].iloc[0]
        assert row["trustworthiness"] == judge(x, expected, neighbours=10).trustworthiness
        assert row["silhouette"] == judge(x, expected, CLASSES[rows], neighbours=10).silhouette
    assert np.isnan(embed_arms(arms, names, CLASSES, method="pca", silhouettes=False)[1]["silhouette"]).all()


def test_what_cannot_be_drawn_is_said_in_a_line() -> None:
    x = clusters()
    dead, torn = np.full((90, 4), 2.5), x.copy()
    torn[7, 3] = np.nan
    for tap, options, message in (
        (dead, {}, "'features' is the same for every image"),
        (torn, {}, "'features' has values that are not finite"),
        (x[:1], {}, "'features' has a single image; a map takes two at least"),
        (x[:, :1], {}, "'features' has a single column"),
        (x, {"method": "sne"}, "unknown method 'sne'; did you mean 'tsne'"),
        (x, {"neighbours": 90}, "'features' is of 90 images, too few for 90 neighbours"),
        (x, {"method": "tsne", "perplexity": 90.0}, "too few for a perplexity of 90"),
        (x, {"seed": -1}, "seed -1 is out of range"),
    ):
        with pytest.raises(ProbeError, match=message):
            embed(tap, **options)
    names = CLASSES
    for arms, message in (
        ({}, "there are no taps to draw"),
        ({"net": {"low": x, "high": dead}}, "'net, high' is the same for every image"),
        ({"net": {"low": x, "high": x[:80]}}, "'net, high' has 80 rows, and there are 90 images"),
    ):
        with pytest.raises(ProbeError, match=message):
            embed_arms(arms, names, names)
    with pytest.raises(ProbeError, match="takes at least 31 images, not 1; ask for fewer neighbours"):
        embed_arms({"net": {"low": x[:1]}}, names[:1], names[:1])
    with pytest.raises(ProbeError, match="takes at least 31 images, not 30"):
        judge(x[:30], x[:30, :2])
