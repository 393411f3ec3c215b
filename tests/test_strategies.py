"""Strategies: their mathematics by hand, and what of a network each of them moves."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import inputs, same, small, some_data, tiny_resnet, tune, weights
from torch import nn
from torch.nn import functional

import probe
from probe.finetuning import STRATEGIES, State, Strategy
from probe.finetuning import frozen_outputs as frozen_stages
from probe.finetuning.applied_strategy import (
    Pull,
    batchnorms,
    make_optimizer,
    param_groups,
    relative_norms,
    relative_rates,
    set_modes,
    set_rates,
)
from probe.finetuning.initialisation import draw_weights
from probe.finetuning.strategies import find_strategy
from probe.finetuning.training import Run
from probe.settings import Training, Tuning
from probe.truncation import Truncated

DEPTH = 5  # stages of test_resnet


@pytest.fixture
def last_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last epoch is kept, so that what training moved can be seen."""
    monkeypatch.setattr(Run, "_scores", lambda self: list(range(len(self.history))))


def make(name: str, **changes: Any) -> Strategy:
    return find_strategy(name, DEPTH, Tuning(**changes))


def moved(model: Truncated, found: Truncated) -> set[str]:
    """Names of the tensors that training changed, `trunk.` or `head.` before the architecture's own."""
    before, after = model.weights(), found.weights()
    return {name for name in before if not torch.equal(before[name], after[name])}


def of_stage(model: Truncated, index: int) -> set[str]:
    return {f"trunk.{name}" for name in model.trunk.stages[index].state_dict()}


def rates(model: Truncated, strategy: Strategy) -> dict[str, float]:
    """The learning rate of every parameter in the optimiser's groups, when that of the run is 1."""
    optimizer = make_optimizer(param_groups(model, strategy, Training()), Training())
    set_rates(optimizer, 1.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def per_stage(model: Truncated, strategy: Strategy) -> list[set[float]]:
    found = rates(model, strategy)
    return [
        {rate for name, rate in found.items() if name.startswith(f"trunk.stages.{i}.") and name.endswith("weight")}
        for i in range(DEPTH)
    ]


# what moves


def test_the_network_of_these_tests_has_what_they_need() -> None:
    model = small()
    assert len(model.trunk.stages) == DEPTH
    assert all(batchnorms(stage) for stage in model.trunk.stages)


def test_parameters_stand_in_one_order_in_every_process() -> None:
    """An optimiser's state goes by numbers, gradients are added up in a row: hashes of names must not matter."""
    for stage in small().trunk.stages:
        for module in stage.modules():
            leaves = [name for name, child in module.named_children() if not list(child.children())]
            assert leaves == sorted(leaves, key=lambda name: (len(name), name))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_trains(name: str) -> None:
    model, data = small(), some_data()
    tuning = Tuning(top_k=2)
    epochs = find_strategy(name, DEPTH, tuning).settled
    found = tune(model, data, name, epochs=epochs, tuning=tuning, lr=1e-3, schedule="none", patience=50)
    assert len(found.history) == epochs + 1
    assert np.isfinite(found.history["train_loss"][1:]).all()
    assert set(found.rows["strategy"]) == {name}
    final = found.history["train_loss"].iloc[-1]
    assert name != "ftl" or final < found.history["train_loss"][1] or epochs == 1


@pytest.mark.parametrize(("name", "frozen"), [("lp", 5), ("top-k", 3), ("lwft", 3)])
@pytest.mark.usefixtures("last_kept")
def test_a_frozen_bottom_stays_bit_by_bit(name: str, frozen: int) -> None:
    """Weights and buffers, BatchNorm's statistics and counts among them."""
    model, data = small(), some_data()
    found = tune(model, data, name, tuning=Tuning(top_k=2), lr=1e-2, schedule="none", epochs=1)
    changed = moved(model, found.model)
    for index in range(DEPTH):
        mine = of_stage(model, index)
        assert not changed & mine if index < frozen else changed & mine == mine, index
    assert {"head.linear.weight", "head.linear.bias"} <= changed


@pytest.mark.usefixtures("last_kept")
def test_frozen_statistics_let_weights_move() -> None:
    model, data = small(), some_data()
    found = tune(model, data, tuning=Tuning(batchnorm="frozen"), epochs=1, lr=1e-4)
    assert moved(model, found.model) == {f"trunk.{n}" for s in model.trunk.stages for n, _ in s.named_parameters()} | {
        "head.linear.weight", "head.linear.bias"
    }  # fmt: skip
    set_modes(model, make("ftl", batchnorm="frozen"), 1)
    norms = batchnorms(model)
    assert not any(norm.training for norm in norms)
    assert all(stage.training for stage in model.trunk.stages)  # dropout goes on


def test_batchnorms_are_found_by_kind_not_by_name() -> None:
    """timm's own, with an activation inside, and those of down-sampling paths."""
    model = probe.truncate(probe.backbone("efficientnet_b0", "scratch", image_size=32), 3, 2).train()
    before = weights(model)
    set_modes(model, find_strategy("ftl", len(model.trunk.stages), Tuning(batchnorm="frozen")), 1)
    with torch.no_grad():
        model(torch.randn(4, 3, 32, 32))
    assert same(weights(model), before)
    set_modes(model, find_strategy("ftl", len(model.trunk.stages), Tuning()), 1)
    with torch.no_grad():
        model(torch.randn(4, 3, 32, 32))
    assert not same(weights(model), before)


@pytest.mark.parametrize(("name", "ends"), [("bn-only", ("weight", "bias")), ("bitfit", ("bias",))])
@pytest.mark.usefixtures("last_kept")
def test_only_what_is_named_moves(name: str, ends: tuple[str, ...]) -> None:
    model, data = small(), some_data()
    found = tune(model, data, name, lr=1e-3, epochs=1)
    norms = {id(p) for norm in batchnorms(model.trunk) for p in norm.parameters()}
    named = [(n, p) for stage in model.trunk.stages for n, p in stage.named_parameters()]
    wanted = {f"trunk.{n}" for n, p in named if id(p) in norms and n.endswith(ends)}
    parameters = {f"trunk.{n}" for n, _ in named}
    assert moved(model, found.model) & parameters == wanted
    assert 5 < len(wanted) < len(parameters)


def test_unfreezing_goes_stage_by_stage() -> None:
    model = small()
    for name, order in (("g-lf", [4, 3, 2, 1, 0]), ("g-fl", [0, 1, 2, 3, 4])):
        strategy = make(name, unfreeze=2)
        first = 3 if name == "g-lf" else 1  # last to first, the head is alone at first
        for epoch in range(1, 13):
            set_modes(model, strategy, epoch)
            count = max(0, (epoch - first) // 2 + 1) if epoch >= first else 0
            now = {i for i, stage in enumerate(model.trunk.stages) if any(p.requires_grad for p in stage.parameters())}
            assert now == set(order[:count]), (name, epoch)
            assert {i for i, stage in enumerate(model.trunk.stages) if stage.training} == now
            assert all(p.requires_grad for p in model.head.parameters())
    with pytest.raises(probe.ProbeError, match="unfreezes the last stage in epoch 6, and 2 were asked"):
        tune(small(), some_data(), "g-lf")


@pytest.mark.usefixtures("last_kept")
def test_below_what_is_unfrozen_nothing_moves() -> None:
    model, data = small(), some_data()
    strategy = Strategy(name="mine", stages=(*[State(start=9)] * 4, State(start=2)))
    with pytest.raises(probe.ProbeError, match="epoch 9"):
        probe.finetune(model, data, strategy, training=Training(epochs=2))
    lower = Strategy(name="mine", stages=(*[State(rate=0)] * 4, State(start=2)))
    found = probe.finetune(
        model, data, lower,
        training=Training(epochs=2, batch_size=8, lr=1e-2, schedule="none", draws=100, device="cpu"),
    )  # fmt: skip
    changed = moved(model, found.model)
    assert not any(changed & of_stage(model, index) for index in range(4))
    assert changed & of_stage(model, 4) == of_stage(model, 4)
    assert found.best_epoch == 2


# rates


def test_rates_stand_in_the_optimiser() -> None:
    model = small()
    assert per_stage(model, make("llrd", decay=0.5)) == [{2.0**-5}, {2.0**-4}, {2.0**-3}, {0.25}, {0.5}]
    assert per_stage(model, make("lwft", top_k=2)) == [set(), set(), set(), {0.1}, {0.1}]
    assert per_stage(model, make("top-k", top_k=2)) == [set(), set(), set(), {1.0}, {1.0}]
    assert per_stage(model, make("lp-ft")) == [{0.1}] * 5
    assert per_stage(model, make("layer-wise", rates=(0.0, 0.1, 0.2, 0.3, 0.4))) == [set(), {0.1}, {0.2}, {0.3}, {0.4}]
    assert {name.split(".")[0]: rate for name, rate in rates(model, make("lp")).items()} == {"head": 10}
    found = rates(model, make("layer-wise"))
    assert found["head.linear.weight"] == 1
    assert found["head.linear.bias"] == 2  # twice, as in the paper
    norms = [name for name in found if name.startswith("trunk") and name.endswith("bias")]
    assert norms
    assert all(found[name] == pytest.approx(0.2) for name in norms)
    assert rates(model, make("llrd"))["head.linear.weight"] == 1


def test_weight_decay_spares_biases_and_norms() -> None:
    for group in param_groups(small(), make("ftl"), Training(weight_decay=0.3)):
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.3}
    assert {group["weight_decay"] for group in param_groups(small(), make("l2-sp"), Training(weight_decay=0.3))} == {0}


@pytest.mark.usefixtures("last_kept")
def test_a_slower_stage_moves_less() -> None:
    """By SGD's own arithmetic: halved rate, halved step."""
    data = some_data()
    steps = []
    for rate in (1.0, 0.5):
        model = small()
        states = (*[State(rate=0)] * 4, State(rate=rate))
        strategy = Strategy(name="mine", stages=states, batchnorm="frozen")
        training = Training(
            epochs=1, batch_size=26, optimizer="sgd", weight_decay=0, schedule="none", lr=0.1,
            draws=100, device="cpu",
        )  # fmt: skip
        found = probe.finetune(model, data, strategy, training=training)
        pairs = zip(model.trunk.stages[4].parameters(), found.model.trunk.stages[4].parameters(), strict=True)
        steps.append(torch.cat([(after - before).detach().flatten() for before, after in pairs]))
    assert float((steps[0] - 2 * steps[1]).norm()) < 1e-3 * float(steps[0].norm())


# pulls


@pytest.mark.parametrize("name", ["l1-sp", "l2-sp"])
def test_the_pull_has_the_gradient_of_its_formula(name: str) -> None:
    model, strategy = small(), make(name, alpha=0.3, beta=0.2)
    start = weights(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    pull = Pull(model, strategy, start)()
    pull.backward()
    total = 0.0
    for key, parameter in model.named_parameters():
        gap = parameter.detach() - start[key]
        free = parameter.ndim == 1
        if key.startswith("head"):
            expected = 0.2 * parameter.detach()
            total += 0 if free else float(parameter.detach().square().sum()) * 0.1
        elif name == "l1-sp":
            expected = 0.3 * gap.sign()
            total += 0 if free else float(gap.abs().sum()) * 0.3
        else:
            expected = 0.3 * gap
            total += 0 if free else float(gap.square().sum()) * 0.15
        if free:
            assert parameter.grad is None, key
        else:
            torch.testing.assert_close(parameter.grad, expected)
    assert float(pull.detach()) == pytest.approx(total, rel=1e-5)


@pytest.mark.usefixtures("last_kept")
def test_a_strong_pull_holds_the_trunk_where_it_started() -> None:
    model, data = small(), some_data()
    gone = []
    for alpha in (0.0, 50.0):
        found = tune(
            model, data, "l2-sp", tuning=Tuning(alpha=alpha, beta=0), optimizer="sgd", lr=1e-2, momentum=0.0,
            schedule="none",
        )  # fmt: skip
        pairs = zip(model.trunk.parameters(), found.model.trunk.parameters(), strict=True)
        gone.append(sum(float((after - before).detach().norm()) for before, after in pairs if before.ndim > 1))
    assert 0 < gone[1] < gone[0] / 2


# relative gradient norms


def test_relative_norms_are_those_of_autograd() -> None:
    model, data = small(), some_data()
    strategy = make("auto-rgn")
    groups = param_groups(model, strategy, Training())
    assert all(len(group["params"]) == 1 for group in groups)
    assert len(groups) == len(list(model.parameters()))
    optimizer = make_optimizer(groups, Training())
    with torch.no_grad():
        model.head.linear.bias.zero_()
    x, labels = inputs(model, data, "train")
    functional.cross_entropy(model.train()(x), labels).backward()
    each = [group["params"][0] for group in optimizer.param_groups]
    expected = [float(p.grad.norm() / p.detach().norm()) if p.detach().any() else None for p in each]
    found = relative_norms(optimizer)
    assert found == pytest.approx(expected)
    assert found.count(None) == 1  # a bias of zeros


def test_rates_are_norms_over_the_largest() -> None:
    assert relative_rates([[1.0, 4.0, None], [3.0, 4.0, None]]) == [0.5, 1.0, 1.0]
    assert relative_rates([[0.0, None], [2.0, 3.0]]) == [1.0, 1.0]
    assert relative_rates([[0.0, 0.0]]) == [1.0, 1.0]


def test_adapting_only_sets_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    adapt = Run._adapt

    def watched(self: Run, order: Any, epoch: int) -> None:
        before, held = weights(self.model), copy.deepcopy(self.optimizer.state_dict()["state"])
        adapt(self, order, epoch)
        assert same(weights(self.model), before)  # BatchNorm's statistics too
        after = self.optimizer.state_dict()["state"]
        assert held.keys() == after.keys()
        assert all(torch.equal(held[i]["exp_avg"], after[i]["exp_avg"]) for i in held)  # one optimiser throughout
        seen.append([group["rate"] for group in self.optimizer.param_groups])

    monkeypatch.setattr(Run, "_adapt", watched)
    tune(small(), some_data(), "auto-rgn")
    assert len(seen) == 2
    assert seen[0] != seen[1]
    for found in seen:
        assert max(found) == 1
        assert len(set(found)) > 10


# starts


def test_scratch_is_what_the_architecture_draws() -> None:
    model = small()
    draw_weights(model, make("scratch"), seed=3)
    fresh = probe.backbone("test_resnet", "scratch", seed=3, image_size=32).weights()
    assert same(model.trunk.weights(), fresh)
    assert (model.trunk.origin.weights, model.trunk.origin.seed) == ("scratch", 3)


def test_statistics_are_kept_where_weights_are_drawn() -> None:
    model = small()
    before = [weights(stage) for stage in model.trunk.stages]
    draw_weights(model, make("wt-st", top_k=2), seed=0)
    after = [weights(stage) for stage in model.trunk.stages]
    assert all(same(a, b) for a, b in zip(before[:3], after[:3], strict=True))
    for a, b, stage in zip(before[3:], after[3:], model.trunk.stages[3:], strict=True):
        parameters = {name for name, _ in stage.named_parameters()}
        for name, tensor in a.items():
            if name not in parameters:
                assert torch.equal(tensor, b[name])  # BatchNorm's running statistics
            elif tensor.numel() > 5000:
                assert not torch.equal(tensor, b[name])
                assert float(b[name].mean()) == pytest.approx(float(tensor.mean()), abs=0.1 * float(tensor.std()))
                assert float(b[name].std()) == pytest.approx(float(tensor.std()), rel=0.05)
    assert any(t.numel() > 5000 for t in after[4].values())
    again = small()
    draw_weights(again, make("wt-st", top_k=2), seed=0)
    assert same(weights(again), weights(model))


def test_the_probe_starts_a_head_of_labels_too() -> None:
    model, data = small(several=True), some_data(several=True)
    found = tune(model, data, "lp-ft", epochs=1, metric="brier")
    plain = tune(model, data, "ftl", epochs=1, metric="brier")
    assert found.history["val_loss"][0] < plain.history["val_loss"][0]


# what does not fit

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "k": ("top-k", {"top_k": 6}, "top_k is 6, but the trunk has 5 stages"),
    "rates": ("layer-wise", {"rates": (0.1, 0.2)}, "2 rates were given for the 5 stages"),
    "name": ("bnonly", {}, "unknown strategy 'bnonly'; did you mean 'bn-only'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_do_not_fit_are_refused(case: str) -> None:
    name, changes, words = REFUSED[case]
    with pytest.raises(probe.ProbeError, match=words):
        make(name, **changes)


@pytest.mark.parametrize("name", ["l2-sp", "l1-sp", "wt-st"])
def test_random_weights_are_nothing_to_keep_to(name: str) -> None:
    with pytest.raises(probe.ProbeError, match="about the given weights, and this network's are random"):
        tune(probe.truncate(tiny_resnet(), -1, ["a", "b"]), some_data(), name)


@pytest.mark.usefixtures("last_kept")
def test_norms_are_needed_to_train_norms() -> None:
    model = probe.truncate(probe.backbone("test_vit", "scratch", image_size=32), 1, ["a", "b"])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    with pytest.raises(probe.ProbeError, match="trains the batchnorm of the trunk, and test_vit has none"):
        tune(model, some_data(), "bn-only")
    found = tune(model, some_data(), "bitfit", epochs=1)
    assert moved(model, found.model)


@pytest.mark.parametrize("wrong", [{"top_k": -1}, {"rates": ()}, {"decay": 0.0}, {"alpha": -1.0}, {"unfreeze": 0}])
def test_wrong_tuning_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(probe.ProbeError, match=next(iter(wrong))):
        Tuning(**wrong)


# frozen stages, paid once


@pytest.mark.usefixtures("last_kept")
@pytest.mark.parametrize(("name", "frozen"), [("lp", 5), ("top-k", 3)])
def test_outputs_of_frozen_stages_give_the_same_network(
    name: str, frozen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = small(), some_data()
    options: dict[str, Any] = {"tuning": Tuning(top_k=2), "lr": 1e-3, "optimizer": "sgd"}
    plain = tune(model, data, name, reuse=False, **options)
    loads: list[int] = []
    load = type(data.images).load
    monkeypatch.setattr(type(data.images), "load", lambda self, index: (loads.append(index), load(self, index))[1])
    quick = tune(model, data, name, **options)
    assert sorted(loads) == list(range(len(data)))  # every image once
    again = tune(model, data, name, seed=1, **options)
    assert len(loads) == len(data)  # and not again for another seed
    assert not same(weights(again.model), weights(quick.model))
    for key, tensor in weights(plain.model).items():
        torch.testing.assert_close(weights(quick.model)[key], tensor, rtol=1e-3, atol=1e-5)
    assert moved(model, quick.model) == moved(model, plain.model)
    np.testing.assert_allclose(quick.history["val_loss"], plain.history["val_loss"], rtol=1e-4)


@pytest.mark.usefixtures("last_kept")
def test_a_fixed_number_of_views_goes_through_frozen_stages_once(tmp_path: Path) -> None:
    model, data = small(), some_data()
    options: dict[str, Any] = {"augment": "crops", "lr": 1e-3, "optimizer": "sgd", "epochs": 3}
    quick, plain = (
        tune(model, data, "lp", views=2, reuse=reuse, cache=tmp_path / "kept", **options) for reuse in (True, False)
    )
    assert len(list((tmp_path / "kept").glob("*/*.npy"))) == 3  # as they are, and two views
    np.testing.assert_allclose(quick.history["train_loss"], plain.history["train_loss"], rtol=1e-4)
    np.testing.assert_allclose(quick.history["val_loss"], plain.history["val_loss"], rtol=1e-4)
    for key, tensor in weights(plain.model).items():
        torch.testing.assert_close(weights(quick.model)[key], tensor, rtol=1e-3, atol=1e-5)
    fresh = tune(model, data, "lp", **options)
    assert not np.allclose(fresh.history["train_loss"][1:], plain.history["train_loss"][1:], rtol=1e-4)


@pytest.mark.parametrize("changes", [{"augment": "light"}, {"reuse": False}])
def test_changed_images_are_not_kept(changes: dict[str, Any], tmp_path: Path) -> None:
    tune(small(), some_data(), "lp", epochs=1, cache=tmp_path / "kept", **changes)
    assert not list((tmp_path / "kept").glob("*/*.npy"))
    tune(small(), some_data(), "lp", epochs=1, cache=tmp_path / "kept")
    assert len(list((tmp_path / "kept").glob("*/*.npy"))) == 1


def test_a_small_disk_means_the_long_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_stages.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    found = tune(small(), some_data(), "lp", epochs=1, cache=tmp_path / "kept")
    assert len(found.history) == 2
    assert not list((tmp_path / "kept").glob("*/*.npy"))
