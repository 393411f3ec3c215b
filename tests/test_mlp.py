"""MLP probes against plain torch, one network at a time; alone and together; what must not change them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn

import probe
from probe.probes import MLPSet, fit_mlps, mlp
from probe.probes.mlp_batch import generators
from probe.settings import MLPSetting
from probe.tasks import Classes, Labels, read_task

TRAIN, HELD = np.arange(0, 150), np.arange(150, 200)
SMALL = MLPSetting(hidden=16, batch_size=32, epochs=25, patience=3, learning_rate=1e-2)
SETTINGS = (
    SMALL,
    replace(SMALL, dropout=0.5, weight_decay=1.0),
    replace(SMALL, hidden=5, learning_rate=3e-3, patience=1),
    replace(SMALL, batch_size=64, epochs=3),
    replace(SMALL, dropout=0.2, learning_rate=0.1),
)
NAMES = "abcd"
CLASSES = {"binary": 2, "multiclass": 4, "multilabel": 3}


def problem(task: str, n: int = 200, d: int = 12, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features in odd units and noisy labels; of multi-label data a fifth is unknown."""
    k = CLASSES[task]
    x, y = make_classification(
        n, d, n_informative=6, n_classes=k, n_clusters_per_class=1, flip_y=0.2, random_state=seed
    )
    rng = np.random.default_rng(seed)
    if task == "multilabel":
        labels = np.stack([y == label for label in range(k)], 1) ^ (rng.random((n, k)) < 0.1)
        y = np.where(rng.random((n, k)) < 0.2, -1, labels)
    return x * np.linspace(0.1, 30, d) + 5, y.astype(np.int64)


def plain_loss(task: str, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if task == "multiclass":
        return nn.functional.cross_entropy(logits, y)
    if task == "binary":
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0], y.float())
    known = y >= 0
    return nn.functional.binary_cross_entropy_with_logits(logits[known], y[known].float())


def plain(
    x: NDArray[np.float64], y: NDArray[np.int64], task: str, setting: MLPSetting, seed: int
) -> tuple[NDArray[np.float64], int, float]:
    """Probabilities of all rows, the best epoch and its loss, of one network as anyone would train it."""
    z = torch.from_numpy(StandardScaler().fit(x[TRAIN]).transform(x)).float()
    target, k = torch.from_numpy(y), 1 if task == "binary" else CLASSES[task]
    start, order, masks = generators(seed)
    first, second = nn.Linear(x.shape[1], setting.hidden), nn.Linear(setting.hidden, k)
    for layer in (first, second):
        for parameter in (layer.weight, layer.bias):
            nn.init.uniform_(parameter, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=start)
    net = nn.Sequential(first, nn.ReLU(), second)
    optimizer = torch.optim.AdamW(net.parameters(), lr=setting.learning_rate, weight_decay=setting.weight_decay)
    best, best_epoch, state = np.inf, 0, net.state_dict()
    for epoch in range(1, setting.epochs + 1):
        for rows in torch.randperm(len(TRAIN), generator=order).split(setting.batch_size):
            hidden = net[1](net[0](z[rows]))
            if setting.dropout:
                kept = torch.rand(hidden.shape[::-1], generator=masks).T.ge(setting.dropout)
                hidden = hidden * kept / (1 - setting.dropout)
            optimizer.zero_grad()
            plain_loss(task, net[2](hidden), target[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = plain_loss(task, net(z[HELD]), target[HELD]).item()
        if loss < best:
            best, best_epoch = loss, epoch
            state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        if epoch - best_epoch >= setting.patience:
            break
    net.load_state_dict(state)
    with torch.no_grad():
        logits = net(z).double()
    found = logits.softmax(1) if task == "multiclass" else logits.sigmoid()
    return (torch.cat([1 - found, found], 1) if task == "binary" else found).numpy(), best_epoch, best


def together(
    task: str, settings: Sequence[MLPSetting] = SETTINGS, seeds: Sequence[int] = (0, 7), data: int = 0
) -> mlp.MLPs:
    x, y = problem(task, seed=data)
    return fit_mlps([MLPSet(x, y, settings, TRAIN, HELD)], seeds, read_task(task, NAMES[: CLASSES[task]]))[0]


@pytest.mark.parametrize("task", CLASSES)
def test_equals_networks_trained_one_by_one_with_plain_torch(task: str) -> None:
    x, y = problem(task)
    found = together(task)
    assert len(set(found.epochs.ravel().tolist())) > 2  # they leave at different epochs
    for i, setting in enumerate(SETTINGS):
        for j, seed in enumerate((0, 7)):
            probabilities, epoch, loss = plain(x, y, task, setting, seed)
            assert found.epochs[i, j] == epoch
            np.testing.assert_allclose(found.held_loss[i, j], loss, rtol=1e-4)
            np.testing.assert_allclose(found.probabilities(x, i)[j], probabilities, atol=1e-4)


@pytest.mark.parametrize("task", CLASSES)
def test_a_network_is_what_it_is_alone(task: str) -> None:
    """Whatever its neighbours: other settings and seeds, other sets of the same shape and of others."""
    (x, y), (other, _) = problem(task), problem(task, seed=1)
    sets = [MLPSet(z, y, SETTINGS, TRAIN, HELD) for z in (x, other, x[:, :7].copy())]
    found = fit_mlps(sets, (3, 0), read_task(task, NAMES[: CLASSES[task]]))
    for given, both in zip(sets, found, strict=True):
        for i, setting in enumerate(SETTINGS):
            alone = fit_mlps([replace(given, settings=[setting])], (0,), read_task(task, NAMES[: CLASSES[task]]))[0]
            assert alone.epochs[0, 0] == both.epochs[i, 1]
            np.testing.assert_allclose(
                both.probabilities(given.features, i)[1], alone.probabilities(given.features)[0, 0], atol=1e-5
            )


def test_the_same_again_is_the_same_and_another_seed_another() -> None:
    x, _ = problem("multiclass")
    one, again = (together("multiclass").probabilities(x) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one[:, 0] - one[:, 1]).max(axis=(1, 2)).min() > 0.01


def test_two_threads_give_what_one_gives() -> None:
    x, _ = problem("binary")
    one = together("binary").probabilities(x)
    torch.set_num_threads(2)
    try:
        two = together("binary").probabilities(x)
    finally:
        torch.set_num_threads(1)
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_no_random_state_is_touched() -> None:
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    together("multiclass", SETTINGS[:2])
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


def test_the_best_epoch_is_kept_and_can_be_run_again() -> None:
    """Trained for as many epochs as were best, without held rows, a network is the one that was kept."""
    x, y = problem("multiclass")
    found = together("multiclass", seeds=(0,))
    assert (found.epochs[:, 0] < [setting.epochs for setting in SETTINGS]).any()
    exact = [replace(setting, epochs=int(e)) for setting, e in zip(SETTINGS, found.epochs[:, 0], strict=True)]
    again = fit_mlps([MLPSet(x, y, exact, TRAIN)], (0,), Classes(4))[0]
    np.testing.assert_array_equal(again.epochs, found.epochs)
    assert np.isnan(again.held_loss).all()
    np.testing.assert_allclose(again.probabilities(x), found.probabilities(x), atol=1e-5)


@pytest.mark.parametrize("task", CLASSES)
def test_the_held_loss_is_the_mean_log_loss_of_the_probabilities(task: str) -> None:
    x, y = problem(task)
    found = together(task)
    p, held = found.probabilities(x)[..., HELD, :], y[HELD]
    if task == "multilabel":
        chosen = np.where(held == 1, p, 1 - p)[..., held >= 0]
    else:
        chosen = p[..., np.arange(len(HELD)), held]
    np.testing.assert_allclose(found.held_loss, -np.log(chosen).mean(-1), rtol=1e-4)


def test_units_of_the_features_do_not_matter_and_constant_ones_are_ignored() -> None:
    x, y = problem("multiclass")
    plain_units, moved = (
        fit_mlps([MLPSet(z, y, [SMALL], TRAIN, HELD)], (0,), Classes(4))[0].probabilities(z) for z in (x, x * 250 + 40)
    )
    np.testing.assert_allclose(plain_units, moved, atol=1e-4)
    constant = x.copy()
    constant[:, 3] = 1e6
    found = fit_mlps([MLPSet(constant, y, [SMALL], TRAIN, HELD)], (0,), Classes(4))[0].probabilities(constant)
    constant[:, 3] = 0
    again = fit_mlps([MLPSet(constant, y, [SMALL], TRAIN, HELD)], (0,), Classes(4))[0].probabilities(constant)
    np.testing.assert_allclose(found, again, atol=1e-5)


def test_weight_decay_shrinks_and_dropout_changes() -> None:
    settings = [replace(SMALL, weight_decay=w, epochs=20) for w in (0.0, 1.0, 20.0)]
    x, y = problem("binary")
    found = fit_mlps([MLPSet(x, y, settings, TRAIN)], (0,), Classes(2))[0]
    assert (np.diff([np.square(weights[0]).sum() for weights in found.layers]) < 0).all()


def test_a_class_that_training_rows_lack_gets_no_probability() -> None:
    """Nor do held rows of it stop the training: the loss is over what can be learnt."""
    x, y = problem("multiclass")
    y[TRAIN[y[TRAIN] == 2]] = 1
    assert (y[HELD] == 2).any()
    found = fit_mlps([MLPSet(x, y, [SMALL], TRAIN, HELD)], (0,), Classes(4))[0]
    probabilities = found.probabilities(x, 0)[0]
    assert (probabilities[:, 2] == 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1)
    left = HELD[y[HELD] != 2]
    relabelled = np.where(y == 3, 2, y)
    without = fit_mlps([MLPSet(x, relabelled, [SMALL], TRAIN, left)], (0,), Classes(3))[0]
    np.testing.assert_allclose(found.held_loss, without.held_loss, rtol=1e-5)
    np.testing.assert_allclose(probabilities[:, [0, 1, 3]], without.probabilities(x, 0)[0], atol=1e-6)


def test_a_label_that_is_never_or_always_there() -> None:
    x, y = problem("multilabel")
    labels = np.concatenate([y, np.zeros_like(y[:, :1]), np.ones_like(y[:, :1])], 1)
    found = fit_mlps([MLPSet(x, labels, [SMALL], TRAIN, HELD)], (0,), Labels(5))[0].probabilities(x, 0)[0]
    assert (found[:, 3:] == [0, 1]).all()
    np.testing.assert_allclose(found[:, :3], together("multilabel", [SMALL], (0,)).probabilities(x, 0)[0], atol=1e-6)


def test_one_setting_of_several() -> None:
    x, _ = problem("multiclass")
    found = together("multiclass")
    every = found.probabilities(x)
    assert every.shape == (5, 2, 200, 4)
    assert every.dtype == np.float64
    only = found.only(2)
    assert only.epochs.tolist() == found.epochs[2:3].tolist()
    np.testing.assert_array_equal(only.probabilities(x, 0), every[2])
    np.testing.assert_array_equal(found.probabilities(x, slice(1, 3)), every[1:3])


def test_bad_input_is_told() -> None:
    x, y = problem("binary")
    one = (0,), Classes(2)
    with pytest.raises(probe.ProbeError, match="single class"):
        fit_mlps([MLPSet(x, np.zeros_like(y), [SMALL])], *one)
    with pytest.raises(probe.ProbeError, match="^tap 'stem': no held row"):
        fit_mlps([MLPSet(x, y, [SMALL], TRAIN, HELD[:0], name="tap 'stem'")], *one)
    with pytest.raises(probe.ProbeError, match=r"MLP of seed 0 diverged; .* smaller learning_rate than 1e\+30"):
        fit_mlps([MLPSet(x, y, [replace(SMALL, learning_rate=1e30)], TRAIN, HELD)], *one)
    for row in (7, 160):
        broken = x.copy()
        broken[row, 2] = np.nan
        with pytest.raises(probe.ProbeError, match=f"^tap 'stem': 1 rows .* row {row}"):
            fit_mlps([MLPSet(broken, y, [SMALL], TRAIN, HELD, name="tap 'stem'")], *one)
    wrong = {"hidden": 0, "batch_size": 0, "epochs": 0, "patience": 0, "dropout": 1.0, "learning_rate": 0.0}
    for name, value in (wrong | {"weight_decay": -1.0}).items():
        with pytest.raises(probe.ProbeError, match=f"{name} is {value}; it must"):
            MLPSetting(**{name: value})


def test_the_estimator_is_scikit_learns() -> None:
    x, y = problem("multiclass")
    names = np.array(["mel", "nv", "bkl", "df"])[y]
    clf = probe.MLPProbe(hidden=32, learning_rate=1e-2, batch_size=32, epochs=40, seed=1).fit(x, names)
    assert list(clf.classes_) == sorted(set(names))
    assert 1 <= clf.n_epochs_ <= 40
    assert clf.score(x, names) > 0.7
    probabilities = clf.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (clf.predict(x) == clf.classes_[probabilities.argmax(1)]).all()
    whole = probe.MLPProbe(hidden=16, epochs=3, validation_fraction=None).fit(x, y)
    setting = MLPSetting(hidden=16, epochs=3)
    same = fit_mlps([MLPSet(x, y, [setting])], (0,), Classes(4))[0].probabilities(x)[0, 0]
    np.testing.assert_array_equal(whole.predict_proba(x), same)
    labels = probe.MLPProbe(hidden=16, epochs=3).fit(x, problem("multilabel")[1]).predict(x)
    assert labels.shape == (200, 3)
    assert set(labels.ravel().tolist()) <= {0, 1}


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 0.5, 2: 1.0, 3: 1.0}])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_linear_estimator_weighs_as_scikit_learns(class_weight: object, weighted: bool) -> None:
    x, y = problem("multiclass")
    keep = (y != 1) | (np.arange(200) % 3 == 0)
    x, y = x[keep], y[keep]
    weights = np.random.default_rng(0).uniform(0.1, 3, len(y)) if weighted else None
    clf = probe.LinearProbe(C=0.5, class_weight=class_weight).fit(x, y, sample_weight=weights)
    both = compute_sample_weight(class_weight, y) * (1 if weights is None else weights)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, tol=1e-8, max_iter=20000))
    model.fit(x, y, logisticregression__sample_weight=both)
    if not weighted:  # beside weights, what is balanced depends on scikit-learn's version
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.5, class_weight=class_weight, tol=1e-8, max_iter=20000)
        ).fit(x, y)
    np.testing.assert_allclose(clf.predict_proba(x), model.predict_proba(x), atol=1e-3)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.fit(x, y, sample_weight=np.ones(3))
