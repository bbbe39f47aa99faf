"""What int8 loses is judged by labels, or by the float file's probabilities."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from inceptionnext_lit.export.int8.accuracy import Judge, Truth, mean_average_precision, paired_interval


def confident(labels: list[int], probability: float = 0.9) -> np.ndarray:
    scores = np.full((len(labels), 3), (1 - probability) / 2, np.float32)
    scores[np.arange(len(labels)), labels] = probability
    return scores


def judge(expected: np.ndarray, truth: np.ndarray | None, max_drop: float = 0.5, **arguments: object) -> Judge:
    arguments = {"multi_label": False, "thresholds": None} | arguments
    return Judge(expected, Truth(truth), max_drop=max_drop, **arguments)  # type: ignore[arg-type]


def test_top1_is_measured() -> None:
    labels = [0, 1, 2, 0] * 100
    truth = np.eye(3, dtype=bool)[labels]
    float_labels, int8_labels = labels.copy(), labels.copy()
    float_labels[:4] = [1, 1, 1, 1]  # 3 errors, one of which int8 corrects
    int8_labels[:4] = [0, 1, 1, 1]
    int8_labels[100:105] = [1, 2, 0, 1, 1]  # 5 new errors
    found = judge(confident(float_labels), truth).drop(confident(int8_labels))
    assert (found.metric, found.images, found.basis) == ("top-1", 400, "measured")
    assert (found.before, found.after) == (pytest.approx(99.25), pytest.approx(98.25))
    assert found.judged == pytest.approx(1.0)
    assert found.agreement == pytest.approx(100 * 394 / 400)
    assert found.interval == pytest.approx(paired_interval(5, 1, 400))
    assert found.lines() == [
        "top-1 on 400 images: 99.25% in float, 98.25% in int8, a drop of 1.00 points (95%: -0.29 to 2.28); 98.5% of "
        "the labels agree"
    ]
    assert found.record() == {
        "images": 400,
        "metric": "top-1",
        "agreement": 98.5,
        "before": 99.25,
        "after": 98.25,
        "drop": 1.0,
        "drop_95": [pytest.approx(-0.29, abs=0.01), pytest.approx(2.28, abs=0.01)],
        "judged_drop": 1.0,
        "judged_by": "measured",
    }


def test_a_few_images_cannot_show_half_a_point() -> None:
    labels = [0, 1, 2, 0] * 16
    expected = confident(labels)
    expected[0] = [0.41, 0.4, 0.19]
    found = judge(expected, np.eye(3, dtype=bool)[labels]).drop(confident([1, *labels[1:]]))
    assert found.before == 100
    assert found.judged == pytest.approx(100 * 0.01 / 64, rel=1e-4)
    assert found.lines()[1] == (
        "Drop that counts: 0.02, expected from the float file's probabilities, since one image is 1.6 points; give 200"
    )
    assert judge(expected, np.eye(3, dtype=bool)[labels], max_drop=2).drop(confident([1, *labels[1:]])).judged > 1.5


def test_without_labels_the_float_file_says_what_is_lost() -> None:
    expected = confident([0, 1, 2, 0], 0.8)
    found = judge(expected, None).drop(confident([0, 1, 2, 1], 0.5))
    assert (found.before, found.after, found.interval) == (None, None, None)
    assert found.judged == pytest.approx(100 * (0.8 - 0.1) / 4)
    assert found.lines() == [
        "75.0% of the labels of 4 images agree with the float file",
        "Drop: 17.50 points, expected from the float file's probabilities",
    ]
    assert "before" not in found.record()


def test_only_the_outputs_of_known_classes_count() -> None:
    expected = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], np.float32)
    truth = Truth(np.eye(2, dtype=bool), outputs=[1, 2])
    found = Judge(expected, truth, multi_label=False, thresholds=None, max_drop=60).drop(expected)
    assert (found.before, found.after) == (100, 100)


def test_several_labels() -> None:
    random = np.random.default_rng(0)
    truth = random.random((50, 4)) < 0.3
    expected = np.clip(truth * 0.4 + random.random((50, 4)) * 0.6, 0, 1).astype(np.float32)
    worse = (expected * 0.5 + random.random((50, 4)) * 0.5).astype(np.float32)
    limits = [0.5, 0.4, 0.6, 0.5]
    found = judge(expected, truth, multi_label=True, thresholds=limits).drop(worse)
    before, after = (100 * average_precision_score(truth, one) for one in (expected, worse))
    assert (found.metric, found.before, found.after) == ("mAP", pytest.approx(before), pytest.approx(after))
    assert found.judged == pytest.approx(before - after)
    assert found.agreement == pytest.approx(100 * ((expected >= limits) == (worse >= limits)).mean())
    unlabeled = judge(expected, None, multi_label=True, thresholds=limits)
    lost = 100 * (1 - average_precision_score(expected >= np.float32(limits), worse))
    assert unlabeled.drop(worse).judged == pytest.approx(lost)
    assert unlabeled.drop(expected).judged == pytest.approx(0, abs=1e-9)
    none = judge(expected, None, multi_label=True, thresholds=[2.0]).drop(worse)
    assert (none.judged, none.basis) == (0, "of decisions, since no image has a label")


def test_mean_average_precision_with_ties_and_missing_labels() -> None:
    scores = np.array([[0.5, 0.1], [0.5, 0.2], [0.2, 0.3], [0.5, 0.4]], np.float32)
    present = np.array([[1, 0], [0, 0], [1, 0], [1, 0]], bool)
    assert mean_average_precision(scores, present) == pytest.approx(
        average_precision_score(present[:, 0], scores[:, 0])
    )
    assert mean_average_precision(scores, np.zeros((4, 2), bool)) == 1


def test_intervals_have_a_width_without_any_change() -> None:
    low, high = paired_interval(0, 0, 1000)
    assert low == pytest.approx(-high)
    assert high == pytest.approx(100 * 1.96 / 1002)
    assert paired_interval(30, 10, 1000) == pytest.approx((0.75, 3.24), abs=0.01)
