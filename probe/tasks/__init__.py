"""Tasks: what the labels of a data set are, and how a prediction of them is made and judged."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.base.errors import ProbeError
from probe.tasks.multi_label import Labels
from probe.tasks.single_label import Classes
from probe.tasks.task import Task

__all__ = ["Classes", "Labels", "Task", "as_task", "kind_of", "read_task"]

WORDS: dict[str, type[Task]] = {"binary": Classes, "multiclass": Classes, "multilabel": Labels}


def read_task(word: str, names: Sequence[str]) -> Task:
    """The task that rows and files call `word`. Raises ProbeError for no such word, or one that does not fit."""
    task = WORDS[word](tuple(names)) if word in WORDS else None
    if task is None or task.name != word:
        raise ProbeError(f"there is no task '{word}' of {len(names)} classes; the tasks are {', '.join(WORDS)}")
    return task


def as_task(task: Task | Sequence[str] | int) -> Task:
    """The task itself; names of classes, or how many there are, stand for `Classes`."""
    return task if isinstance(task, Task) else Classes(task)


def kind_of(labels: NDArray[np.generic]) -> type[Task]:
    """The kind of task whose labels have the form of an array: (n,) or (n, k). Raises ProbeError for another form."""
    kinds: dict[int, type[Task]] = {1: Classes, 2: Labels}
    if labels.ndim not in kinds:
        raise ProbeError(f"labels of shape {labels.shape} are neither (n,) classes nor (n, labels) of 1, 0 and -1")
    return kinds[labels.ndim]
