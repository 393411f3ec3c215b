"""Linear probes against scikit-learn, against the definition, and against what must not change them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import probe
from probe.features import make_features
from probe.probes import TrainingSet, designs, fit_path, fit_paths, linear, objective, solver
from probe.probes.solver import TOLERANCE
from probe.tasks import Classes, Labels, read_task

STRENGTHS = (1e-4, 1e-2, 1.0, 100.0)


def problem(n: int, d: int, k: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    x, y = make_classification(
        n, d, n_informative=min(d, 8), n_redundant=0, n_classes=k, n_clusters_per_class=1, flip_y=0.2, random_state=seed
    )
    return x * np.linspace(0.1, 30, d) + 5, y.astype(np.int64)


def reference(x: NDArray[np.float64], y: NDArray[np.int64], c: float) -> NDArray[np.float64]:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=20000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x, y).predict_proba(x)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 200), (80, 80)])
@pytest.mark.parametrize("k", [2, 3, 7])
def test_equals_scikit_learn_at_every_strength(n: int, d: int, k: int) -> None:
    x, y = problem(n, d, k)
    path = fit_path(x, y, Classes(k), STRENGTHS)
    assert path.converged.all()
    for i, c in enumerate(STRENGTHS):
        np.testing.assert_allclose(path.probabilities(x, i), reference(x, y, c), atol=1e-3)


def test_many_classes() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 15)), np.arange(300) % 100
    path = fit_path(x, y, Classes(100), (0.01, 1.0))
    for i, c in enumerate((0.01, 1.0)):
        np.testing.assert_allclose(path.probabilities(x, i), reference(x, y, c), atol=1e-3)


def around_means(k: int, each: int, d: int, spread: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng, y = np.random.default_rng(k * 1000 + each * 10 + d), np.arange(k * each) % k
    x = rng.normal(size=(k, d))[y] + spread * rng.normal(size=(k * each, d))
    return x.astype(np.float32).astype(np.float64), y


def value_of(z: NDArray[np.float64], y: NDArray[np.int64], coef: NDArray, intercept: NDArray, c: float) -> float:
    logits = z @ coef.T + intercept
    above = logits - logits[np.arange(len(y)), y][:, None]
    return float(c * logsumexp(above, axis=1).sum() + np.square(coef).sum() / 2)


@pytest.mark.parametrize(
    ("k", "each", "d", "spread"), [(50, 3, 64, 0.1), (20, 2, 512, 0.1), (5, 2, 64, 0.1), (20, 10, 8, 1.0)]
)
def test_the_objective_is_scikit_learns_with_many_classes_and_few_rows(
    k: int, each: int, d: int, spread: float
) -> None:
    """Cells of `benchmarks/solver_grid.py`: saturated rows, a loss near 0, and a penalty next to none."""
    x, y = around_means(k, each, d, spread)
    strengths = (1e-4, 1.0, 10.0, 1e4)
    path = fit_path(x, y, Classes(k), strengths)
    assert path.converged.all()
    scaler = StandardScaler().fit(x)
    z = scaler.transform(x)
    for i, c in enumerate(strengths):
        model = LogisticRegression(C=c, tol=1e-8, max_iter=20000).fit(z, y)
        ours = value_of(z, y, path.coef[i] * scaler.scale_, path.intercept[i] + path.coef[i] @ scaler.mean_, c)
        assert ours < (1 + 1e-6) * value_of(z, y, model.coef_, model.intercept_, c)


@pytest.mark.parametrize("factor", [1e-9, 1e9, np.nan])
def test_a_length_that_is_far_out_is_mended(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = problem(120, 20, 4)
    plain = fit_path(x, y, Classes(4), STRENGTHS)
    guess = objective.Line.guess
    monkeypatch.setattr(objective.Line, "guess", lambda line: guess(line) * factor)
    found = fit_path(x, y, Classes(4), STRENGTHS)
    assert found.converged.all()
    assert found.iterations < 3 * plain.iterations
    np.testing.assert_allclose(found.probabilities(x), plain.probabilities(x), atol=1e-3)


@pytest.mark.parametrize("wrong", [100.0, np.nan])
def test_a_step_that_raises_the_objective_is_undone(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one problem, while the others go on."""
    x, y = problem(120, 20, 4)
    plain, steps, advance = fit_path(x, y, Classes(4), STRENGTHS), [], solver._Search.advance

    def stray(search: solver._Search) -> None:
        advance(search)
        steps.append(1)
        if len(steps) == 7:
            search._now[:, -1] += wrong
            search.afresh()

    monkeypatch.setattr(solver._Search, "advance", stray)
    found = fit_path(x, y, Classes(4), STRENGTHS)
    assert found.converged.all()
    assert found.iterations < 3 * plain.iterations
    np.testing.assert_allclose(found.probabilities(x), plain.probabilities(x), atol=1e-3)


def test_every_label_is_a_problem_of_its_own() -> None:
    x, _ = problem(200, 30, 2)
    y = np.stack([problem(200, 30, 2, seed)[1] for seed in range(3)], 1)
    path = fit_path(x, y, Labels(3), STRENGTHS)
    for i in range(len(STRENGTHS)):
        for label in range(3):
            alone = fit_path(x, y[:, label], Classes(2), STRENGTHS).probabilities(x, i)[:, 1]
            np.testing.assert_allclose(path.probabilities(x, i)[:, label], alone, atol=1e-4)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_gradient_of_the_objective_is_zero(task: str) -> None:
    """C * sum(loss) + |W|^2 / 2 on standardised features, intercept not penalised."""
    k = 2 if task == "binary" else 4
    x, y = problem(150, 12, k)
    path = fit_path(x, y, Classes(k), (0.3,))
    spread = x.std(0)
    w = torch.tensor(path.coef[0] * spread, requires_grad=True)
    b = torch.tensor(path.intercept[0] + path.coef[0] @ x.mean(0), requires_grad=True)
    logits = torch.from_numpy((x - x.mean(0)) / spread) @ w.T + b
    target = torch.from_numpy(y)
    if task == "binary":
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], target.double(), reduction="sum")
    else:
        loss = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
    (0.3 * loss + w.square().sum() / 2).backward()
    scale = 0.3 * len(x)
    for gradient in (w.grad, b.grad):
        assert gradient is not None
        assert gradient.abs().max() / scale < TOLERANCE**0.5  # a gap is of second order in the gradient


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100), seed=st.integers(0, 5))
def test_units_of_the_features_do_not_matter(scale: float, shift: float, seed: int) -> None:
    x, y = problem(80, 10, 3, seed)
    plain, moved = (fit_path(z, y, Classes(3), (0.1,)).probabilities(z, 0) for z in (x, x * scale + shift))
    np.testing.assert_allclose(plain, moved, atol=1e-4)


def test_order_of_rows_and_strengths_does_not_matter() -> None:
    x, y = problem(90, 15, 3)
    order = np.random.default_rng(0).permutation(90)
    base = fit_path(x, y, Classes(3), STRENGTHS)
    shuffled = fit_path(x[order], y[order], Classes(3), STRENGTHS[::-1])
    for i in range(4):
        np.testing.assert_allclose(base.probabilities(x, i), shuffled.probabilities(x, 3 - i), atol=1e-4)


def test_a_stronger_penalty_gives_smaller_weights_and_another_answer() -> None:
    x, y = problem(90, 15, 3)
    norms = np.linalg.norm(fit_path(x, y, Classes(3), STRENGTHS).coef.reshape(4, -1), axis=1)
    assert (np.diff(norms) > 0).all()


def test_constant_features_are_ignored() -> None:
    x, y = problem(90, 10, 2)
    constant = np.hstack([x, np.full((90, 2), 1e6)])
    base, more = (fit_path(z, y, Classes(2), (1.0,)) for z in (x, constant))
    assert (more.coef[0, :, 10:] == 0).all()
    np.testing.assert_allclose(base.coef[0], more.coef[0, :, :10], atol=1e-4)


def test_a_class_that_training_rows_lack_gets_no_probability() -> None:
    x, y = problem(90, 10, 3)
    path = fit_path(x, y, Classes(4), (1.0,))
    probabilities = path.probabilities(x, 0)
    assert (probabilities[:, 3] == 0).all()
    np.testing.assert_allclose(probabilities[:, :3], reference(x, y, 1.0), atol=1e-3)


def test_a_label_that_is_never_or_always_there() -> None:
    x, y = problem(60, 5, 2)
    labels = np.stack([y, np.zeros_like(y), np.ones_like(y)], 1)
    probabilities = fit_path(x, labels, Labels(3), (1.0,)).probabilities(x, 0)
    assert (probabilities[:, 1:] == [0, 1]).all()


def test_unknown_labels_do_not_count() -> None:
    """A label is fitted to the rows where it is known; features are standardised over all of them."""
    x, _ = problem(200, 20, 2)
    y = np.stack([problem(200, 20, 2, seed)[1] for seed in range(3)], 1)
    y[np.random.default_rng(0).random(y.shape) < 0.3] = -1
    found = fit_path(x, y, Labels(3), STRENGTHS)
    z = StandardScaler().fit_transform(x)
    for label in range(3):
        known = y[:, label] >= 0
        for i, c in enumerate(STRENGTHS):
            model = LogisticRegression(C=c, tol=1e-8, max_iter=20000).fit(z[known], y[known, label])
            np.testing.assert_allclose(found.probabilities(x, i)[:, label], model.predict_proba(z)[:, 1], atol=1e-3)


@pytest.mark.parametrize(("n", "d"), [(120, 10), (60, 90)])
@pytest.mark.parametrize("k", [2, 4])
def test_weights_of_rows_are_scikit_learns(n: int, d: int, k: int) -> None:
    x, y = problem(n, d, k)
    weights = np.random.default_rng(0).uniform(0.1, 3, n)
    weights[:5] = 0
    found = fit_path(x, y, Classes(k), STRENGTHS, weights=weights)
    z = StandardScaler().fit_transform(x)
    for i, c in enumerate(STRENGTHS):
        model = LogisticRegression(C=c, tol=1e-8, max_iter=20000).fit(z, y, sample_weight=weights)
        np.testing.assert_allclose(found.probabilities(x, i), model.predict_proba(z), atol=1e-3)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_side_by_side_is_as_one_by_one(task: str) -> None:
    """Folds of unequal length, taps of unequal width, a fold that lacks a class: what is padded changes nothing."""
    k = {"binary": 2, "multiclass": 4, "multilabel": 3}[task]
    x, y = problem(140, 24, k)
    labels = np.stack([y == label for label in range(k)], 1).astype(np.int64) if task == "multilabel" else y
    folds = [np.arange(0, 97), np.arange(40, 140), np.flatnonzero(y != k - 1)[:96] if k > 2 else np.arange(96)]
    sets = [TrainingSet(z, labels, (0.01, 1.0), rows) for z in (x, x[:, :22]) for rows in folds]
    whole = read_task(task, [str(label) for label in range(k)])
    together = fit_paths(sets, whole)
    for each, path in zip(sets, together, strict=True):
        alone = fit_path(each.features[each.chosen], labels[each.chosen], whole, (0.01, 1.0))
        assert path.converged.all()
        every = x[:, : path.coef.shape[2]]
        np.testing.assert_allclose(path.probabilities(every), alone.probabilities(every), atol=1e-4)


def test_two_threads_give_what_one_gives() -> None:
    x, y = problem(120, 30, 3)
    sets = [TrainingSet(x[:, :d].copy(), y, (0.1, 10.0)) for d in (4, 12, 30)]
    one = fit_paths(sets, Classes(3))
    torch.set_num_threads(2)
    try:
        two = fit_paths(sets, Classes(3))
    finally:
        torch.set_num_threads(1)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.coef, b.coef)


def test_what_is_too_large_for_memory_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = problem(500, 20, 3)
    np.save(tmp_path / "tap.npy", x.astype(np.float32))
    tap = np.load(tmp_path / "tap.npy", mmap_mode="r")
    rows = np.arange(0, 500, 2)
    held = fit_paths([TrainingSet(tap, y, STRENGTHS, rows)], Classes(3))[0]
    monkeypatch.setattr(designs, "IN_MEMORY", 1)
    monkeypatch.setattr(designs, "CHUNK", 64)
    made = []
    monkeypatch.setattr(linear, "Stream", lambda design: made.append(design) or designs.Stream(design))
    streamed = fit_paths([TrainingSet(tap, y, STRENGTHS, rows)], Classes(3))[0]
    assert len(made) == 1
    assert streamed.converged.all()
    np.testing.assert_allclose(streamed.probabilities(x), held.probabilities(x), atol=1e-4)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 200)])
def test_the_gap_bounds_how_far_the_objective_is_from_its_optimum(n: int, d: int) -> None:
    """In float64, on the weights that are returned."""
    x, y = problem(n, d, 3)
    strengths = (1e-4, 1.0, 1e3)
    path = fit_path(x, y, Classes(3), strengths)
    z = torch.from_numpy((x - x.mean(0)) / x.std(0))
    for i, c in enumerate(strengths):
        w = torch.tensor(path.coef[i] * x.std(0), requires_grad=True)
        b = torch.tensor(path.intercept[i] + path.coef[i] @ x.mean(0))
        loss = torch.nn.functional.cross_entropy(z @ w.T + b, torch.from_numpy(y)) + w.square().sum() / (2 * c * n)
        loss.backward()
        assert w.grad is not None
        assert w.grad.square().sum() * c * n / 2 < 1.5 * TOLERANCE * loss.item()
        assert path.gradient[i] < 1e-3


def test_a_strength_that_cannot_be_solved_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "LIMIT", 4)
    x, y = problem(200, 20, 3)
    path = fit_path(x, y, Classes(3), (1e-4, 100.0))
    assert path.converged.tolist() == [True, False]
    assert path.gap[1] > TOLERANCE
    assert np.isfinite(path.coef).all()


def test_a_probe_that_did_not_converge_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = problem(200, 20, 3)
    monkeypatch.setattr(solver, "LIMIT", 4)
    with pytest.warns(ConvergenceWarning, match=r"C=100\) stopped after 4 iterations, gap .*e"):
        probe.LinearProbe(C=100.0).fit(x, y)
    features = make_features({"stem": x, "top": x[:, ::-1].copy()}, y)
    probe.layerwise(features, grid=probe.settings.ProbeGrid(c_grid=(100.0,), draws=100))
    for tap in features:
        assert f"tap '{tap}' of {features.data.name}: the probe at chosen_c 100 did not converge (gap " in caplog.text
    caplog.clear()
    probe.layerwise(features, grid=probe.settings.ProbeGrid(c_grid=(1e-6,), draws=100))
    assert "converge" not in caplog.text


def test_more_classes_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = problem(200, 20, 3)
    monkeypatch.setattr(linear, "_memory", lambda device: 40 * 200 * 3 * 2)
    whole = TrainingSet(x, y, (0.1, 1.0), name="tap 'stem'")
    assert fit_paths([whole], Classes(3))[0].converged.all()
    with pytest.raises(
        probe.ProbeError, match="^tap 'stem': .* 4 classes at 2 strengths on 200 rows take 0 GB of memory"
    ):
        fit_paths([whole], Classes(4))


def test_memory_is_what_the_process_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    there = linear._memory("cpu")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (there // 2, there))
    assert linear._memory("cpu") == there // 2


def test_a_penalty_too_weak_to_solve_leaves_numbers() -> None:
    """Where all is saturated a Newton step knows no measure: without a bound it went past float32."""
    x, y = load_digits(return_X_y=True)
    found = fit_path(x[:600], y[:600], Classes(10), [1.0, 1e7])
    assert np.isfinite(found.coef).all()
    assert (found.probabilities(x[600:], 1).argmax(1) == y[600:]).mean() > 0.85


def test_bad_input_is_told() -> None:
    x, y = problem(30, 5, 2)
    with pytest.raises(probe.ProbeError, match="single class"):
        fit_path(x, np.zeros_like(y), Classes(2), (1.0,))
    with pytest.raises(probe.ProbeError, match="finite and not negative"):
        fit_path(x, y, Classes(2), (1.0,), weights=-np.ones(30))
    with pytest.raises(probe.ProbeError, match="single class"):
        fit_path(x, y, Classes(2), (1.0,), weights=y.astype(float))
    x[7, 2] = np.nan
    with pytest.raises(probe.ProbeError, match="1 rows .* row 7"):
        fit_path(x, y, Classes(2), (1.0,))
    with pytest.raises(probe.ProbeError, match="^tap 'stem': 1 rows .* row 7"):
        fit_paths([TrainingSet(x, y, (1.0,), np.arange(5, 30), name="tap 'stem'")], Classes(2))


def test_the_estimator_is_scikit_learns() -> None:
    x, y = problem(120, 8, 3)
    names = np.array(["mel", "nv", "bkl"])[y]
    clf = probe.LinearProbe(C=0.5).fit(x, names)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, tol=1e-8, max_iter=20000)).fit(x, names)
    assert list(clf.classes_) == list(model.classes_)
    np.testing.assert_allclose(clf.predict_proba(x), model.predict_proba(x), atol=1e-3)
    assert clf.score(x, names) == model.score(x, names)
    assert clf.coef_.shape == (3, 8)
    assert clf.intercept_.shape == (3,)
    assert clf.converged_
    assert clf.get_params() == {"C": 0.5, "class_weight": None, "warm_start": False}


@pytest.mark.parametrize(("task", "d"), [("multiclass", 8), ("multiclass", 200), ("binary", 8), ("multilabel", 8)])
def test_a_warm_start_finds_the_same_sooner(task: str, d: int) -> None:
    x, y = problem(120, d, 2 if task == "binary" else 4)
    if task == "multilabel":
        y = np.eye(4, dtype=int)[y]
        y[:5, 1], y[:, 2] = -1, 0  # what is unknown, and what cannot be learnt
    warm = probe.LinearProbe(C=1.0, warm_start=True).fit(x, y)
    at_once = warm.fit(x, y).n_iter_
    cold, near = (clf.set_params(C=1.5).fit(x, y) for clf in (probe.LinearProbe(), warm))
    assert at_once <= 4 < near.n_iter_ < cold.n_iter_
    np.testing.assert_allclose(near.predict_proba(x), cold.predict_proba(x), atol=1e-3)


def test_a_warm_start_from_rows_that_weighed_nothing() -> None:
    x, y = problem(120, 8, 3)
    warm = probe.LinearProbe(warm_start=True).fit(x, y, sample_weight=y != 1)
    assert warm.intercept_[1] == -np.inf
    np.testing.assert_allclose(
        warm.fit(x, y).predict_proba(x), probe.LinearProbe().fit(x, y).predict_proba(x), atol=1e-3
    )


@pytest.mark.parametrize("coef", [np.nan, 1e3, 1e30])
def test_a_warm_start_that_is_worse_than_none_is_not_taken(coef: float) -> None:
    x, y = problem(120, 8, 3)
    warm, cold = (probe.LinearProbe(warm_start=True).fit(x, y) for _ in range(2))
    warm.path_.coef[:] *= coef
    warm.fit(x, y)
    np.testing.assert_array_equal(warm.predict_proba(x), probe.LinearProbe().fit(x, y).predict_proba(x))
    assert warm.n_iter_ > cold.fit(x, y).n_iter_


def test_a_warm_start_is_of_the_same_problem() -> None:
    x, y = problem(120, 8, 3)
    clf = probe.LinearProbe(warm_start=True).fit(x, y)
    before = clf.predict_proba(x)
    for other_x, other_y in ((x[:, :5], y), (x, y + 1), (x, np.eye(3, dtype=int)[y])):
        with pytest.raises(probe.ProbeError, match="the classes and features of the last fit"):
            clf.fit(other_x, other_y)
        np.testing.assert_array_equal(clf.predict_proba(x), before)  # what it had learnt is still there
