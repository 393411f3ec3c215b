"""Fine-tuning: strategies as data, and the one loop that trains them."""

from probe.finetuning.finetuned import Finetuned, finetune
from probe.finetuning.pretraining import Pretrained, pretrain, read_pretraining
from probe.finetuning.strategies import STRATEGIES, State, Strategy

__all__ = [
    "STRATEGIES",
    "Finetuned",
    "Pretrained",
    "State",
    "Strategy",
    "finetune",
    "pretrain",
    "read_pretraining",
]
