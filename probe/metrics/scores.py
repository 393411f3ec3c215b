"""Every metric of one set of predictions, for many weightings of its rows at once.

A bootstrap draw is a weighting: how often each row was drawn. The plain score is the one with
every weight 1, so a score and its interval come from the same code.
"""

from collections.abc import Callable, Collection

import numpy as np

from probe.base.array_types import Answers, Counts, Labels, Probabilities, RowWeights
from probe.base.errors import ProbeError
from probe.metrics.calibration import label_probability_scores, probability_scores
from probe.metrics.decisions import decision_scores, quadratic_kappa
from probe.metrics.ranking import RANKING, Question, trace_curves
from probe.metrics.score_names import Scores, by_class
from probe.records.metric_facts import MACRO, METRICS, MICRO

DECISIONS = {name for name, metric in METRICS.items() if metric.judges == "decisions" and not metric.ordered}
CALIBRATION = {name for name, metric in METRICS.items() if metric.judges == "probabilities"}
KAPPA = "quadratic_kappa"
BLOCK = 2**22  # numbers held at once per array of the curves, about 30 MB


def class_scores(
    labels: Labels, probabilities: Probabilities, weights: RowWeights, classes: tuple[str, ...], wanted: Collection[str]
) -> Scores:
    """The `wanted` metrics of rows with one class each: macro, micro and per class, (b,) for b weightings (b, n).

    Ranking metrics are one class against the rest, of two classes the second. Macro is the plain mean over the classes
    that have both positive and negative rows in the weighting, NaN if none has; `unscored` names those that never
    have. Raises ProbeError for probabilities (n, k) of another shape, or that are not finite.
    """
    check_probabilities(labels, probabilities, classes)
    answers = one_against_rest(labels, len(classes))
    decided = probabilities.argmax(1)
    judged = slice(1, None) if len(classes) == 2 else slice(None)

    def block(counts: Counts) -> Scores:
        scores = _ranking_scores(answers[:, judged], probabilities[:, judged], counts, classes[judged], wanted)
        if DECISIONS & set(wanted):
            chosen = one_against_rest(decided, len(classes)) == 1
            scores |= decision_scores(answers, chosen, counts, classes, one_each=True)
        if CALIBRATION & set(wanted):
            scores |= probability_scores(labels, probabilities, counts)
        if KAPPA in wanted:
            scores[KAPPA, MACRO] = quadratic_kappa(labels, decided, counts)
        return scores

    return _in_blocks(block, weights, labels.size, wanted)


def label_scores(
    answers: Answers,
    probabilities: Probabilities,
    weights: RowWeights,
    classes: tuple[str, ...],
    wanted: Collection[str],
) -> Scores:
    """The `wanted` metrics of rows with several labels each; see `class_scores`.

    Every label is a question of its own. Unknown answers (-1) are left out label by label.
    """
    check_probabilities(answers, probabilities, classes)

    def block(counts: Counts) -> Scores:
        scores = _ranking_scores(answers, probabilities, counts, classes, wanted)
        if DECISIONS & set(wanted):
            scores |= decision_scores(answers, probabilities > 0.5, counts, classes, one_each=False)
        if CALIBRATION & set(wanted):
            scores |= label_probability_scores(answers, probabilities, counts, classes)
        return scores

    return _in_blocks(block, weights, answers.size, wanted)


def ones(rows: int) -> RowWeights:
    """The weighting of the plain score."""
    return np.ones((1, rows), np.float32)  # whole numbers, as of bootstrap draws: exact


def one_against_rest(labels: Labels, classes: int) -> Answers:
    """Per row and class 1 or 0, from the class of each row (n,)."""
    answers: Answers = (labels[:, None] == np.arange(classes)).astype(np.int64)
    return answers


def unscored(answers: Answers, classes: tuple[str, ...]) -> dict[str, str]:
    """The classes that the averages leave out, and what each lacks: `positive`, `negative` or `known` rows."""
    lacking = {}
    for name, column in zip(classes, answers.T, strict=True):
        missing = [kind for kind, value in (("positive", 1), ("negative", 0)) if value not in column]
        if missing:
            lacking[name] = missing[0] if len(missing) == 1 else "known"
    return lacking


def check_probabilities(labels: Labels, probabilities: Probabilities, classes: tuple[str, ...]) -> None:
    """Raise ProbeError for probabilities that are not one per row and class, or not finite."""
    if probabilities.shape != (len(labels), len(classes)):
        raise ProbeError(f"probabilities are {probabilities.shape}, not {len(labels)} rows by {len(classes)} classes")
    if not np.isfinite(probabilities).all():
        raise ProbeError("a probe gave probabilities that are not finite")


def _in_blocks(block: Callable[[Counts], Scores], weights: RowWeights, size: int, wanted: Collection[str]) -> Scores:
    """The scores of all weightings, computed for a few of them at a time."""
    step = max(64, BLOCK // size)
    blocks = [block(np.ascontiguousarray(weights[at : at + step].T)) for at in range(0, len(weights), step)]
    return {key: np.concatenate([each[key] for each in blocks]) for key in blocks[0] if key[0] in wanted}


def _ranking_scores(
    answers: Answers, scored: Probabilities, counts: Counts, classes: tuple[str, ...], wanted: Collection[str]
) -> Scores:
    """Per class, macro and, of more than one class, micro; a class without both kinds of rows is NaN."""
    if not set(RANKING) & set(wanted):
        return {}
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
