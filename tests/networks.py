"""Networks whose contract is tested: by being in this list, an architecture is tested."""

from dataclasses import replace
from functools import cache

import timm
import torch
import torchvision
from torch import nn

from probe.backbones import Backbone, Origin, Preprocessing, from_module
from probe.backbones.catalog import find_source

ARCHS: dict[str, int] = {  # image size in pixels: as small as the network takes
    "resnet18": 64, "resnet50": 64, "resnext50_32x4d": 64, "res2net50_14w_8s": 64, "resnetv2_50": 64, "resnest14d": 64,
    "regnety_002": 64, "densenet121": 64, "dpn68": 64, "inception_v3": 128,
    "legacy_xception": 96,
    "mobilenetv2_100": 64, "mobilenetv3_small_100": 64, "ghostnet_100": 64, "efficientnet_b0": 64,
    "repvgg_a0": 64, "convnext_atto": 64, "poolformer_s12": 64, "hrnet_w18_small": 64, "edgenext_xx_small": 64,
    "mobilevit_xxs": 64, "fastvit_t8": 64, "mambaout_femto": 64, "convmixer_768_32": 28,
    "vit_tiny_patch16_224": 64, "deit3_small_patch16_224": 64, "deit_tiny_distilled_patch16_224": 64,
    "vit_small_patch14_reg4_dinov2": 56, "vit_small_patch16_dinov3": 64, "eva02_tiny_patch14_224": 56,
    "beit_base_patch16_224": 64, "cait_xxs24_224": 64, "xcit_nano_12_p16_224": 64, "mixer_s32_224": 224,
    "swin_tiny_patch4_window7_224": 64, "swinv2_tiny_window8_256": 64, "twins_svt_small": 64, "pvt_v2_b0": 64,
    "levit_128s": 64, "tiny_vit_5m_224": 224, "efficientformer_l1": 224,
    "torchvision:resnet18": 64, "torchvision:alexnet": 64, "torchvision:vgg11": 64, "torchvision:densenet121": 64,
    "torchvision:googlenet": 64, "torchvision:inception_v3": 128, "torchvision:shufflenet_v2_x0_5": 64,
    "torchvision:mobilenet_v2": 64, "torchvision:mobilenet_v3_small": 64, "torchvision:mnasnet0_5": 64,
    "torchvision:regnet_y_400mf": 64, "torchvision:efficientnet_b0": 64, "torchvision:squeezenet1_0": 64,
    "torchvision:convnext_tiny": 64, "torchvision:vit_b_32": 64, "torchvision:swin_t": 64, "torchvision:swin_v2_t": 64,
    "cbr:tiny": 64, "cbr:small": 64, "cbr:largew": 64, "cbr:larget": 64,
}  # fmt: skip

SLOW = {  # relatives of others in the list, or large: in the gate only, so that about one of a family is left
    "resnext50_32x4d", "res2net50_14w_8s", "resnetv2_50", "dpn68", "legacy_xception", "convmixer_768_32",
    "efficientformer_l1", "tiny_vit_5m_224", "twins_svt_small", "swinv2_tiny_window8_256", "cait_xxs24_224",
    "mixer_s32_224", "hrnet_w18_small", "inception_v3", "vit_small_patch16_dinov3", "torchvision:resnet18",
    "torchvision:densenet121", "torchvision:swin_v2_t", "torchvision:vit_b_32", "torchvision:convnext_tiny",
    "torchvision:mnasnet0_5", "torchvision:mobilenet_v3_small", "torchvision:regnet_y_400mf", "torchvision:googlenet",
    "torchvision:efficientnet_b0", "torchvision:vgg11", "cbr:largew", "cbr:larget", "densenet121", "ghostnet_100",
    "swin_tiny_patch4_window7_224", "xcit_nano_12_p16_224", "edgenext_xx_small", "fastvit_t8", "resnet50", "resnest14d",
    "mobilenetv2_100", "mobilenetv3_small_100", "poolformer_s12", "mambaout_femto", "deit3_small_patch16_224",
    "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224", "beit_base_patch16_224", "cbr:small",
    "torchvision:inception_v3", "torchvision:mobilenet_v2", "torchvision:squeezenet1_0",
}  # fmt: skip
SMALLER = {"beit_base_patch16_224": {"depth": 4, "embed_dim": 192, "num_heads": 3}}  # there is no small one by name
PREPROCESSING = Preprocessing(image_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")


def make_network(arch: str, drop: float = 0.2) -> nn.Module:
    """A network with its drop rates on, so that train mode differs from eval mode."""
    torch.manual_seed(0)
    size = ARCHS[arch]
    if arch.startswith("cbr:"):
        return find_source(arch).create(None, size)
    if arch.startswith("torchvision:"):
        name = arch.partition(":")[2]
        extra: dict[str, object] = {"image_size": size} if name.startswith("vit") else {}
        if name in ("googlenet", "inception_v3"):
            extra |= {"aux_logits": False, "init_weights": False}
        return torchvision.models.get_model(name, weights=None, **extra)
    smaller = SMALLER.get(arch, {})
    for options in ({"img_size": size, "drop_path_rate": drop}, {"img_size": size}, {"drop_path_rate": drop}, {}):
        try:
            return timm.create_model(arch, drop_rate=drop, **options, **smaller)
        except TypeError:
            continue
    raise AssertionError(arch)


def make_backbone(network: nn.Module, arch: str, level: str = "block") -> Backbone:
    """The network as stages, at its size in the list."""
    origin = Origin(
        arch=arch, weights="scratch", seed=0, level=level, preprocessing=replace(PREPROCESSING, image_size=ARCHS[arch])
    )
    return from_module(network, origin)


@cache
def listed_backbone(arch: str, level: str = "block") -> Backbone:
    """A network of the list as stages, traced once for all that only look at it."""
    return make_backbone(make_network(arch), arch, level)
