"""The small networks of Raghu et al. 2019 (arXiv:1902.07208), appendix: convolution, BatchNorm, ReLU, max pooling.

Convolutions have stride 1, poolings a window of 3 x 3 and stride 2. The appendix states no padding; here a map keeps
its size, so that images of any size can be read. Weights are drawn as PyTorch draws them. With the widths of the
appendix `tiny` has twice the parameters of `small`.
"""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Variant:
    """Size of the kernels, channels of each layer, and whether the last one is followed by a max pooling too."""

    kernel: int
    widths: tuple[int, ...]
    last_pooled: bool = True


VARIANTS = {
    "larget": Variant(7, (32, 64, 128, 256, 512), last_pooled=False),
    "largew": Variant(7, (64, 128, 256, 512)),
    "small": Variant(7, (32, 64, 128, 256)),
    "tiny": Variant(5, (64, 128, 256, 512)),
}
IMAGE_SIZE = 224  # pixels; that of the paper's chest X-rays
CLASSES = 1000  # of the classifier, which no tap reads


class CBR(nn.Module):
    """One of the `VARIANTS`, with a mean over the positions and a linear layer for 1,000 classes at the end."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        widths, kernel = variant.widths, variant.kernel
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, width, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for before, width in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.poolings = len(widths) if variant.last_pooled else len(widths) - 1
        self.fc = nn.Linear(widths[-1], CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for index, layer in enumerate(self.layers):
            x = layer(x)
            x = self.pool(x) if index < self.poolings else x
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits
