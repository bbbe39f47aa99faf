"""``validate`` with published weights sees what timm's ``validate.py`` sees, and computes the same logits.

The weights are random, in a file, since they cannot be downloaded in tests.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_dataset, create_loader, resolve_data_config
from torch import Tensor, nn

from inceptionnext_lit.data.class_words import imagenet_classes
from tests.fidelity.photos import write_photos
from tests.fidelity.recording import Record

Cli = Callable[..., None]
TOLERANCE = 2e-5  # of logits, whose memory layouts differ
# name, image size and crop of validate.py, images
FAST = [("test_vit", 160, 0.95, 9), ("inceptionnext_nano", 64, 0.875, 18)]
SLOW = [
    ("inceptionnext_tiny", 224, 0.875, 100),
    ("convnext_atto", 288, 0.95, 100),
    ("resnet50", 288, 1.0, 100),
    ("vit_tiny_patch16_384", 384, 1.0, 100),
]


def weights(name: str, file: Path) -> nn.Module:
    """Save a timm model with random weights, whose logits differ from image to image."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    nn.init.normal_(model.get_classifier().weight, std=0.5)
    torch.save(model.state_dict(), file)
    return model


def of_timm(model: nn.Module, root: Path, *, prefetch: bool) -> tuple[list[str], Tensor, dict[str, Any]]:
    """Return the paths and the input of the images as timm's ``validate.py`` loads them, and its configuration."""
    config = resolve_data_config({}, model=model, use_test_size=True)
    dataset = create_dataset("", root=str(root), split="validation", input_img_mode="RGB")
    names = ("interpolation", "mean", "std", "crop_pct", "crop_mode")
    loader = create_loader(
        dataset,
        input_size=config["input_size"],
        batch_size=16,
        use_prefetcher=prefetch,
        num_workers=0,
        device=torch.device("cpu"),
        persistent_workers=False,
        **{key: config[key] for key in names},
    )
    return dataset.filenames(absolute=True), torch.cat([images for images, _ in loader]), config


def check(cli: Cli, tmp_path: Path, name: str, size: int, crop_pct: float, count: int) -> None:
    model = weights(name, tmp_path / "weights.pth")
    root = write_photos(tmp_path / "photos", list(imagenet_classes()[:9]), -(-count // 9))
    cli(
        *("validate", "--model.name", name, "--model.pretrained", "weights.pth", "--data.root", root),
        *("--data.batch_size", 16, "--data.num_workers", 0, "--trainer.accelerator", "cpu"),
        *("--trainer.callbacks", "tests.fidelity.recording.Record", "--trainer.enable_progress_bar", "false"),
    )
    inputs, logits = torch.cat(Record.inputs), torch.cat(Record.logits)
    paths, exact, config = of_timm(model, root, prefetch=False)
    assert config["input_size"] == (3, size, size)
    assert config["crop_pct"] == crop_pct
    assert Record.paths == paths
    assert len(paths) >= count
    assert torch.equal(inputs, exact)  # validate.py --no-prefetcher
    _, prefetched, _ = of_timm(model, root, prefetch=True)
    torch.testing.assert_close(inputs, prefetched, rtol=0, atol=2e-6)  # divides by 255 in another place
    with torch.inference_mode():
        expected = torch.cat([model(batch) for batch in prefetched.split(16)])
    assert logits.shape == (len(paths), 1000)
    scale = expected.abs().max()
    assert (expected.std(dim=0) / scale).max() > 1e-3  # the images are told apart
    torch.testing.assert_close(logits / scale, expected / scale, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "size", "crop_pct", "count"), FAST, ids=[row[0] for row in FAST])
def test_logits_are_timms(cli: Cli, tmp_path: Path, name: str, size: int, crop_pct: float, count: int) -> None:
    check(cli, tmp_path, name, size, crop_pct, count)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "crop_pct", "count"), SLOW, ids=[row[0] for row in SLOW])
def test_logits_of_100_images_are_timms(
    cli: Cli, tmp_path: Path, name: str, size: int, crop_pct: float, count: int
) -> None:
    check(cli, tmp_path, name, size, crop_pct, count)


def test_only_transparency_and_16_bits_are_read_in_another_way(tmp_path: Path) -> None:
    """timm shows the hidden colors of transparent pixels, and 16-bit gray as white; ImageNet has neither."""
    from inceptionnext_lit.data.decode.image import load_image

    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "a.png")
    Image.new("I;16", (2, 2), 32896).save(tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "b.png") as other:
        assert one.convert("RGB").getpixel((0, 0)) == (10, 20, 30)
        assert other.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert load_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)
    assert load_image(tmp_path / "b.png").getpixel((0, 0)) == (128, 128, 128)


def test_the_family_is_tested_like_timms_entries_of_it() -> None:
    """Except the base model, which its authors crop like the others (0.875) and timm does not."""
    keys = ("input_size", "test_input_size", "crop_pct", "test_crop_pct", "interpolation", "mean", "std")
    differences = {}
    for size in ("atto", "tiny", "small", "base"):
        names = f"inceptionnext_{size}", f"inception_next_{size}"
        ours, theirs = (timm.get_pretrained_cfg(name).to_dict() for name in names)
        for key in keys:
            if ours.get(key) != theirs.get(key):
                differences[size, key] = ours.get(key), theirs.get(key)
    assert differences == {("base", "crop_pct"): (0.875, 0.95)}
