"""``predict``, ``validate``, ``test`` and ``evaluate`` with a model's name and weights instead of a checkpoint."""

import csv
import json
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import RealLabelsImagenet
from torch import Tensor, nn

from inceptionnext_lit import load_classifier
from inceptionnext_lit.data.class_words import imagenet_classes
from inceptionnext_lit.data.decode.image import load_image
from inceptionnext_lit.data.device_batch import ToInput, stack_pixels
from inceptionnext_lit.data.sources.real_labels import read_real_labels, relabel
from inceptionnext_lit.data.transforms.pipeline import eval_transform
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.safetensors import convert_checkpoint
from inceptionnext_lit.tasks.loading import load_published
from inceptionnext_lit.tasks.published import describe_published

Cli = Callable[..., None]
MICRO = "inceptionnext_iso_micro"
WNIDS = list(imagenet_classes())
FAST = ["--data.num_workers", "0", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
OURS = ["--model.name", MICRO, "--model.pretrained", "w.pth"]
REAL = str(files("timm") / "data/_info/imagenet_real_labels.json")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """Build a model of ImageNet's classes, whose predictions differ from image to image."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(MICRO)
    nn.init.normal_(model.get_classifier().weight, std=0.5)
    return model.eval()


@pytest.fixture
def place(tmp_path: Path, model: nn.Module) -> Path:
    """A folder with the model's weights in two formats and a photo."""
    torch.save({"state_dict": model.state_dict(), "arch": MICRO}, tmp_path / "timm.pth.tar")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    photo(tmp_path / "photo.jpg", 7)
    return tmp_path


def photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC).save(path, format="JPEG", quality=95)
    return path


def logits_of(model: nn.Module, paths: list[Path]) -> Tensor:
    preprocessing = describe_published(MICRO, True).spec.preprocessing
    assert preprocessing is not None
    transform = eval_transform(preprocessing)
    pixels = stack_pixels([transform(load_image(path, apply_exif=False)) for path in paths])
    with torch.inference_mode():
        logits: Tensor = model(ToInput(preprocessing)(pixels))
    return logits


def accuracies(logits: Tensor, labels: list[int]) -> tuple[float, float]:
    top = logits.topk(5, dim=1).indices == torch.tensor(labels)[:, None]
    return top[:, 0].float().mean().item(), top.any(dim=1).float().mean().item()


def refused(cli: Cli, capsys: pytest.CaptureFixture[str], *words: object, code: int = 1) -> str:
    with pytest.raises(SystemExit) as caught:
        cli(*words)
    assert caught.value.code == code
    return capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")


def metrics(cli: Cli, *words: object, command: str = "validate") -> dict[str, Any]:
    cli(command, *OURS, *FAST, *words, "--output", "metrics.json", "--overwrite")
    return json.loads(Path("metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "file", ["w.safetensors", *(pytest.param(x, marks=pytest.mark.slow) for x in ("w.pth", "timm.pth.tar"))]
)
def test_predict_labels_a_photo_with_imagenets_words(
    cli: Cli, place: Path, model: nn.Module, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model.name", MICRO, "--model.pretrained", file, *FAST]
    cli("predict", "photo.jpg", *words, "--probabilities", "all", "--unsure_below", "0.99")
    best = int(logits_of(model, [place / "photo.jpg"]).argmax())
    [row] = csv.DictReader((place / "predictions.csv").open(newline="", encoding="utf-8"))
    assert row["label"] == WNIDS[best]
    assert row["words"] == timm.data.ImageNetInfo().index_to_description(best)
    assert len([name for name in row if name.startswith("prob_")]) == 1000
    printed = capsys.readouterr().out
    assert f"Model:      {MICRO} with {file}\n" in printed
    assert f"crop_mode from timm's entry of {MICRO})\n" in printed
    [prediction] = load_classifier(MICRO, "cpu", pretrained=file).predict("photo.jpg")
    assert (prediction.label, prediction.words) == (row["label"], row["words"])
    assert prediction.probability == pytest.approx(float(row["probability"]), abs=1e-5)


@pytest.mark.slow
def test_a_converted_file_keeps_its_classes_calibration_and_label_type(
    cli: Cli, place: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = trained / "checkpoints/best.ckpt"
    convert_checkpoint(checkpoint, place / "x.safetensors")
    cli("predict", "photo.jpg", "--ckpt_path", checkpoint, *FAST, "--output", "a.csv")
    cli(
        "predict", "photo.jpg", "--model.name", MICRO, "--model.pretrained", "x.safetensors", *FAST, "--output", "b.csv"
    )
    one, other = ((place / name).read_text().splitlines()[1].split(",")[:3] for name in ("a.csv", "b.csv"))
    assert one[:2] == other[:2]
    assert float(one[2]) == pytest.approx(float(other[2]), abs=1e-4)
    # a checkpoint as a file of weights is the checkpoint
    cli("predict", "photo.jpg", "--model.pretrained", checkpoint, *FAST, "--output", "c.csv")
    assert (place / "c.csv").read_text() == (place / "a.csv").read_text()
    message = refused(cli, capsys, "evaluate", "x.safetensors", "--data.root", "photo.jpg")
    assert message.endswith(f"give it with its model: --model.name {MICRO} --model.pretrained x.safetensors.")
    message = refused(cli, capsys, "predict", "photo.jpg", "--ckpt_path", "w.pth", *FAST)
    assert message.endswith("give it with its model: --model.name NAME --model.pretrained w.pth.")


@pytest.mark.slow
def test_a_folder_with_all_classes_uses_all_outputs(
    cli: Cli, place: Path, model: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [photo(place / "val" / name / f"{name}_0.JPEG", seed) for seed, name in enumerate(WNIDS)]
    logits = logits_of(model, paths)
    found = metrics(cli, "--data.root", "val")
    top1, top5 = accuracies(logits, list(range(1000)))
    assert (found["val/acc1"], found["val/acc5"]) == (pytest.approx(top1), pytest.approx(top5))
    assert found["val/loss"] == pytest.approx(nn.functional.cross_entropy(logits, torch.arange(1000)).item(), rel=1e-4)
    assert found["weights"] == f"{MICRO} with w.pth"
    assert "classes" not in found
    assert "Classes:" not in capsys.readouterr().out


@pytest.fixture
def few(place: Path) -> Iterator[tuple[list[str], list[Path], list[int]]]:
    """A folder with four images of each of twenty classes, as ImageNet-A and -R are laid out, with a README."""
    classes = [WNIDS[index] for index in range(3, 1000, 50)]
    paths = [photo(place / "imagenet-a" / name / f"{n}.jpg", 10 * k + n) for k, name in enumerate(classes)
             for n in range(4)]  # fmt: skip
    (place / "imagenet-a" / "README.txt").write_text("ImageNet-A")
    (place / "imagenet-a" / "._n01440764").write_bytes(b"\0")
    (place / "imagenet-a" / ".DS_Store").write_bytes(b"\0")
    return classes, paths, [k for k in range(20) for _ in range(4)]


def test_a_folder_with_some_classes_ignores_the_other_outputs(
    cli: Cli, place: Path, model: nn.Module, few: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    classes, paths, labels = few
    logits = logits_of(model, paths)[:, [WNIDS.index(name) for name in classes]]  # as in validate.py --valid-labels
    loss = nn.functional.cross_entropy(logits, torch.tensor(labels)).item()
    for command, split in (("validate", "val"), ("test", "test")):
        found = metrics(cli, "--data.root", "imagenet-a", command=command)
        assert (found[f"{split}/acc1"], found[f"{split}/acc5"]) == pytest.approx(accuracies(logits, labels))
        assert found[f"{split}/loss"] == pytest.approx(loss, rel=1e-4)
        assert (found["classes"], found["images"]) == (20, 80)
        printed = capsys.readouterr().out
        assert "Images:     80 images of 20 classes in imagenet-a/\n" in printed
        line = "Classes:    only the 20 classes of the images count: the model's other 980 outputs are ignored\n"
        assert line in printed
    cli("evaluate", *OURS, "--data.root", "imagenet-a", "--data.num_workers", 0, "--resamples", 100, "--output", "r")
    report = json.loads((place / "r/report.json").read_text(encoding="utf-8"))["weights"]["raw"]
    assert (report["acc1"]["value"], report["acc5"]["value"]) == pytest.approx(accuracies(logits, labels))
    assert report["log_loss"]["value"] == pytest.approx(loss, rel=1e-4)
    assert "Only the 20 classes of the images count" in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_with_an_unknown_class_is_refused(
    cli: Cli, place: Path, few: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    photo(place / "imagenet-a" / "n99999999" / "0.jpg", 0)
    message = refused(cli, capsys, "validate", *OURS, *FAST, "--data.root", "imagenet-a")
    assert "n99999999" in message
    assert "n01440764, n01443537" in message
    message = refused(cli, capsys, "evaluate", *OURS, "--data.root", "imagenet-a")
    assert message.startswith("imagenet-a has labels that the model does not have: n99999999. The model has n01440764,")


@pytest.mark.slow
def test_folders_named_by_indices_are_not_sorted_as_text(
    cli: Cli, place: Path, model: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    root = place / "imagenetv2-matched-frequency-format-val"
    paths = [photo(root / str(index) / "0.jpeg", index) for index in range(1000)]
    logits = logits_of(model, paths)
    found = metrics(cli, "--data.root", root)
    top1, top5 = accuracies(logits, list(range(1000)))
    assert (found["val/acc1"], found["val/acc5"]) == (pytest.approx(top1), pytest.approx(top5))
    line = "Classes:    the labels 0 to 999 are taken for the indices of ImageNet's classes, as in ImageNet-V2\n"
    assert line in capsys.readouterr().out
    cli("evaluate", *OURS, "--data.root", root, "--data.num_workers", 0, "--resamples", 100, "--output", "r")
    report = json.loads((place / "r/report.json").read_text(encoding="utf-8"))["weights"]["raw"]
    assert (report["acc1"]["value"], report["acc5"]["value"]) == (pytest.approx(top1), pytest.approx(top5))
    # numbers that may be ImageNet's own, 1 to 1000, in another order
    (root / "0").rename(root / "1000")
    for command in ("validate", "evaluate"):
        message = refused(cli, capsys, command, *OURS, "--data.root", root)
        assert "are numbers, 1, 2, 3" in message
        assert (
            "Only 0 to 999, all of them, are taken for indices of ImageNet-1k's classes, as in ImageNet-V2" in message
        )


def test_real_labels_are_scored_like_timm(
    cli: Cli, place: Path, model: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    real = read_real_labels(REAL)
    numbers = [*range(1, 160), 293, 50_000]
    paths = [photo(place / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", number) for number in numbers]
    logits = logits_of(model, paths)
    # so that some are right: images 1, 4, 7 … at the first place, and 2, 5, 8 … at the third, for one of their labels
    for row, number in enumerate(numbers):
        for label in real[number - 1][-1:]:
            real[number - 1] = [(int(logits[row].topk(5).indices[2 * (number % 3 == 2)]) if number % 3 else label), 7]
    (place / "real.json").write_text(json.dumps(real))
    everything = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 50_001)]
    theirs = RealLabelsImagenet(everything, real_json=str(place / "real.json"))
    theirs.filenames = [path.name for path in paths]
    theirs.add_result(logits)
    labeled = len(theirs.is_correct[1])
    assert 100 < labeled < len(numbers)
    found = metrics(cli, "--data.root", "val", "--data.real_labels", "real.json")
    assert found["val/acc1"] == pytest.approx(theirs.get_accuracy(1) / 100)
    assert found["val/acc5"] == pytest.approx(theirs.get_accuracy(5) / 100)
    assert 0.2 < found["val/acc1"] < found["val/acc5"] < 0.95
    assert not {"val/loss", "val/macro_acc"} & found.keys()
    assert (found["images"], found["real_labels"]) == (labeled, "real.json")
    left = len(numbers) - labeled
    assert (
        f"Classes:    ReaL labels of {labeled} images; {left} images without a label left out (161 of ImageNet's "
        "50,000 are there)\n"
    ) in capsys.readouterr().out
    # the same images next to training images, and then in class folders, named as Hugging Face does
    photo(place / "IMAGENET" / "train" / WNIDS[0] / "0.JPEG", 0)
    (place / "val").rename(place / "IMAGENET" / "val")
    for number, path in enumerate(paths):
        paths[number] = place / "IMAGENET" / "val" / path.name
    flat = metrics(cli, "--data.root", "IMAGENET", "--data.real_labels", "real.json")
    assert [flat[key] for key in ("val/acc1", "val/acc5")] == [found[key] for key in ("val/acc1", "val/acc5")]
    for path in paths:
        folder = place / "IMAGENET" / "val" / WNIDS[len(path.stem) % 5]
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"{path.stem}_n01440764.JPEG")
    again = metrics(cli, "--data.root", "IMAGENET", "--data.real_labels", "real.json")
    assert [again[key] for key in ("val/acc1", "val/acc5")] == [found[key] for key in ("val/acc1", "val/acc5")]


def test_real_labels_are_those_of_timm() -> None:
    samples, note = relabel(["a/ILSVRC2012_val_00000002.JPEG", "ILSVRC2012_val_00000001.JPEG"], read_real_labels(REAL),
                            WNIDS)  # fmt: skip
    assert [(sample.path, sample.label) for sample in samples] == [("a/ILSVRC2012_val_00000002.JPEG", (795, 970))]
    assert note.startswith("ReaL labels of 1 image; 1 image without a label left out (2 of ImageNet's 50,000")
    more, _ = relabel(["ILSVRC2012_val_00000002.JPEG"], read_real_labels(REAL), ["n00000000", *WNIDS])
    assert more[0].label == (796, 971)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[1], [2]]", "is not the file of ReaL labels, a JSON list of 50,000 lists of indices below 1000"),
        (json.dumps([1] * 50_000), "is not the file of ReaL labels"),
        (json.dumps([[1000]] + [[]] * 49_999), "is not the file of ReaL labels"),
        (json.dumps([[True]] * 50_000), "is not the file of ReaL labels"),
        ("{", "is not the file of ReaL labels"),
        (b"\xff\xfe", "is not the file of ReaL labels"),
        (None, r"which cannot be read: No such file"),
    ],
)
def test_other_files_are_not_real_labels(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "real.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message):
        read_real_labels(tmp_path / "real.json")


@pytest.mark.parametrize(
    ("paths", "classes", "message"),
    [
        (["cat.jpg"], WNIDS, "cat.jpg is not named like a validation image of ImageNet"),
        (["ILSVRC2012_val_00050001.JPEG"], WNIDS, "is not named like a validation image"),
        (["ILSVRC2012_val_00000000.JPEG"], WNIDS, "is not named like a validation image"),
        (["a/ILSVRC2012_val_00000002.JPEG", "ILSVRC2012_val_00000002.JPEG"], WNIDS, "are the same image of ImageNet"),
        (["ILSVRC2012_val_00000001.JPEG"], WNIDS, "None of the images has a ReaL label"),
        ([], ["cat", "dog"], "needs a model of ImageNet-1k's classes.* has no n01440764 and 999 others"),
    ],
)
def test_other_images_have_no_real_labels(paths: list[str], classes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        relabel(paths, read_real_labels(REAL), classes)


@pytest.mark.slow
def test_real_labels_are_for_validate(cli: Cli, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(place / "val" / "ILSVRC2012_val_00000002.JPEG", 0)
    message = refused(cli, capsys, "test", *OURS, *FAST, "--data.root", "val", "--data.real_labels", REAL)
    assert message == "data.real_labels are of ImageNet's validation images, so they are only for validate."


@pytest.mark.slow
def test_what_is_named_wrongly(cli: Cli, place: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def sentence(*words: object, command: str = "predict") -> str:
        return refused(cli, capsys, command, *(["photo.jpg"] if command == "predict" else []), *words, *FAST)

    near = sentence("--model.name", "inceptionnext_tiiny", "--model.pretrained", "true")
    assert near.startswith("Unknown model 'inceptionnext_tiiny'. The nearest names are: inceptionnext_tiny, ")
    assert sentence("--model.name", MICRO, "--model.pretrained", "true").startswith(f"No public weights of '{MICRO}'")
    assert sentence("--model.name", MICRO, "--model.pretrained", "none.pth").startswith("There is no file 'none.pth'; ")
    assert sentence("--model.name", MICRO) == (
        "predict needs a checkpoint, --ckpt_path runs/…/checkpoints/best.ckpt, or published weights, --model.name NAME "
        "--model.pretrained true."
    )
    checkpoint = trained / "checkpoints/best.ckpt"
    assert sentence(checkpoint).endswith(f"--model.pretrained true; {checkpoint} was taken for an image.")
    both = sentence("--ckpt_path", checkpoint, *OURS)
    assert both == f"--ckpt_path {checkpoint} and --model.pretrained w.pth both name weights; leave one of them out."
    other = sentence("--model.name", "inceptionnext_iso_nano", "--model.pretrained", "w.pth")
    assert other.startswith("w.pth does not fit inceptionnext_iso_nano: ")
    assert f"It fits {MICRO} (--model.name {MICRO})." in other
    classifier = f"{timm.get_pretrained_cfg(MICRO).classifier}."
    features = {key: value for key, value in torch.load("w.pth").items() if not key.startswith(classifier)}
    torch.save(features, place / "features.pth")
    lacking = sentence("--model.name", MICRO, "--model.pretrained", "features.pth")
    assert lacking.startswith(f"features.pth has no classifier for {MICRO}, only features; ")
    assert not (place / "predictions.csv").exists()


@pytest.mark.slow
def test_classes_that_are_not_imagenets(cli: Cli, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(timm.create_model(MICRO, num_classes=3).state_dict(), place / "three.pth")
    words = ["predict", "photo.jpg", "--model.name", MICRO, "--model.pretrained", "three.pth", *FAST]
    message = refused(cli, capsys, *words)
    assert message == (
        f"three.pth has a classifier of 3 classes for {MICRO}, not of 1,000; name its classes in their order with "
        "--data.class_names '[NAME, …]' (class_names in Python)."
    )
    cli(*words, "--data.class_names", "[yes, 1, dog]")
    [row] = csv.DictReader((place / "predictions.csv").open(newline="", encoding="utf-8"))
    assert row["label"] in ("yes", "1", "dog")
    assert "words" not in row
    message = refused(cli, capsys, *words, "--output", "two.csv", "--data.class_names", "[]")
    assert message == "data.class_names is [], but must be one name per class, each once, and none empty."


def test_names_for_export_evaluate_and_explain(cli: Cli, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(timm.create_model(MICRO, num_classes=3).state_dict(), place / "three.pth")
    for label in ("yes", "1", "dog"):
        photo(place / "new" / label / "a.jpg", len(label))
    names = ["--data.class_names", "[yes, 1, dog]"]
    model = ["--model.name", MICRO, "--model.pretrained", "three.pth"]
    cli("export", *model, *names, "--format", "pt2", "--output", "three.pt2")
    assert json.loads((place / "three.pt2.json").read_text(encoding="utf-8"))["class_names"] == ["yes", "1", "dog"]
    cli("evaluate", *model, *names, "--data.root", "new", "--output", "report", "--data.num_workers", "0")
    rows = list(csv.reader((place / "report/confusion.csv").open(newline="", encoding="utf-8")))
    assert rows[0][1:] == ["yes", "1", "dog"]
    cli("explain", f"{MICRO}=three.pth", "photo.jpg", *names, "--class", "dog", "--output", "map.png")
    assert (place / "map.png").is_file()
    classifier = load_classifier(MICRO, "cpu", pretrained="three.pth", class_names=["yes", "1", "dog"])
    assert classifier.class_names == ["yes", "1", "dog"]
    export = ["export", *model, "--format", "pt2", "--output", "x.pt2", "--data.class_names"]
    message = refused(cli, capsys, *export, "yes", code=2)
    assert message == "--data.class_names: 'yes' is not a list of names; give '[NAME, …]'."
    message = refused(cli, capsys, *export, "[a, a, b]", code=2)
    assert message == "--data.class_names: it has 'a' twice; give the name of each class."
    message = refused(cli, capsys, "evaluate", "best.ckpt", *names, "--data.root", "new", code=2)
    assert message == "--data.class_names: it is for --model.name; checkpoints and tables have their own names."
    message = refused(cli, capsys, "export", "best.ckpt", *names, "--format", "pt2", "--output", "x.pt2", code=2)
    assert message == "--data.class_names: CKPT has the names of its classes; leave them out."
    message = refused(cli, capsys, "explain", MICRO, "photo.jpg", *names, "--output", "x.png")
    assert message == "--data.class_names is for weights without names, as NAME=FILE or NAME=true; leave it out."
    with pytest.raises(UserError, match=r"^three\.pt2 has the names of its classes; leave out class_names\.$"):
        load_classifier("three.pt2", class_names=["a"])


def test_weights_without_known_classes_or_classifier() -> None:
    with pytest.raises(UserError, match=r"^Nothing says what the 512 outputs of vit_base_patch16_clip_224\.openai"):
        describe_published("vit_base_patch16_clip_224.openai", True).check_names()
    with pytest.raises(UserError, match=r"^The published weights of vit_base_patch16_224\.dino have no classifier"):
        describe_published("vit_base_patch16_224.dino", True)
    with pytest.raises(UserError, match=r"^The published weights of resnet18 have 1,000 classes, but 2 are named; "):
        describe_published("resnet18", True, ["cat", "dog"])
    large = describe_published("convnext_tiny.fb_in22k", True).spec
    assert large.class_names is not None
    assert (len(large.class_names), large.class_names[0]) == (21_841, "n00004475")
    tested = describe_published("convnext_tiny.fb_in22k_ft_in1k", True).spec.preprocessing
    assert tested is not None
    assert (tested["image_size"], tested["crop_pct"]) == (288, 1.0)


def test_a_file_of_another_tag_names_it(tmp_path: Path) -> None:
    model = timm.create_model("convnext_atto", num_classes=21_841)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"has a classifier of 21,841 classes for convnext_atto, not of 1,000; name"):
        load_published("convnext_atto", str(tmp_path / "w.pth"))


def test_load_classifier_tells_names_from_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert load_classifier(MICRO, "cpu", pretrained="w.safetensors").class_names == WNIDS
    for arguments, message in (
        (("inceptionnext_tinyy",), r"^There is neither a file nor a model 'inceptionnext_tinyy'; did you mean incept"),
        ((MICRO, "cpu", False, 1000, False), r"^Random weights label nothing; "),
        (("w.pth", "cpu", False, 1000, True), r"^w\.pth is a file; give the name of the model as well, "),
        ((MICRO,), rf"^No public weights of '{MICRO}'"),
        (("w.pth",), r'give the name of its model as well: load_classifier\(NAME, pretrained="w\.pth"\)\.$'),
        (("best.ckpt",), r"^No checkpoint at best\.ckpt; check the path\.$"),
    ):
        with pytest.raises(UserError, match=message):
            load_classifier(*arguments)  # type: ignore[arg-type]
