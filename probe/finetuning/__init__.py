"""Fine-tuning: strategies as data, and the one loop that trains them."""

from probe.finetuning.runs import Finetuned, finetune, request_of
from probe.finetuning.strategies import STRATEGIES, State, Strategy

__all__ = ["STRATEGIES", "Finetuned", "State", "Strategy", "finetune", "request_of"]
