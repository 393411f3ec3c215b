"""Attribution: methods against captum, closed forms and other layouts; checks and scores by their definition."""

import copy
import inspect
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import GradientShap, LayerAttribution, LayerGradCam
from scipy.stats import spearmanr
from torch import Tensor, nn

import probe
from analysis.attribution import (
    BASELINES,
    METHODS,
    AtTap,
    agreement,
    area_share,
    attribute,
    completeness_gap,
    energy_in_mask,
    grad_cam,
    make_baseline,
    perturbation_curves,
    pointing_game,
    raw_maps,
)
from analysis.attribution.faithfulness import area
from analysis.attribution.summaries import long_rows, summary, with_differences
from probe.backbones import Backbone, Layout, Tap
from probe.base.errors import ProbeError
from probe.settings import Attribution
from probe.truncation import Truncated, cascade

SIZE = 32
LAYOUTS = {"test_resnet": "nchw", "test_mambaout": "nhwc", "test_vit": "ntd"}
QUICK: dict[str, Any] = {"steps": 8, "samples": 3, "patch": 8}


@cache
def net(arch: str = "test_resnet") -> Backbone:
    return probe.backbone(arch, "scratch", image_size=SIZE)


def truncated(arch: str = "test_resnet", tap: int | str = 2, **head: Any) -> Truncated:
    return probe.truncate(net(arch), tap, 3, **head)


def at_tap(model: Truncated) -> AtTap:
    tap = model.trunk.tap(-1)
    return AtTap(model.trunk, model.head, tap.maps, tap.name)


def images(count: int = 3, size: int = SIZE) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


TARGETS = torch.tensor([0, 2, 1])


class Linear(nn.Module):
    """Logits w x + b of the pixels, so that every attribution is known."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", x, self.weight) + 0.3


# methods


def test_the_settings_offer_the_methods_and_the_baselines_that_there_are() -> None:
    choices = {name: entry.metadata.get("choices") for name, entry in Attribution.__dataclass_fields__.items()}
    assert choices["method"] == tuple(METHODS)
    assert choices["baseline"] == BASELINES
    own = inspect.signature(attribute).parameters
    assert [own[name].default for name in ("steps", "samples", "method")] == [50, 20, "gradcam"]


def test_attributions_of_a_linear_model_are_its_weights() -> None:
    model, x = Linear(), images(3, 6)
    base = torch.randn(3, 3, 6, 6)
    mine = model.weight[TARGETS].detach()
    share = (mine * (x - base)).sum(1)
    for method, expected in (
        ("saliency", mine.abs().amax(1)),
        ("integrated-gradients", share),
        ("occlusion", share),
    ):
        found = attribute(model, x, TARGETS, method, baseline=base, patch=1, steps=3)
        torch.testing.assert_close(found, expected)
    found = attribute(model, x, TARGETS, "gradient-shap", references=base[:1], samples=4)
    torch.testing.assert_close(found, (mine * (x - base[:1])).sum(1))
    zeros = attribute(model, x, TARGETS, "integrated-gradients", steps=3)
    torch.testing.assert_close(zeros, (mine * x).sum(1))


def test_occlusion_is_the_mean_over_the_squares_that_hide_a_pixel() -> None:
    model, x = Linear(), images(3, 6)
    lost = (model.weight[TARGETS] * x).sum(1).detach()
    found = attribute(model, x, TARGETS, "occlusion", patch=2)
    squares = nn.functional.avg_pool2d(lost[:, None], 2, stride=1) * 4
    torch.testing.assert_close(found[:, 0, 0], squares[:, 0, 0, 0])
    torch.testing.assert_close(found[:, 2, 3], squares[:, 0, 1:3, 2:4].mean((1, 2)))


def test_grad_cam_is_captums_where_channels_come_first() -> None:
    model, x = truncated(), images()
    layer = model.trunk.stage(-1)
    theirs = LayerGradCam(model, layer).attribute(x, TARGETS, relu_attributions=True)
    theirs = LayerAttribution.interpolate(theirs, (SIZE, SIZE), "bilinear")
    torch.testing.assert_close(attribute(at_tap(model), x, TARGETS), theirs[:, 0].detach())
    split = AtTap(model.trunk.cut(1), nn.Sequential(model.trunk.split(1)[1], model.head))
    inner = LayerGradCam(model, model.trunk.stage(1)).attribute(x, TARGETS, relu_attributions=True)
    torch.testing.assert_close(
        attribute(split, x, TARGETS), LayerAttribution.interpolate(inner, (SIZE, SIZE), "bilinear")[:, 0].detach()
    )


def test_grad_cam_is_the_same_in_every_layout() -> None:
    model, x = truncated(), images()
    expected = attribute(at_tap(model), x, TARGETS)

    rows = model.trunk.stage(-1).shape[1]
    others = {
        Layout("nhwc"): (lambda y: y.permute(0, 2, 3, 1), lambda y: y.permute(0, 3, 1, 2)),
        Layout("ntd", prefix=2): (tokens_of(2), lambda y: y[:, 2:].mT.unflatten(2, (rows, rows))),
    }
    for layout, (there, back) in others.items():
        other = AtTap(
            lambda y, there=there: there(model.trunk(y)), lambda y, back=back: model.head(back(y)), layout.maps
        )
        torch.testing.assert_close(attribute(other, x, TARGETS), expected)


def tokens_of(prefix: int) -> Callable[[Tensor], Tensor]:
    """Maps as tokens, row by row, with others in front that are large."""

    def turn(y: Tensor) -> Tensor:
        mine = y.flatten(2).mT
        return torch.cat([torch.full_like(mine[:, :prefix], 9.0), mine], dim=1)

    return turn


def test_grad_cam_under_a_pooled_linear_head_adds_up_to_the_logit() -> None:
    places = torch.rand(3, 5, 4, 4)
    head = nn.Linear(5, 3)
    with torch.no_grad():
        head.weight.abs_()  # so that nothing is cut off at 0
    model = AtTap(lambda _: places, lambda y: head(y.mean((2, 3))))
    found = attribute(model, images(3, 4), TARGETS)
    logits = model.above(places).gather(1, TARGETS[:, None])[:, 0] - head.bias[TARGETS]
    torch.testing.assert_close(found.sum((1, 2)), logits.detach())


def test_grad_cam_may_be_zero_because_everything_speaks_against_the_class() -> None:
    places = torch.rand(3, 5, 4, 4)
    weight = torch.rand(5, 3)
    model = AtTap(lambda x: places[: len(x)], lambda y: -(y.mean((2, 3)) @ weight))
    assert (attribute(model, images(3, 4), TARGETS) == 0).all()


@pytest.mark.parametrize("arch", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_leaves_nothing_behind_and_does_not_depend_on_the_batch(arch: str, method: str) -> None:
    model, x = truncated(arch), images()
    before = copy.deepcopy(model.state_dict())
    drawn = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    found = attribute(at_tap(model), x, TARGETS, method, batch_size=2, **QUICK)
    assert found.shape == (3, SIZE, SIZE)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
    assert not found.requires_grad
    assert (found.min() < 0) == METHODS[method].signed
    again = attribute(at_tap(model), x, TARGETS, method, batch_size=7, **QUICK)
    torch.testing.assert_close(found, again, rtol=1e-4, atol=1e-6)
    assert torch.equal(torch.random.get_rng_state(), drawn[0])
    assert (np.random.get_state()[1] == drawn[1]).all()
    assert not x.requires_grad
    assert hooks(model) == 0
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_raises_is_left_without_hooks(method: str) -> None:
    model, x = truncated(), images()

    class Breaks(nn.Module):
        calls = 0

        def forward(self, y: Tensor) -> Tensor:
            Breaks.calls += 1
            if Breaks.calls > 1:  # not at the first look, which counts the classes
                raise RuntimeError("broken")
            return y

    head = nn.Sequential(Breaks(), model.head)
    state = np.random.get_state()[1].copy()
    with pytest.raises(RuntimeError, match="broken"):
        attribute(AtTap(model.trunk, head), x, TARGETS, method, **QUICK)
    assert hooks(model) + hooks(head) == 0
    assert not x.requires_grad
    assert torch.is_grad_enabled()
    assert (np.random.get_state()[1] == state).all()


def hooks(module: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(each, kind)) for each in module.modules() for kind in kinds)


def test_random_baselines_come_from_the_seed() -> None:
    model, x = at_tap(truncated()), images()
    draws = [attribute(model, x, TARGETS, "gradient-shap", references=images(5), samples=3, seed=s) for s in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_gradient_shap_is_captums_in_passes_of_a_batch(batch_size: int) -> None:
    whole, x, others = at_tap(truncated()), images(2), images(5)
    sizes: list[int] = []

    def model(y: Tensor) -> Tensor:
        sizes.append(len(y))
        return whole(y)

    settings: dict[str, Any] = {"references": others, "samples": 7, "seed": 3, "batch_size": batch_size}
    found = attribute(model, x, TARGETS[:2], "gradient-shap", **settings)
    assert max(sizes) <= batch_size
    state = np.random.get_state()
    for i in range(2):
        np.random.seed(np.random.SeedSequence([3, i]).generate_state(1)[0])
        expected = GradientShap(whole).attribute(x[i : i + 1], others, 7, 0.0, TARGETS[i : i + 1])
        torch.testing.assert_close(found[i], expected[0].sum(0).detach(), rtol=1e-4, atol=1e-5)
    np.random.set_state(state)


@pytest.mark.parametrize("method", METHODS)
def test_inference_mode_changes_nothing(method: str) -> None:
    model = at_tap(truncated())
    found = attribute(model, images(), TARGETS, method, baseline=images() / 2, references=images(4), **QUICK)
    with torch.inference_mode():
        given = {"baseline": images() / 2, "references": images(4)}
        again = attribute(model, images(), TARGETS.clone(), method, **given, **QUICK)
        assert torch.is_inference_mode_enabled()
        against = AtTap(model.below, lambda y: -model.above(y.abs()))
        grad_cam(against, images(), TARGETS.clone(), rectified=False)
    torch.testing.assert_close(found, again)
    assert not again.is_inference()


def at(name: str, layout: str) -> Callable[[Tensor], Tensor]:
    return Tap(name=name, index=0, depth=1.0, layout=Layout(layout)).maps


def bad_requests() -> dict[str, tuple[Callable[[], Any], str]]:
    model, x = at_tap(truncated()), images()
    dead = AtTap(model.below, lambda y: model.above(y * 0))
    vit = at_tap(truncated("test_vit", head="cls+linear"))
    vector = AtTap(lambda y: y.mean((2, 3)), nn.Linear(3, 3), at("pooled", "nd"), "pooled")
    point = AtTap(lambda y: y.mean((2, 3), keepdim=True), lambda y: y[..., 0, 0], name="layer4")
    odd = AtTap(lambda y: y.flatten(2).mT[:, :6], lambda y: y.mean(1), at("blocks.1", "ntd"), "blocks.1")
    return {
        "method": (
            lambda: attribute(model, x, TARGETS, "grad-cam"),
            "unknown method 'grad-cam'; did you mean 'gradcam'",
        ),
        "plain": (lambda: attribute(model.below, x, TARGETS), "give the network as AtTap"),
        "target": (lambda: attribute(model, x, TARGETS + 1), "target 3 is none of the 3 classes, 0 to 2"),
        "count": (lambda: attribute(model, x, TARGETS[:2]), "3 images and 2 targets"),
        "none": (lambda: attribute(model, x[:0], TARGETS[:0]), "at least 1 image"),
        "patch": (lambda: attribute(model, x, TARGETS, "occlusion", patch=33), "patch of 33 pixels is larger"),
        "vector": (lambda: attribute(vector, x, TARGETS), "no maps at 'pooled', for one vector per image"),
        "point": (lambda: attribute(point, x, TARGETS), "'layer4' is a single position"),
        "tokens": (lambda: attribute(odd, x, TARGETS), "no maps at 'blocks.1', for 6 tokens are no square"),
        "class token": (lambda: attribute(vit, x, TARGETS), "reads the class token alone"),
        "baseline": (lambda: make_baseline(x, "grey", (0.5,) * 3, (0.5,) * 3), "unknown baseline 'grey'"),
        "infinite": (lambda: attribute(lambda y: model(y) * float("inf"), x, TARGETS, "saliency"), "not finite"),
    } | {
        f"dead, {method}": (
            lambda method=method: attribute(dead, x, TARGETS, method, **QUICK),
            "the same everywhere in all 3 images: the logit does not depend",
        )
        for method in METHODS
    }


@pytest.mark.parametrize("case", bad_requests())
def test_what_cannot_be_attributed_is_told(case: str) -> None:
    work, message = bad_requests()[case]
    with pytest.raises(ProbeError, match=message) as caught:
        work()
    assert "\n" not in str(caught.value)


def test_baselines_are_what_they_are_called() -> None:
    mean, std = (0.2, 0.4, 0.6), (0.5, 0.2, 0.1)
    x = images(2)
    assert (make_baseline(x, "mean", mean, std) == 0).all()
    for kind, value in (("black", 0.0), ("white", 1.0)):
        made = make_baseline(x, kind, mean, std)
        raw = made * torch.tensor(std).reshape(-1, 1, 1) + torch.tensor(mean).reshape(-1, 1, 1)
        torch.testing.assert_close(raw, torch.full_like(x, value))
    blurred = make_baseline(x, "blur", mean, std)
    assert blurred.std() < 0.5 * x.std()
    torch.testing.assert_close(blurred.mean(), x.mean(), atol=0.02, rtol=0)


# checks


def test_the_completeness_gap_falls_with_the_steps_and_is_what_is_missing() -> None:
    x, base = images(3, 6), torch.zeros(3, 3, 6, 6)
    weight = Linear().weight.detach()

    def model(y: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", y, weight).tanh()

    found = []
    for steps in (2, 6, 60):
        maps = attribute(model, x, TARGETS, "integrated-gradients", steps=steps)
        found.append(completeness_gap(model, x, TARGETS, maps, base))
    assert found[0].max() > found[1].max() > found[2].max()
    assert found[2].max() < 1e-3
    logits = model(x).gather(1, TARGETS[:, None])[:, 0]
    double = completeness_gap(model, x, TARGETS, 2 * logits[:, None, None] / 36 * torch.ones(3, 6, 6), base)
    np.testing.assert_allclose(double, 1, rtol=1e-5)
    assert np.isnan(completeness_gap(model, base, TARGETS, maps, base)).all()


def test_curves_replace_the_highest_pixels_first() -> None:
    """A model that counts bright pixels: the curve of the true order, of the reverse and of chance are known."""
    x = torch.zeros(2, 1, 4, 4)
    x[:, :, :2] = 1.0

    def share(y: Tensor) -> Tensor:
        part = y.mean((1, 2, 3))
        return torch.stack([part, 1 - part], 1)

    targets = torch.zeros(2, dtype=torch.long)
    good = x[:, 0]
    deletion = perturbation_curves(share, x, targets, good, torch.zeros_like(x), "deletion", steps=4)
    np.testing.assert_allclose(deletion, np.tile([0.5, 0.25, 0, 0, 0], (2, 1)))
    insertion = perturbation_curves(share, x, targets, good, torch.zeros_like(x), "insertion", steps=4, batch_size=1)
    np.testing.assert_allclose(insertion, np.tile([0, 0.25, 0.5, 0.5, 0.5], (2, 1)))
    np.testing.assert_allclose(area(deletion), (0.5 / 2 + 0.25) / 4)
    wrong = perturbation_curves(share, x, targets, -good, torch.zeros_like(x), "deletion", steps=4)
    np.testing.assert_allclose(wrong, np.tile([0.5, 0.5, 0.5, 0.25, 0], (2, 1)))
    chance = [
        area(perturbation_curves(share, x, targets, good * 0, torch.zeros_like(x), "deletion", steps=16, seed=seed))
        for seed in range(40)
    ]
    assert np.mean(chance) == pytest.approx(0.25, abs=0.02)
    with pytest.raises(ValueError, match="must be one of deletion"):
        perturbation_curves(share, x, targets, good, x, "removal")


def test_agreement_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 5, 4))
    b = np.maximum(a + rng.normal(size=a.shape), 0)  # with ties
    expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(agreement(a, b), expected)
    np.testing.assert_allclose(agreement(a, np.exp(a)), 1)
    np.testing.assert_allclose(agreement(a, -a), -1)
    assert np.isnan(agreement(a, np.ones_like(a))).all()


def test_weights_are_drawn_anew_from_the_head_down() -> None:
    model = truncated(tap=2)
    before = copy.deepcopy(model.weights())
    fresh = probe.backbone("test_resnet", "scratch", image_size=SIZE, seed=1).cut(2).weights()
    changed: list[set[str]] = []
    for part, drawn in cascade(model):
        now = drawn.weights()
        changed.append({name for name in now if not torch.equal(now[name], before[name])})
        if part == "head":
            assert changed[-1] == {"head.linear.weight", "head.linear.bias"}
    assert all(a < b for a, b in itertools.pairwise(changed))
    assert part == model.trunk.taps[0]
    assert all(torch.equal(now[f"trunk.{name}"], tensor) for name, tensor in fresh.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.weights().items())


@pytest.mark.parametrize("method", ["gradcam", "integrated-gradients", "saliency"])
def test_maps_change_with_the_weights_and_an_edge_detector_does_not(method: str) -> None:
    model, x = truncated(tap=2), nn.functional.avg_pool2d(images(12, 5 * SIZE), 5) * 5
    targets = torch.arange(12) % 3
    maps = attribute(at_tap(model), x, targets, method, **QUICK).numpy()
    drawn = [raw_maps(at_tap(each), x, targets, method, seed=0, **QUICK).numpy() for _, each in cascade(model)]
    assert np.isfinite(agreement(maps, drawn[-1])).sum() > 3  # Grad-CAM may be 0 everywhere
    assert abs(np.nanmean(agreement(maps, drawn[-1]))) < 0.5
    edges = np.abs(np.gradient(x.mean(1).numpy(), axis=2))
    np.testing.assert_allclose(agreement(edges, edges), 1)


# masks


def test_pointing_energy_and_area_by_hand() -> None:
    maps = np.array([[[0.0, 3.0], [1.0, -5.0]], [[2.0, 2.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    masks = np.array([[[0, 1], [0, 1]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], bool)
    np.testing.assert_allclose(pointing_game(maps, masks), [1, 0.5, np.nan])
    np.testing.assert_allclose(energy_in_mask(maps, masks), [0.75, 0.5, np.nan])
    np.testing.assert_allclose(area_share(masks), [0.5, 0.25, np.nan])
    even, none = np.ones_like(maps), np.minimum(maps, 0) - [[[0, 1], [0, 0]]]
    assert np.isnan(energy_in_mask(even, masks)).all()
    assert np.isnan(energy_in_mask(none, masks)).all()
    rng = np.random.default_rng(0)
    noise, half = rng.uniform(size=(2000, 4, 4)), np.zeros((2000, 4, 4), bool)
    half[:, :1] = True
    assert pointing_game(noise, half).mean() == pytest.approx(0.25, abs=0.03)
    assert energy_in_mask(noise, half).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(energy_in_mask(noise * 7, half), energy_in_mask(noise, half))


def test_means_have_intervals_by_group_class_and_difference() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.6, 0.1, 40), rng.normal(0.5, 0.1, 40)
    a[3] = np.nan
    rows = long_rows({"energy_in_mask": a, "other": a}, arm="one", tap="t")
    rows += long_rows({"energy_in_mask": b}, arm="two", tap="t") + long_rows(
        {"r": a[:5]}, arm="one", tap="t", randomised="head"
    )
    table = with_differences(pd.DataFrame(rows))
    kinds = ["x", "y"] * 20
    found = summary(table, kinds, None, 2000).set_index(["arm", "randomised", "metric", "class"])
    whole = found.loc["one", "", "energy_in_mask", "micro"]
    assert whole["value"] == pytest.approx(np.nanmean(a))
    assert whole["images"] == 39
    width = 2 * 1.96 * np.nanstd(a) / np.sqrt(39)
    assert whole["ci_high"] - whole["ci_low"] == pytest.approx(width, rel=0.1)
    assert found.loc["one", "", "energy_in_mask", "y"]["value"] == pytest.approx(np.nanmean(a[1::2]))
    apart = found.loc["one minus two", "", "energy_in_mask", "micro"]
    assert apart["value"] == pytest.approx(np.nanmean(a - b))
    assert ("one minus two", "", "other", "micro") not in found.index
    assert found.loc["one", "head", "r", "micro"]["images"] == 4
    alike = pd.DataFrame(long_rows({"m": np.repeat(rng.normal(size=8), 5)}, arm="one", tap="t"))
    widths = [
        (each["ci_high"] - each["ci_low"])[0]
        for each in (summary(alike, kinds, groups, 2000) for groups in (None, np.repeat(list("abcdefgh"), 5)))
    ]
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(5), rel=0.15)
    alone = summary(pd.DataFrame(long_rows({"m": a[:1]}, arm="one", tap="t")), ["x"], None, 100)
    assert (alone["value"].item(), alone["images"].item()) == (a[0], 1)
    assert np.isnan(alone["ci_low"].item())
    one_group = summary(table, kinds, np.array(["a"] * 40), 100)
    assert one_group["ci_low"].isna().all()
