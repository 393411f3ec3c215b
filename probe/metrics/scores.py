"""Every metric of one set of predictions, for many weightings of its rows at once.

A bootstrap draw is a weighting: how often each row was drawn. The plain score is the one with
every weight 1, so a score and its interval come from the same code.
"""

from collections.abc import Collection

import numpy as np

from probe.base.errors import ProbeError
from probe.base.lookup import unknown
from probe.base.shapes import Answers, Counts, Labels, Probabilities, RowWeights
from probe.metrics.calibration import label_probability_scores, probability_scores
from probe.metrics.decisions import decision_scores, quadratic_kappa
from probe.metrics.names import Scores, by_class
from probe.metrics.ranking import RANKING, Question, trace_curves
from probe.records.metric_table import MACRO, METRICS, MICRO

DECISIONS = {name for name, metric in METRICS.items() if metric.judges == "decisions" and not metric.ordered}
CALIBRATION = {name for name, metric in METRICS.items() if metric.judges == "probabilities"}
KAPPA = "quadratic_kappa"
BLOCK = 2**22  # numbers held at once per array of the curves, about 30 MB


def score(
    task: str,
    labels: Labels,
    probabilities: Probabilities,
    weights: RowWeights,
    classes: tuple[str, ...],
    *,
    metrics: Collection[str] | None = None,
    ordinal: bool = False,
) -> Scores:
    """The metrics, macro, micro and per class, for each of the b weightings; shape (b,) each.

    `task` is binary, multiclass or multilabel. `metrics` names those wanted; by default all of
    `METRICS`, quadratic kappa only when the classes are `ordinal`. Ranking metrics are one class
    against the rest, of two classes the second; unknown labels (-1) of multi-label data are left
    out label by label. Macro is the plain mean over the classes that have both positive and
    negative rows in the weighting, NaN if none has; `unscored` names those that never have.
    Raises ProbeError for an unknown metric, for labels that do not fit the probabilities, and for
    probabilities that are not finite.
    """
    _check(task, labels, probabilities, classes)
    wanted = _wanted(metrics, task, ordinal)
    step = max(64, BLOCK // labels.size)
    blocks = [
        _score_block(task, labels, probabilities, np.ascontiguousarray(weights[at : at + step].T), classes, wanted)
        for at in range(0, len(weights), step)
    ]
    return {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0] if key[0] in wanted}


def ones(rows: int) -> RowWeights:
    """The weighting of the plain score."""
    return np.ones((1, rows), np.float32)  # whole numbers, as of bootstrap draws: exact


def unscored(task: str, labels: Labels, classes: tuple[str, ...]) -> dict[str, str]:
    """The classes that the averages leave out, and what each lacks: `positive`, `negative` or `known` rows."""
    answers = one_against_rest(task, labels, classes)
    lacking = {}
    for name, column in zip(classes, answers.T, strict=True):
        missing = [kind for kind, value in (("positive", 1), ("negative", 0)) if value not in column]
        if missing:
            lacking[name] = missing[0] if len(missing) == 1 else "known"
    return lacking


def one_against_rest(task: str, labels: Labels, classes: tuple[str, ...]) -> Answers:
    """Per row and class 1, 0 or, unknown, -1."""
    if task == "multilabel":
        return labels
    answers: Answers = (labels[:, None] == np.arange(len(classes))).astype(np.int64)
    return answers


def _score_block(
    task: str,
    labels: Labels,
    probabilities: Probabilities,
    counts: Counts,
    classes: tuple[str, ...],
    wanted: frozenset[str],
) -> Scores:
    answers, several = one_against_rest(task, labels, classes), task == "multilabel"
    scores: Scores = {}
    if wanted & set(RANKING):
        second = slice(1, None) if task == "binary" else slice(None)
        scores |= _ranking_scores(answers[:, second], probabilities[:, second], counts, classes[second], wanted)
    if wanted & DECISIONS:
        decided = probabilities > 0.5 if several else one_against_rest(task, probabilities.argmax(1), classes) == 1
        scores |= decision_scores(answers, decided, counts, classes, one_each=not several)
    if wanted & CALIBRATION and several:
        scores |= label_probability_scores(answers, probabilities, counts, classes)
    elif wanted & CALIBRATION:
        scores |= probability_scores(labels, probabilities, counts)
    if KAPPA in wanted:
        scores[KAPPA, MACRO] = quadratic_kappa(labels, probabilities.argmax(1), counts)
    return scores


def _ranking_scores(
    answers: Answers, scored: Probabilities, counts: Counts, classes: tuple[str, ...], wanted: frozenset[str]
) -> Scores:
    """Per class, macro and, of more than one class, micro; a class without both kinds of rows is NaN."""
    defined = np.flatnonzero((answers == 1).any(0) & (answers == 0).any(0))
    questions = [_question(answers[:, [k]], scored[:, [k]]) for k in defined]
    if len(classes) > 1 and len(defined):
        questions.append(_question(answers, scored))
    curves = trace_curves(questions, counts) if questions else []
    scores: Scores = {}
    for metric in (name for name in RANKING if name in wanted):
        found = [RANKING[metric](curve) for curve in curves]
        values = np.full((len(classes), counts.shape[1]), np.nan)
        for k, value in zip(defined, found, strict=False):  # the last may be the pooled one
            values[k] = value
        scores |= by_class(metric, values, classes)
        if len(found) > len(defined):
            scores[metric, MICRO] = found[-1]
    return scores


def _question(answers: Answers, scored: Probabilities) -> Question:
    rows, columns = np.nonzero(answers >= 0)
    return Question(answers[rows, columns] == 1, scored[rows, columns], rows)


def _wanted(metrics: Collection[str] | None, task: str, ordinal: bool) -> frozenset[str]:
    if metrics is None:
        return frozenset(name for name, metric in METRICS.items() if ordinal or not metric.ordered)
    for name in metrics:
        if name not in METRICS:
            raise unknown("metric", name, list(METRICS))
    if KAPPA in metrics and task == "multilabel":
        raise ProbeError(f"{KAPPA} takes one class per image, in order; these data are multi-label")
    return frozenset(metrics)


def _check(task: str, labels: Labels, probabilities: Probabilities, classes: tuple[str, ...]) -> None:
    if probabilities.shape != (len(labels), len(classes)):
        raise ProbeError(f"probabilities are {probabilities.shape}, not {len(labels)} rows by {len(classes)} classes")
    if not np.isfinite(probabilities).all():
        raise ProbeError("a probe gave probabilities that are not finite")
    low, high = (-1, 1) if task == "multilabel" else (0, len(classes) - 1)
    if labels.size and not low <= labels.min() <= labels.max() <= high:
        raise ProbeError(f"labels of {task} data lie between {low} and {high}, not {labels.min()} and {labels.max()}")
