"""Training: the loss by hand, steps by any parts, epochs chosen on validation, runs that go on where they were."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from conftest import StoppedAt
from helpers import inputs, same, small, some_data, tiny_resnet, tune, weights
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler

import probe
from probe import finetuning
from probe.commands import main
from probe.finetuning.batches import AUGMENTS, Changed, cut_steps, draw_crop, draw_epoch
from probe.finetuning.inputs import Pictures
from probe.finetuning.schedule import factor, is_over, plateau
from probe.finetuning.training import Run
from probe.probes import fit_path
from probe.records.result_rows import read_rows
from probe.settings import Batches, ProbeGrid, Training, Tuning
from probe.settings.training import STRATEGIES
from probe.tasks import Classes, Labels
from probe.truncation import read_card
from probe.truncation.prediction import predict

# the loop


@pytest.mark.parametrize("balanced", [False, True])
def test_the_validation_loss_is_that_of_the_logits(balanced: bool) -> None:
    model, data = small(), some_data()
    data.labels[:10] = 0
    found = tune(model, data, epochs=1, class_weights="balanced" if balanced else "none", label_smoothing=0.1)
    model.eval()
    x, labels = inputs(model, data, "val")
    given = data.labels[data.splits == "train"]
    each = compute_class_weight("balanced", classes=np.arange(2), y=given) if balanced else np.ones(2)
    with torch.no_grad():
        expected = functional.cross_entropy(model(x), labels, torch.from_numpy(each).float())
    assert found.history["val_loss"][0] == pytest.approx(float(expected), rel=1e-5)
    assert abs(each[0] - each[1]) > 0.5 or not balanced


def test_unknown_labels_count_in_no_loss() -> None:
    model, data = small(several=True), some_data(several=True)
    nn.init.zeros_(model.head.linear.weight)  # so that no label is told surely
    found = tune(model, data, epochs=1)
    model.eval()
    x, labels = inputs(model, data, "val")
    with torch.no_grad():
        logits = model(x)
    known = labels >= 0
    expected = functional.binary_cross_entropy_with_logits(logits[known], labels[known].float())
    assert 0 < int(known.sum()) < known.numel()
    assert found.history["val_loss"][0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adam"])
def test_an_epoch_is_what_pytorch_does_by_hand(optimizer: str) -> None:
    """One step of all training images, frozen order: against the same step without this package's loop."""
    model, data = small(), some_data()
    settings = {"lr": 1e-2, "weight_decay": 0.1}
    found = tune(
        model, data, epochs=1, batch_size=26, optimizer=optimizer, momentum=0.5, label_smoothing=0.2,
        grad_clip=0.5, schedule="none", metric="log_loss", **settings,
    )  # fmt: skip
    mine = copy.deepcopy(model).train()
    decayed = [p for p in mine.parameters() if p.ndim > 1]
    groups = [{"params": decayed}, {"params": [p for p in mine.parameters() if p.ndim == 1], "weight_decay": 0.0}]
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[optimizer]
    steps = kind(groups, **settings, **({"momentum": 0.5} if optimizer == "sgd" else {}))
    x, labels = inputs(model, data, "train")
    functional.cross_entropy(mine(x), labels, label_smoothing=0.2).backward()
    assert float(nn.utils.clip_grad_norm_(mine.parameters(), 0.5)) > 0.5
    steps.step()
    mine.eval()
    held, wanted = inputs(model, data, "val")
    with torch.no_grad():
        loss = float(functional.cross_entropy(mine(held), wanted))
    assert found.history["val_loss"][1] == pytest.approx(loss, rel=1e-3)


def test_a_step_is_the_same_in_any_number_of_parts() -> None:
    """With frozen statistics, images of a step do not see each other; masked labels and weights are of the whole."""
    model, data = small(several=True), some_data(several=True)
    found = [
        weights(
            tune(model, data, accumulate=parts, batch_size=13, class_weights="balanced", metric="brier",
                 optimizer="sgd", tuning=Tuning(batchnorm="frozen")).model
        )
        for parts in (1, 3)
    ]  # fmt: skip
    assert not same(found[0], weights(model))
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-4, atol=1e-6)


def test_the_given_model_and_the_random_state_are_left_alone() -> None:
    model, data = small(), some_data()
    before, state = weights(model), torch.random.get_rng_state()
    first, again, other = (weights(tune(model, data, seed=seed).model) for seed in (0, 0, 1))
    assert same(weights(model), before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert same(first, again)
    assert not same(first, other)
    assert not same(first, before)


def test_dropout_draws_from_the_seed() -> None:
    model = probe.truncate(tiny_resnet(), -1, ["a", "b"], dropout=0.5)
    first = tune(model, some_data(), "lp", schedule="none").history["train_loss"]
    torch.manual_seed(7)  # and from nowhere else
    assert first.equals(tune(model, some_data(), "lp", schedule="none").history["train_loss"])
    other = probe.truncate(tiny_resnet(), -1, ["a", "b"])
    assert not first.equals(tune(other, some_data(), "lp", schedule="none").history["train_loss"])


def test_test_images_reach_neither_weights_nor_choice() -> None:
    model, data = small(), some_data()
    other = some_data()
    at = other.splits == "test"
    other.labels[at] = 1 - other.labels[at]
    other.images.arrays[0][at] = 0  # type: ignore[attr-defined]
    a, b = tune(model, data), tune(model, other)
    assert same(weights(a.model), weights(b.model))
    assert a.history.drop(columns="seconds").equals(b.history.drop(columns="seconds"))
    known = {split: rows["value"].tolist() for split, rows in a.rows[a.rows["metric"] == "log_loss"].groupby("split")}
    changed = {split: rows["value"].tolist() for split, rows in b.rows[b.rows["metric"] == "log_loss"].groupby("split")}
    assert known["val"] == changed["val"]
    assert known["test"] != changed["test"]


def test_the_best_epoch_on_validation_is_kept() -> None:
    model, data = small(), some_data()
    found = tune(model, data, epochs=6, lr=3e-3, schedule="none", metric="log_loss", patience=2)
    scores = found.history["val_log_loss"]
    assert found.best_epoch == int(scores.argmin())
    last = len(scores) - 1
    assert last in (6, found.best_epoch + 2)
    probabilities = predict(found.model, data.images, Batches(device="cpu"))
    at = data.splits == "val"
    mine = -np.log(probabilities[at, data.labels[at]]).mean()
    assert mine == pytest.approx(scores.min(), rel=1e-4)
    (row,) = found.rows[(found.rows["metric"] == "log_loss") & (found.rows["split"] == "val")].to_dict("records")
    assert row["value"] == pytest.approx(mine, rel=1e-4)
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert (row["study"], row["method"], row["strategy"], row["tap"]) == ("finetune", "trained", "ftl", model.tap)
    assert not found.model.training


# going on


def test_a_run_that_was_killed_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: StoppedAt
) -> None:
    model = probe.truncate(tiny_resnet(), -1, ["a", "b"], head="mlp", hidden=8, dropout=0.3)
    data, place = some_data(), tmp_path / "runs" / "checkpoint.pt"
    options: dict[str, Any] = {"epochs": 3, "augment": "light", "schedule": "plateau", "lr": 1e-2}
    whole = tune(model, data, **options)
    with stopped_at(2):
        tune(model, data, checkpoint=place, **options)
    assert [path.name for path in place.parent.iterdir()] == ["checkpoint.pt"]
    with pytest.raises(probe.ProbeError, match="other data, weights, settings"):
        tune(model, data, checkpoint=place, **{**options, "lr": 1e-3})
    epochs, train = list[int](), Run._train
    monkeypatch.setattr(Run, "_train", lambda self, epoch: (epochs.append(epoch), train(self, epoch))[1])
    rest = tune(model, data, checkpoint=place, **options)
    assert epochs == [2, 3]
    assert same(weights(rest.model), weights(whole.model))
    assert rest.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    assert place.exists()  # until the result is kept


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "checkpoint.pt"
    place.write_bytes(b"no checkpoint")
    with pytest.raises(probe.ProbeError, match="is no readable checkpoint"):
        tune(small(), some_data(), checkpoint=place)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "checkpoint.pt"
    loss = Classes.loss
    calls: list[int] = []

    def broken(self: Classes, *given: Any) -> tuple[Tensor, float]:
        calls.append(1)
        total, mass = loss(self, *given)
        return total * (float("nan") if len(calls) == 7 else 1), mass  # 1 + 3 + 1 before epoch 2

    monkeypatch.setattr(Classes, "loss", broken)
    with pytest.raises(probe.ProbeError, match=r"the loss is nan at step 5 \(epoch 2\), with learning rate 0.0001"):
        tune(small(), some_data(), checkpoint=place, lr=1e-4, schedule="none", class_weights="balanced")
    assert len(torch.load(place, weights_only=True)["history"]) == 2


# parts


def test_the_linear_probe_is_where_lp_ft_starts() -> None:
    model, data = small(), some_data()
    data.labels[::6] = 1 - data.labels[::6]  # so that the weakest penalty is not the best
    found = tune(model, data, "lp-ft", epochs=1, lr=1e-12, metric="log_loss")
    features = np.array(probe.extract(model.trunk, data)[model.tap])
    train, val = (data.splits == split for split in ("train", "val"))
    path = fit_path(features[train], data.labels[train], Classes(2), ProbeGrid().c_grid)
    losses = [log_loss(data.labels[val], path.probabilities(features[val], i)) for i in range(len(path.gap))]
    assert found.history["val_log_loss"][0] == pytest.approx(min(losses), rel=1e-4)
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1
    expected = path.probabilities(features, best)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(predict(found.model, data.images, Batches(device="cpu")), expected, atol=1e-4)


@pytest.mark.parametrize("count", [26, 27, 31, 33, 40])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_no_part_of_a_step_is_a_single_image(count: int, parts: int) -> None:
    steps = cut_steps(count, 8, parts)
    assert np.array_equal(np.concatenate([np.concatenate(step) for step in steps]), np.arange(count))
    assert all(len(step) == parts and min(map(len, step)) >= 2 for step in steps)
    assert all(sum(map(len, step)) == 8 for step in steps[:-1])
    with pytest.raises(probe.ProbeError, match="a single image"):
        cut_steps(count, 2 * parts - 1, parts)


def test_balanced_sampling_draws_classes_alike() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    rows = np.arange(1000)
    drawn = draw_epoch(rows, labels, "balanced", np.random.default_rng(0))
    assert len(drawn) == 1000
    assert 0.45 < labels[drawn].mean() < 0.55
    assert sorted(draw_epoch(rows, labels, "plain", np.random.default_rng(0))) == rows.tolist()
    with pytest.raises(probe.ProbeError, match="one class per image"):
        draw_epoch(rows, None, "balanced", np.random.default_rng(0))


def test_labels_weigh_by_their_rarity() -> None:
    labels = np.array([[1, 0], [0, 0], [0, -1], [0, 0]])
    assert Labels(2).balanced_weights(labels).tolist() == [3, 1]
    each = np.array([0, 0, 0, 2])
    assert Classes(3).balanced_weights(each).tolist() == pytest.approx([4 / 9, 1, 4 / 3])


@pytest.mark.parametrize("augment", AUGMENTS)
def test_crops_are_as_asked(augment: str) -> None:
    area, aspect = AUGMENTS[augment]
    rng = np.random.default_rng(0)
    drawn = np.array([draw_crop(200, 150, area, aspect, rng) for _ in range(2000)])
    left, top, width, height = drawn.T
    assert (left >= 0).all()
    assert (left + width <= 200).all()
    assert (top + height <= 150).all()
    share = width * height / (200 * 150)
    assert area[0] - 0.01 <= share.min() <= area[0] + 0.05
    assert share.max() <= 1
    ratio = np.log(width / height)
    assert np.log(aspect[0]) - 0.03 <= ratio.min()
    assert ratio.max() <= np.log(aspect[1]) + 0.03
    assert draw_crop(400, 10, area, aspect, rng)[3] == 10  # no such part fits: the middle


def test_changes_follow_the_place_in_the_epoch() -> None:
    data = some_data()
    order = np.array([3, 3, 5])
    first, again, later = (
        [np.asarray(Changed(data.images, order, "crops", seeds).load(i).resize((8, 8))) for i in range(3)]
        for seeds in ((0, 1), (0, 1), (0, 2))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], later[0])
    assert not np.array_equal(first[0], first[1])  # one image twice in an epoch, changed otherwise
    plain = Changed(data.images, order, "none", ()).load(2)
    assert np.array_equal(np.asarray(plain), np.asarray(data.images.load(5)))


def test_views_follow_the_row_and_return() -> None:
    data = some_data()
    settings = Training(augment="crops", views=2, num_workers=1)
    source = Pictures(data, tiny_resnet().origin.preprocessing, settings, "cpu")

    def shown(order: list[int], epoch: int) -> Tensor:
        return next(source.batches(np.array(order), [np.arange(len(order))], (0, epoch)))

    first = shown([3, 5], 1)
    assert torch.equal(shown([5, 3], 3), first.flip(0))  # the third epoch is as the first, in whatever order
    assert not torch.equal(shown([3, 5], 2), first)
    assert not torch.equal(first[0], shown([3], 4)[0])


def test_schedules_are_pytorchs() -> None:
    steps, epochs = 5, 4
    settings = {name: Training(schedule=name, epochs=epochs) for name in ("cosine", "exponential")}
    parameter = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], 1.0)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, steps * epochs)
    for step in range(steps * epochs):
        assert factor(settings["cosine"], step, steps, []) == pytest.approx(optimizer.param_groups[0]["lr"])
        assert factor(settings["exponential"], step, steps, []) == pytest.approx(0.95 ** (step // steps))
        optimizer.step()
        cosine.step()
    warm = Training(schedule="cosine", epochs=epochs, warmup=1)
    assert [factor(warm, step, steps, []) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    losses = np.random.default_rng(0).normal(1, 0.1, 60).tolist()
    optimizer = torch.optim.SGD([parameter], 1.0)
    waits = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=5)
    for count, loss in enumerate(losses, start=1):
        waits.step(loss)
        assert plateau(losses[:count]) == optimizer.param_groups[0]["lr"]
    assert plateau(losses) < 0.1


def test_patience_begins_when_everything_is_trained() -> None:
    settings = Training(epochs=20, patience=2, schedule="none")
    scores = [0.5, 0.6, 0.55, 0.55, 0.55]
    losses = [1.0] * 5
    assert not is_over(settings, scores[:3], losses[:3], 1)
    assert is_over(settings, scores[:4], losses[:4], 1)
    assert not is_over(settings, scores, losses, 4)
    assert is_over(settings, [*scores, 0.5], [*losses, 1.0], 4)
    assert is_over(Training(epochs=3), scores[:4], losses[:4], 1)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "classes": ({"data": "digits"}, "the model is for binary a, b, and digits is multiclass"),
    "strategy": ({"strategy": "ft"}, "unknown strategy 'ft'"),
    "metric": ({"metric": "auc"}, "unknown metric 'auc'"),
    "seed": ({"seed": -1}, "seed -1 is out of range"),
    "float16": ({"precision": "float16"}, "float16 is trained on a GPU"),
    "batch": ({"batch_size": 1}, "parts of a single image"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_trained_is_refused(case: str) -> None:
    changes, words = WRONG[case]
    changes = dict(changes)
    data = probe.dataset(changes.pop("data")) if "data" in changes else some_data()
    with pytest.raises(probe.ProbeError, match=words):
        tune(small(), data, changes.pop("strategy", "ftl"), **changes)


def test_validation_images_are_needed() -> None:
    data = some_data()
    data.splits[data.splits == "val"] = "train"
    with pytest.raises(probe.ProbeError, match="no images in val"):
        tune(small(), data)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"warmup": 20}, {"label_smoothing": 1.0}, {"grad_clip": -1.0},
     {"views": -1}, {"views": 2},
     {"optimizer": "lion"}, {"augment": "heavy"}, {"draws": 5}, {"accumulate": 0}, {"batch_size": 0}],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(probe.ProbeError, match=next(iter(wrong))):
        Training(**wrong)


# the command


def test_the_command_writes_model_epochs_and_rows(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = f"finetune --arch test_resnet --at layer1.0 --weights scratch --image-size 16 --strategy lp --out {out}"
    arguments = f"{words} --epochs 2 --draws 100 --seeds 2 --device cpu --json".split()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    left = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert {Path(file).name for file in told["files"]} == left - {"cells", "study.json"}
    model, card = probe.load(out / "model.safetensors"), read_card(out / "model.safetensors")
    history = pd.read_csv(out / "history.csv")
    assert history[["seed", "epoch"]].to_numpy().tolist() == [[s, e] for s in (0, 1) for e in (0, 1, 2)]
    rows = read_rows(out / "results.jsonl")
    one = rows[(rows["metric"] == "accuracy") & (rows["split"] == "test")]
    assert one["seed"].tolist() == [0, 1]
    assert set(rows["strategy"]) == {"lp"}
    best = history.groupby("seed")["val_auroc"].max()
    seed = int(best.argmax())
    data = probe.dataset("digits").redraw(seed)
    at = data.splits == "test"
    found = predict(model, data.images, Batches(device="cpu"))[at].argmax(1)
    assert (found == data.labels[at]).mean() == pytest.approx(one["value"].tolist()[seed])
    assert told["runs"][seed]["scores"]["val"]["auroc"] == pytest.approx(best[seed])
    assert (card["tap"], card["classes"]) == ("layer1.0", [str(digit) for digit in range(10)])


def test_a_result_that_cannot_be_recorded_leaves_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: Any) -> None:
        raise OSError(28, "No space left on device")

    arguments = f"finetune --arch test_resnet --at stem --weights scratch --image-size 16 --out {tmp_path}"
    arguments += " --strategy lp --epochs 2 --draws 100 --device cpu"
    with monkeypatch.context() as patched:
        patched.setattr("probe.records.record.write_signed", full)
        assert CliRunner().invoke(main, arguments.split()).exit_code == 1
    assert len(list((tmp_path / "cells").glob("*.ckpt"))) == 1
    epochs, train = list[int](), Run._train
    monkeypatch.setattr(Run, "_train", lambda self, epoch: (epochs.append(epoch), train(self, epoch))[1])
    result = CliRunner().invoke(main, arguments.split())
    assert (result.exit_code, epochs) == (0, []), result.stderr
    assert not list((tmp_path / "cells").glob("*.ckpt"))


def test_the_command_offers_every_strategy() -> None:
    assert set(finetuning.STRATEGIES) == set(STRATEGIES)
