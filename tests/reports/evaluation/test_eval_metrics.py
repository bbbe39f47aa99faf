import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from inceptionnext_lit.reports.evaluation import metrics
from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap
from inceptionnext_lit.reports.evaluation.calibration import calibration
from inceptionnext_lit.reports.evaluation.metrics import summarize
from inceptionnext_lit.reports.evaluation.multi_label import (
    choose_thresholds,
    errors_together,
    precision_recall,
    summarize_labels,
)
from inceptionnext_lit.reports.evaluation.table import PredictionTable
from tests.reports.evaluation.tables import multi_label, of_logits, single_label

FEW = Bootstrap(resamples=200)


def exact(table: PredictionTable) -> np.ndarray:
    """Probabilities in double precision, whose sums are 1."""
    probabilities = table.probabilities.astype(np.float64)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("images", "classes"), [(300, 7), (200, 2), (60, 12)])
def test_metrics_are_scikit_learns(images: int, classes: int) -> None:
    table = single_label(images, classes)
    true, predicted, probabilities = table.labels, table.predicted, exact(table)
    found = {name: metric.value for name, metric in summarize(table, FEW).metrics.items()}
    several = probabilities if classes > 2 else probabilities[:, 1]
    assert found == pytest.approx(
        {
            "acc1": sklearn.accuracy_score(true, predicted),
            "acc5": sklearn.top_k_accuracy_score(true, probabilities, k=5) if classes > 5 else 1.0,
            "macro_acc": sklearn.balanced_accuracy_score(true, predicted),
            "macro_f1": sklearn.f1_score(true, predicted, average="macro"),
            "weighted_f1": sklearn.f1_score(true, predicted, average="weighted"),
            "log_loss": sklearn.log_loss(true, probabilities),
            "auroc": sklearn.roc_auc_score(true, several, multi_class="ovr", average="macro"),
            "mcc": sklearn.matthews_corrcoef(true, predicted),
        },
        abs=1e-6,
    )


def test_metrics_of_each_class_are_scikit_learns() -> None:
    table = single_label(300, 7, ties=True)
    found = summarize(table, FEW).classes
    precision, recall, f1, support = sklearn.precision_recall_fscore_support(table.labels, table.predicted)
    assert found.support.tolist() == support.tolist()
    assert found.predicted.tolist() == np.bincount(table.predicted, minlength=7).tolist()
    for ours, theirs in ((found.precision, precision), (found.recall, recall), (found.f1, f1)):
        assert ours == pytest.approx(theirs)
    scores = [table.logits[:, k] for k in range(7)]
    assert found.auroc == pytest.approx([sklearn.roc_auc_score(table.labels == k, scores[k]) for k in range(7)])
    average = [sklearn.average_precision_score(table.labels == k, scores[k]) for k in range(7)]
    assert found.average_precision == pytest.approx(average)


def test_classes_without_images_do_not_count_in_means() -> None:
    table = single_label(100, 4)
    more = replace(
        table,
        class_names=[*table.class_names, "absent"],
        logits=np.concatenate([table.logits, np.full((100, 1), -50, dtype=np.float32)], axis=1),
    )
    ours, theirs = summarize(more, FEW), summarize(table, FEW)
    for name in ("acc1", "macro_acc", "macro_f1", "weighted_f1", "auroc", "mcc"):
        assert ours.metrics[name].value == pytest.approx(theirs.metrics[name].value)
    assert np.isnan(ours.classes.recall[4])
    assert np.isnan(ours.classes.auroc[4])
    assert ours.classes.support[4] == 0


def test_a_class_with_a_single_image_has_no_interval() -> None:
    labels = np.array([0] * 20 + [1] * 20 + [2])
    logits = np.random.default_rng(0).normal(size=(41, 3))
    found = summarize(of_logits(logits, labels), FEW).classes
    assert np.isnan([found.recall_low[2], found.recall_high[2]]).all()
    assert np.isfinite([found.recall_low[:2], found.recall_high[:2]]).all()


def test_ranks_count_ties_in_the_order_of_classes() -> None:
    table = of_logits(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 3.0, 1.0]]), np.array([0, 1, 2]))
    assert table.ranks.tolist() == [1, 2, 2]
    assert (table.ranks == 1).tolist() == (table.predicted == table.labels).tolist()


@pytest.mark.slow
def test_intervals_are_scipys() -> None:
    table = single_label(150, 4)
    correct = (table.predicted == table.labels).astype(float)
    found = summarize(table, Bootstrap(resamples=4000)).metrics
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "acc1": stats.bootstrap((correct,), np.mean, method="percentile", n_resamples=4000, rng=1),
            "log_loss": stats.bootstrap((table.losses,), np.mean, method="percentile", n_resamples=4000, rng=1),
            "mcc": stats.bootstrap(
                (table.labels, table.predicted),
                sklearn.matthews_corrcoef,
                paired=True,
                vectorized=False,
                method="percentile",
                n_resamples=1000,
                rng=1,
            ),
        }
    for name, result in theirs.items():
        width = result.confidence_interval.high - result.confidence_interval.low
        assert found[name].low == pytest.approx(result.confidence_interval.low, abs=0.08 * width), name
        assert found[name].high == pytest.approx(result.confidence_interval.high, abs=0.08 * width), name


def test_intervals_of_groups_are_wider() -> None:
    table = single_label(200, 3)
    # whole groups are right or wrong
    order = np.argsort(table.ranks == 1, kind="stable")
    grouped = replace(table.take(order), groups=[f"patient {place // 10}" for place in range(200)])
    alone, together = summarize(table, FEW).metrics["acc1"], summarize(grouped, FEW).metrics["acc1"]
    assert together.value == alone.value
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_linearized_auroc_interval_is_the_resampled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    table = single_label(600, 5, strength=1.0)
    bootstrap = Bootstrap(resamples=1000)
    resampled = summarize(table, bootstrap)
    assert resampled.auroc_intervals == "resampled"
    monkeypatch.setattr(metrics, "_EXACT_CELLS", 0)
    linearized = summarize(table, bootstrap)
    assert linearized.auroc_intervals == "linearized"
    ours, theirs = linearized.metrics["auroc"], resampled.metrics["auroc"]
    assert ours.value == theirs.value
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * (theirs.high - theirs.low))


def test_calibration_is_torchmetrics_and_scikit_learns() -> None:
    table = single_label(400, 6, strength=3)
    found = calibration(table)
    probabilities, labels = torch.from_numpy(table.probabilities), torch.from_numpy(table.labels)
    assert found.ece == pytest.approx(float(multiclass_calibration_error(probabilities, labels, 6, n_bins=15)))
    errors = exact(table) - np.eye(6)[table.labels]  # scikit-learn before 1.7 has no Brier score of several classes
    assert found.brier == pytest.approx((errors**2).sum(axis=1).mean(), abs=1e-6)
    assert found.log_loss == pytest.approx(sklearn.log_loss(table.labels, exact(table)), abs=1e-6)
    gaps = sum(one.images * abs(one.accuracy - one.confidence) for one in found.bins if one.images) / 400
    assert gaps == pytest.approx(found.ece, abs=1e-6)
    assert sum(one.images for one in found.bins) == 400


def test_several_labels_are_scikit_learns() -> None:
    table = multi_label(300, 5)
    found = summarize_labels(table, FEW)
    probabilities, present = table.probabilities, table.present
    assert {name: metric.value for name, metric in found.metrics.items()} == pytest.approx(
        {
            "mAP": sklearn.average_precision_score(table.labels, probabilities, average="macro"),
            "f1": sklearn.f1_score(table.labels, present, average="macro"),
            "micro_f1": sklearn.f1_score(table.labels, present, average="micro"),
            "auroc": sklearn.roc_auc_score(table.labels, probabilities),
            "subset_acc": sklearn.accuracy_score(table.labels, present),
            "log_loss": np.mean([sklearn.log_loss(table.labels[:, k], probabilities[:, k]) for k in range(5)]),
        },
        abs=1e-6,
    )
    flat = torch.from_numpy(probabilities).flatten(), torch.from_numpy(table.labels).flatten().long()
    assert calibration(table).ece == pytest.approx(float(binary_calibration_error(*flat, n_bins=15)))
    for name, metric in found.metrics.items():
        assert metric.low < metric.value < metric.high, name


def test_thresholds_maximize_f1_on_one_half_and_are_measured_on_the_other() -> None:
    table = multi_label(2000, 3)
    found = choose_thresholds(table)
    assert found.chosen_on == 1000
    # the logits are normal with mean 1.5 or -0.5: the best F1 is near a probability of 0.5, not at its ends
    assert ((found.values > 0.3) & (found.values < 0.75)).all()
    shifted = choose_thresholds(replace(table, logits=table.logits - 2))
    assert (shifted.f1 > shifted.f1_at_half + 0.1).all()
    assert shifted.f1 == pytest.approx(found.f1)  # thresholds follow a shift of the logits


def test_precision_recall_and_errors_together() -> None:
    table = multi_label(90, 3)
    recall, precision = precision_recall(table, 1)
    theirs = sklearn.precision_recall_curve(table.labels[:, 1], table.logits[:, 1])
    assert set(np.round(recall, 6)) == set(np.round(theirs[1][:-1], 6))
    assert precision[0] == pytest.approx(theirs[0][-2])
    wrong = table.present != table.labels
    together = errors_together(table)
    assert together[0, 2] == (wrong[:, 0] & wrong[:, 2]).sum()
    assert together[1, 1] == wrong[:, 1].sum()
