from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from inceptionnext_lit.reports.evaluation.analysis import MultiLabelDetails, SingleLabelDetails, analyze
from inceptionnext_lit.reports.evaluation.bootstrap import Bootstrap
from inceptionnext_lit.reports.evaluation.calibration import cover, fit_temperature, halve, scale_temperature
from inceptionnext_lit.reports.evaluation.comparison import compare, mcnemar
from inceptionnext_lit.reports.evaluation.confusion import confuse
from inceptionnext_lit.reports.evaluation.label_errors import find_label_errors
from inceptionnext_lit.reports.evaluation.slices import slice_images
from inceptionnext_lit.reports.evaluation.table import PredictionTable
from tests.reports.evaluation.tables import multi_label, of_logits, single_label

FEW = Bootstrap(resamples=200)


def calibrated(images: int, classes: int, seed: int = 0) -> PredictionTable:
    """Predictions whose labels are drawn from their own probabilities."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(images, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) < rng.random((images, 1))).sum(axis=1)
    return of_logits(logits, labels)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_factor(factor: float) -> None:
    table = calibrated(4000, 5)
    wrong = of_logits(table.logits.astype(np.float64) * factor, table.labels)
    scaling = scale_temperature(wrong)
    assert scaling is not None
    assert scaling.temperature == pytest.approx(factor, rel=0.1)
    assert (scaling.fitted_on, scaling.source) == (2000, "half")
    if factor != 1:
        assert scaling.after.ece < 0.5 * scaling.before.ece
        assert scaling.after.log_loss < scaling.before.log_loss


def test_the_temperature_of_several_labels() -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(3000, 4))
    labels = rng.random((3000, 4)) < 1 / (1 + np.exp(-logits))
    table = replace(multi_label(3000, 4), labels=labels, logits=(2 * logits).astype(np.float32))
    assert fit_temperature(table) == pytest.approx(2, rel=0.1)


def test_folds_are_scaled_with_the_temperature_of_the_others() -> None:
    table = calibrated(600, 4)
    factors = np.repeat([1.0, 2.0, 4.0], 200)
    folds = np.repeat([0, 1, 2], 200)
    mixed = replace(of_logits(table.logits * factors[:, None].astype(np.float64), table.labels), folds=folds)
    scaling = scale_temperature(mixed)
    assert scaling is not None
    assert (scaling.fitted_on, scaling.source) == (600, "folds")
    expected = np.mean(
        [
            mixed.take(folds == fold).scaled(fit_temperature(mixed.take(folds != fold))).losses.mean()
            for fold in range(3)
        ]
    )
    assert scaling.after.log_loss == pytest.approx(expected, rel=1e-5)


def test_groups_stay_in_one_half() -> None:
    table = replace(single_label(100, 2), groups=[f"site {place // 7}" for place in range(100)])
    fitted = halve(table)
    assert 30 < fitted.sum() < 70
    for group in set(table.groups or ()):
        assert len({bool(fitted[place]) for place in range(100) if table.groups and table.groups[place] == group}) == 1
    alone = halve(replace(table, groups=None))
    assert abs(np.bincount(table.labels[alone]) - np.bincount(table.labels) / 2).max() <= 0.5


def test_one_image_has_no_temperature() -> None:
    assert scale_temperature(single_label(1, 3)) is None


def test_coverage_and_its_thresholds() -> None:
    confidences = np.array([0.9, 0.8, 0.8, 0.7, 0.6])
    probabilities = np.stack([confidences, 1 - confidences], axis=1)
    table = of_logits(np.log(probabilities), np.array([0, 0, 1, 0, 1]))
    found = cover(table, precisions=(0.95, 0.6, 0.75))
    # images of one confidence are answered together
    assert found.coverage.tolist() == pytest.approx([0.2, 0.6, 0.8, 1.0])
    assert found.accuracy.tolist() == pytest.approx([1, 2 / 3, 3 / 4, 3 / 5])
    assert found.thresholds[0.95] == pytest.approx((0.9, 0.2))
    assert found.thresholds[0.75] == pytest.approx((0.7, 0.8))
    assert found.thresholds[0.6] == pytest.approx((0.6, 1.0))
    worthless = cover(of_logits(np.log(probabilities), np.array([1, 1, 1, 1, 1])))
    assert worthless.thresholds == {0.95: None, 0.99: None}


def test_confusion_of_few_and_of_many_classes() -> None:
    table = single_label(200, 4)
    found = confuse(table)
    for true in range(4):
        for predicted in range(4):
            expected = ((table.labels == true) & (table.predicted == predicted)).sum()
            assert found.matrix[true, predicted] == expected
    assert found.shown == [0, 1, 2, 3]
    true, predicted, number = found.pairs(1)[0]
    wrong = found.matrix - np.diag(np.diag(found.matrix))
    assert number == wrong.max() == wrong[true, predicted]

    labels = np.arange(60).repeat(10)
    logits = np.zeros((600, 60))
    logits[np.arange(600), labels] = 5
    logits[labels == 50, 7] = 9  # all images of 50 are taken for 7, and those of 7 for 50
    logits[labels == 7, 50] = 9
    many = confuse(of_logits(logits, labels))
    assert len(many.shown) == 40
    assert abs(many.shown.index(7) - many.shown.index(50)) == 1
    assert many.most_confused(50) == (7, 10)
    assert many.most_confused(3) is None


def test_flipped_labels_are_found() -> None:
    table = single_label(1000, 5, strength=8)
    rng = np.random.default_rng(1)
    flipped = rng.choice(1000, 30, replace=False)
    labels = table.labels.copy()
    labels[flipped] = (labels[flipped] + rng.integers(1, 5, 30)) % 5
    found = find_label_errors(replace(table, labels=labels))
    hits = set(found.images.tolist()) & set(flipped.tolist())
    assert len(hits) >= 29
    assert len(found.images) <= 45
    assert set(found.images[:20].tolist()) <= set(flipped.tolist())  # the most suspicious first
    place = found.images.tolist().index(next(iter(hits)))
    assert found.suggested[place] == table.labels[found.images[place]]
    assert len(find_label_errors(table).images) < 20


def test_slices_are_worst_first_and_have_intervals() -> None:
    table = single_label(300, 3)
    correct = (table.ranks == 1).astype(np.float64)
    camera = ["good" if right else "bad" for right in correct[:-1]] + ["rare"]
    brightness = np.linspace(0, 1, 300)
    brightness[5] = np.nan
    columns = {"camera": camera, "brightness": brightness, "name": [str(n) for n in range(300)], "same": ["x"] * 300}
    table = replace(table, columns=columns, splits=["val"] * 300)
    found = slice_images(table, correct, FEW)
    assert [one.accuracy for one in found] == sorted(one.accuracy for one in found)
    assert {one.column for one in found} == {"camera", "brightness"}  # each image has its own name
    by_value = {one.value: one for one in found}
    assert (by_value["bad"].accuracy, by_value["good"].accuracy) == (0, 1)
    assert np.isnan(by_value["rare"].low)
    assert by_value["unknown"].images == 1
    quarters = [one for one in found if one.column == "brightness" and one.value != "unknown"]
    assert sum(one.images for one in quarters) == 299
    assert len(quarters) == 4
    assert all(one.low <= one.accuracy <= one.high for one in quarters)


@pytest.mark.parametrize(
    ("form", "step", "expected"),
    [
        ("%Y-%m-%d", 1, {"2024-01": 31, "2024-02": 29, "2024-03": 31, "2024-04": 30, "2024-05": 31, "2024-06": 28}),
        ("%Y-%m-%dT%H:%M:%S", 40, {str(year): 9 for year in range(2024, 2044)}),
        ("%d.%m.%Y", 1, {}),  # which may be the day or the month
    ],
)
def test_many_dates_are_months_or_years(form: str, step: int, expected: dict[str, int]) -> None:
    table = single_label(180, 3)
    dates = [f"{datetime(2024, 1, 1) + timedelta(days=step * day):{form}}" for day in range(180)]
    found = {one.value: one.images for one in slice_images(replace(table, columns={"taken": dates}), table.ranks, FEW)}
    assert found.keys() == expected.keys()
    assert sum(found.values()) == (180 if expected else 0)
    if step == 1:
        assert found == expected


def test_a_comparison_is_paired() -> None:
    first, second = single_label(200, 3, seed=0), single_label(200, 3, seed=0, strength=4)
    found = compare(first, second, Bootstrap(resamples=2000))
    right = [(table.predicted == table.labels) for table in (first, second)]
    assert found.difference == pytest.approx(right[1].mean() - right[0].mean())
    assert found.only_second.tolist() == np.flatnonzero(right[1] & ~right[0]).tolist()
    assert found.only_first.tolist() == np.flatnonzero(right[0] & ~right[1]).tolist()
    gain = right[1].astype(float) - right[0]
    theirs = stats.bootstrap((gain,), np.mean, method="percentile", n_resamples=2000, rng=3).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    same = compare(first, first, FEW)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_mcnemars_p_value() -> None:
    assert mcnemar(3, 9) == pytest.approx(2 * stats.binom.cdf(3, 12, 0.5))
    assert mcnemar(0, 0) == 1
    assert mcnemar(6000, 6200) == pytest.approx(stats.chi2.sf(199**2 / 12200, 1))


def test_an_analysis_orders_mistakes_by_confidence() -> None:
    table = single_label(100, 3)
    found = analyze({"raw": table, "ema": table}, FEW)
    assert found.weights == "ema"
    assert list(found.other_weights) == ["raw"]
    assert (table.predicted[found.mistakes] != table.labels[found.mistakes]).all()
    assert (np.diff(table.confidences[found.mistakes]) <= 0).all()
    assert (np.diff(table.confidences[found.unsure]) >= 0).all()
    assert len(found.mistakes) + len(found.unsure) == 100
    assert isinstance(found.details, SingleLabelDetails)

    several = multi_label(100, 3)
    found = analyze({"": several}, FEW)
    assert isinstance(found.details, MultiLabelDetails)
    assert (np.diff(several.losses[found.mistakes]) <= 0).all()
    assert len(found.mistakes) == (several.present != several.labels).any(axis=1).sum()
