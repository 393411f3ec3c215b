"""The contract of every task: words, answers, links, losses and scores, against libraries and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torch.nn import functional

import probe
from probe.base.errors import ProbeError
from probe.metrics import MACRO, MICRO, ones
from probe.tasks import Classes, Labels, Task, as_task, kind_of, read_task
from probe.tasks.multi_label import UNKNOWN

TASKS = [Classes(["benign", "malignant"]), Classes("abcd"), Labels(["mass"]), Labels(["edema", "mass", "nodule"])]
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.name} of {task.outputs}")


def drawn(task: Task, rows: int = 60, seed: int = 0) -> np.ndarray:
    """Labels of a task, all classes and, where there may be, unknown ones among them."""
    rng = np.random.default_rng(seed)
    if task.independent:
        return np.vstack(
            [rng.integers(UNKNOWN, 2, (rows - 2, task.outputs)), *np.eye(2, 1, dtype=int)[:, [0] * task.outputs]]
        )
    return np.concatenate([rng.integers(0, task.outputs, rows - task.outputs), np.arange(task.outputs)])


def probabilities(task: Task, rows: int = 60, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((rows, task.outputs)) if task.independent else rng.dirichlet(np.ones(task.outputs), rows)


# what a task is


@every_task
def test_a_word_and_the_names_give_the_task_back(task: Task) -> None:
    again = read_task(task.name, list(task.names))
    assert again == task
    assert hash(again) == hash(task)
    assert str(task) == task.name
    assert eval(repr(task), {"Classes": Classes, "Labels": Labels}) == task


def test_words_that_are_no_task_are_refused() -> None:
    for word, count in (("binary", 3), ("multiclass", 2), ("regression", 1)):
        with pytest.raises(ProbeError, match=f"there is no task '{word}' of {count} classes; the tasks are binary, "):
            read_task(word, [str(i) for i in range(count)])


def test_tasks_of_one_kind_and_the_same_names_are_equal() -> None:
    assert Classes(2) == Classes(["0", "1"]) == as_task(2) == as_task(["0", "1"])
    assert Classes(2) != Labels(2)
    assert Classes(2) != Classes(3)
    assert as_task(TASKS[2]) is TASKS[2]
    assert (probe.Task, probe.Classes, probe.Labels) == (Task, Classes, Labels)


def test_the_form_of_an_array_says_which_task() -> None:
    assert (kind_of(np.zeros(3)), kind_of(np.zeros((3, 2)))) == (Classes, Labels)
    with pytest.raises(ProbeError, match=r"labels of shape \(3, 2, 1\) are neither"):
        kind_of(np.zeros((3, 2, 1)))
    values, codes = Classes.coded(np.array(["b", "a", "b"]))
    assert (values.tolist(), codes.tolist()) == (["a", "b"], [1, 0, 1])


# labels


@every_task
def test_labels_in_words_give_the_labels_back(task: Task) -> None:
    labels = drawn(task)
    words = task.decode(labels)
    assert len(words) == 60
    np.testing.assert_array_equal(task.encode(words), labels)
    assert type(task).named_in(words) == type(task)(sorted(task.names))  # type: ignore[attr-defined]


def test_labels_in_words_are_joined_and_doubtful_ones_marked() -> None:
    task = Labels(["edema", "mass"])
    assert task.decode(np.array([[1, 1], [0, 0], [UNKNOWN, 1]])) == ["edema|mass", "", "?edema|mass"]
    assert task.encode([" mass | ", "?mass"]).tolist() == [[0, 1], [0, UNKNOWN]]
    with pytest.raises(ProbeError, match="unknown label '\\?mas'; did you mean 'mass'"):
        task.encode(["?mas"])
    with pytest.raises(ProbeError, match="unknown class 'bening'; did you mean 'benign'"):
        TASKS[0].encode(["bening"])


@every_task
def test_answers_questions_counts_and_members_say_the_same(task: Task) -> None:
    labels = drawn(task)
    answers, questions, (shown, known) = task.answers(labels), task.questions(labels), task.counts(labels)
    assert answers.shape == (60, task.outputs)
    assert (answers >= 0).all() != task.has_unknown
    assert shown.tolist() == (answers == 1).sum(0).tolist()
    assert known.tolist() == (answers >= 0).sum(0).tolist()
    members = dict(task.members(labels))
    for name, column in zip(task.names, answers.T, strict=True):
        np.testing.assert_array_equal(members[name], column == 1)
    assert np.stack(list(members.values())).any(0).all()  # every row is somewhere
    classes = task.row_classes(labels)
    assert (classes is None) == task.independent
    np.testing.assert_array_equal(questions, answers.T if classes is None else classes[None])


@every_task
def test_the_targets_of_a_probe_are_the_answers_to_its_vectors(task: Task) -> None:
    labels = drawn(task)
    shown, known = task.targets(labels)
    problems = shown.shape[0]
    assert shown.shape[0] * shown.shape[1] == task.vectors
    assert known.shape == (problems, 1, 60)
    answers = task.answers(labels)[:, -task.vectors :].T
    np.testing.assert_array_equal(shown.reshape(task.vectors, 60), answers == 1)
    np.testing.assert_array_equal(np.broadcast_to(known, shown.shape).reshape(answers.shape), answers >= 0)


def test_what_rows_cannot_teach_is_said() -> None:
    for task, labels in (
        (Classes(2), np.ones(3, int)),
        (Classes(3), np.ones(3, int)),
        (Labels(2), np.ones((3, 2), int)),
    ):
        shown, known = task.targets(labels)
        with pytest.raises(ProbeError, match="single class|both present and absent"):
            task.learnable((shown & known).any(2), (~shown & known).any(2))


def test_strata_are_classes_or_the_rarest_label() -> None:
    assert Classes(3).strata(np.array([2, 0, 1])).tolist() == [2, 0, 1]
    labels = np.array([[1, 1], [1, 0], [UNKNOWN, 0], [1, UNKNOWN]])
    assert Labels(["edema", "mass"]).strata(labels).tolist() == [0, 1, 2, 1]  # mass is rarer than edema


# predictions


@every_task
def test_the_link_gives_probabilities_and_a_decision_the_labels(task: Task) -> None:
    logits = torch.randn(5, 7, task.outputs, generator=torch.Generator().manual_seed(0)).double()
    found = task.prediction(logits)
    assert found.shape == logits.shape
    assert ((found > 0) & (found < 1)).all()
    assert torch.allclose(found.sum(-1), torch.ones(5, 7).double()) != task.independent
    labels = drawn(task)
    decided = task.decide(np.where(task.answers(labels) == 1, 0.9, 0.1))
    np.testing.assert_array_equal(decided, np.maximum(labels, 0))


def test_two_classes_have_one_vector_or_two_logits() -> None:
    logits = torch.linspace(-3, 3, 9).double()[:, None]
    one, two = (TASKS[0].prediction(each) for each in (logits, torch.cat([-logits, logits], 1) / 2))
    torch.testing.assert_close(one, two)
    assert (TASKS[0].vectors, TASKS[0].outputs, Labels(2).vectors) == (1, 2, 2)


# training


@every_task
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_pytorchs_mean_where_labels_are_known(task: Task, weighted: bool, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    labels, logits = torch.from_numpy(drawn(task)), torch.randn(60, task.outputs, generator=generator)
    weights = torch.rand(task.outputs, generator=generator) + 0.5 if weighted else None
    total, mass = task.loss(logits, labels, weights, smoothing)
    if task.independent:
        known = labels >= 0
        wanted = labels * (1 - smoothing) + smoothing / 2
        each = None if weights is None else weights.expand(60, -1)[known]
        expected = functional.binary_cross_entropy_with_logits(logits[known], wanted[known], pos_weight=each)
    else:
        expected = functional.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
    assert float(total) / mass == pytest.approx(float(expected), rel=1e-5)
    assert task.mass(labels, weights) == mass


def test_the_loss_by_hand() -> None:
    """-log of the probability of the right class, or of each right answer; unknown labels are nothing."""
    logits = torch.tensor([[0.0, np.log(3)], [0.0, 0.0]])
    total, mass = Classes(2).loss(logits, torch.tensor([1, 0]))
    assert (float(total), mass) == (pytest.approx(-np.log(0.75) - np.log(0.5)), 2)
    total, mass = Labels(2).loss(logits, torch.tensor([[UNKNOWN, 1], [0, UNKNOWN]]))
    assert (float(total), mass) == (pytest.approx(-np.log(0.75) - np.log(0.5)), 2)
    total, mass = Labels(2).loss(logits, torch.full((2, 2), UNKNOWN))
    assert (float(total), mass) == (0, 0)


@every_task
def test_the_parts_of_a_step_add_up_to_the_step(task: Task) -> None:
    labels, logits = torch.from_numpy(drawn(task)), torch.randn(60, task.outputs)
    weights = torch.from_numpy(task.balanced_weights(labels.numpy()))
    whole, parts = (
        task.loss(logits, labels, weights),
        [task.loss(logits[part], labels[part], weights) for part in torch.arange(60).split(17)],
    )
    assert float(sum(total for total, _ in parts)) == pytest.approx(float(whole[0]), rel=1e-5)
    assert sum(mass for _, mass in parts) == pytest.approx(whole[1])


# scores


@every_task
def test_every_metric_keeps_to_what_is_known_of_it(task: Task) -> None:
    """Range, the value of a perfect prediction, that of a constant one, and whether each class has a value."""
    labels, plain = drawn(task), ones(60)
    found = task.score(labels, probabilities(task), plain, ordinal=not task.independent)
    answers = task.answers(labels)
    perfect = task.score(labels, np.where(answers == 1, 1.0, 0.0), plain, ordinal=not task.independent)
    constant = task.score(
        labels, np.full((60, task.outputs), 1 / (task.outputs + 1)), plain, ordinal=not task.independent
    )
    assert {metric for metric, _ in found} == set(task.metrics)
    for name, metric in task.metrics.items():
        assert metric.low <= found[name, MACRO][0] <= metric.high, name
        assert perfect[name, MACRO][0] == pytest.approx(metric.best, abs=1e-9), name
        assert metric.sign * perfect[name, MACRO][0] > metric.sign * found[name, MACRO][0], name
        if metric.chance is not None:
            assert constant[name, MACRO][0] == pytest.approx(metric.chance, abs=1e-9), name
        classes = [each for of, each in found if of == name and each not in (MACRO, MICRO)]
        assert bool(classes) == metric.per_class, name
        if metric.per_class:
            assert found[name, MACRO][0] == pytest.approx(np.nanmean([found[name, each][0] for each in classes])), name


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), at=st.integers(0, len(TASKS) - 1))
def test_scores_equal_scikit_learn(seed: int, at: int) -> None:
    task = TASKS[at]
    labels, p = drawn(task, seed=seed), probabilities(task, seed=seed + 1)
    found = task.score(labels, p, ones(60), metrics=["auroc", "auprc", "log_loss", "balanced_accuracy"])
    columns = range(1, 2) if task.vectors == 1 and not task.independent else range(task.outputs)
    answers = task.answers(labels)
    known = [answers[:, k] >= 0 for k in columns]
    for name, of in (("auroc", sk.roc_auc_score), ("auprc", sk.average_precision_score)):
        each = [of(answers[on, k], p[on, k]) for k, on in zip(columns, known, strict=True)]
        assert found[name, MACRO][0] == pytest.approx(np.mean(each)), name
    if not task.independent:
        assert found["log_loss", MACRO][0] == pytest.approx(sk.log_loss(labels, p, labels=range(task.outputs)))
        expected = sk.balanced_accuracy_score(labels, p.argmax(1))
    else:
        losses = [sk.log_loss(answers[on, k], p[on, k], labels=[0, 1]) for k, on in zip(columns, known, strict=True)]
        assert found["log_loss", MACRO][0] == pytest.approx(np.mean(losses))
        decided = [(answers[on, k], p[on, k] > 0.5) for k, on in zip(columns, known, strict=True)]
        expected = np.mean([sk.balanced_accuracy_score(*pair) for pair in decided])
    assert found["balanced_accuracy", MACRO][0] == pytest.approx(expected)


def test_an_order_is_asked_of_classes_alone() -> None:
    assert "quadratic_kappa" not in Labels(2).wanted(None)
    assert "quadratic_kappa" in Classes(3).wanted(None, ordinal=True)
    assert "quadratic_kappa" not in Classes(3).wanted(None)
    for asked in ({"metrics": ["quadratic_kappa"]}, {"metrics": None, "ordinal": True}):
        with pytest.raises(ProbeError, match="quadratic kappa takes one class per image, in order"):
            Labels(2).wanted(**asked)  # type: ignore[arg-type]
