from inceptionnext_lit.reports.evaluation.lines import evaluation_lines


def test_a_line_for_each_set_of_weights() -> None:
    metrics = {"val/loss": 1.0, "val/acc1": 0.87104, "val_ema/acc1": float("nan"), "val_ema/loss": 0.00004}
    assert evaluation_lines(metrics, has_average=True) == [
        "           acc1    loss",
        "val      0.8710  1.0000",
        "val_ema     nan  0.0000",
        "predict uses the averaged weights (val_ema).",
    ]
    assert evaluation_lines({"test/acc1": 1.0, "epoch": 3.0}, has_average=False) == [
        "        acc1",
        "test  1.0000",
        "predict uses these weights.",
    ]
    assert evaluation_lines({"test/acc1": 1.0}, has_average=None) == ["        acc1", "test  1.0000"]
    assert evaluation_lines({}, has_average=True) == []


def test_the_number_of_images() -> None:
    metrics = {"val/acc1": 0.5, "val_ema/acc1": 0.75, "val/f1/cat": 0.25}
    assert evaluation_lines(metrics, has_average=None, images=50_000) == [
        "         images    acc1",
        "val      50,000  0.5000",
        "val_ema  50,000  0.7500",
        "",
        "           val  val_ema",
        "f1/cat  0.2500        –",
    ]


def test_labels_have_separate_lines() -> None:
    metrics = {"val/mAP": 0.5, "val/f1/cat": 0.25, "val/f1/red/\x1b[31mdog": 0.75, "val/loss": 2.0}
    assert evaluation_lines(metrics, has_average=None) == [
        "        mAP    loss",
        "val  0.5000  2.0000",
        "",
        "                       val",
        "f1/cat              0.2500",
        "f1/red/\\x1b[31mdog  0.7500",
    ]
