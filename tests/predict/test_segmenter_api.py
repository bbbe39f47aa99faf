"""``load_segmenter``: images of all kinds, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inceptionnext_lit import load_classifier, load_segmenter
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks.segmentation.inference import InferenceOptions
from inceptionnext_lit.tasks.segmentation.options import SegmentationOptions
from tests.small_checkpoint import save_checkpoint
from tests.small_segmenter import CLASSES, PALETTE, save_segmenter


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_segmenter(tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def test_all_kinds_of_images(tmp_path: Path, checkpoint: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "x.png")
    segmenter = load_segmenter(checkpoint)
    assert segmenter.class_names == CLASSES
    images = [tmp_path / "x.png", str(tmp_path / "x.png"), image, pixels, torch.from_numpy(pixels).permute(2, 0, 1)]
    found = segmenter.predict(images)
    assert len(found) == 5
    for one in found:
        assert one.mask.shape == (40, 56)
        assert np.array_equal(one.mask, found[0].mask)
        assert one.confidence == found[0].confidence
    scores = segmenter.probabilities(image)
    assert scores.shape == (3, 40, 56)
    assert np.allclose(scores.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(scores.argmax(axis=0), found[0].mask)
    assert found[0].confidence == pytest.approx(float(scores.max(axis=0).mean()), abs=1e-6)
    assert found[0].areas == {name: (found[0].mask == k).mean() for k, name in enumerate(CLASSES)}


def test_a_mask_is_saved_and_colored(tmp_path: Path, checkpoint: Path) -> None:
    [found] = load_segmenter(checkpoint).predict(np.random.default_rng(1).integers(0, 255, (30, 50, 3), dtype=np.uint8))
    found.save(tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as mask:
        assert np.array_equal(np.asarray(mask), found.mask)
        assert np.array_equal(np.asarray(mask.convert("RGB")), np.asarray(found.colored))
    assert np.array_equal(np.asarray(found.colored), np.array(PALETTE, dtype=np.uint8)[found.mask])
    with pytest.raises(UserError, match=r"m\.jpg does not end in \.png"):
        found.save(tmp_path / "m.jpg")


def test_images_are_resized_to_the_test_scale(tmp_path: Path) -> None:
    task = save_segmenter(tmp_path / "s.ckpt", preprocessing={"scale": [64, 32]})
    segmenter = load_segmenter(tmp_path / "s.ckpt")
    pixels = np.zeros((60, 240, 3), dtype=np.uint8)
    seen = []
    segmenter.task.model.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    assert segmenter.predict(pixels)[0].mask.shape == (60, 240)
    assert seen == [(1, 3, 16, 64)]
    assert task.preprocessing is not None


def test_several_scales_start_from_the_original_image(tmp_path: Path) -> None:
    options = SegmentationOptions(
        decoder="semantic_fpn",
        decoder_kwargs={"width": 16, "head_width": 8},
        inference=InferenceOptions(scales=[1.0, 2.0]),
    )
    save_segmenter(tmp_path / "s.ckpt", options=options, preprocessing={"scale": [64, 32]})
    segmenter = load_segmenter(tmp_path / "s.ckpt")
    pixels = np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)
    original = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - 0.5) / 0.25
    views = [
        torch.nn.functional.interpolate(original[None], size, mode="bilinear", align_corners=False)
        for size in ((32, 53), (64, 107))
    ]
    with torch.inference_mode():
        logits = [
            torch.nn.functional.interpolate(segmenter.task.model(view), view.shape[-2:], mode="bilinear")
            for view in views
        ]
        scores = [torch.nn.functional.interpolate(one, (60, 100), mode="bilinear")[0].softmax(dim=0) for one in logits]
    assert np.allclose(segmenter.probabilities(pixels), torch.stack(scores).mean(dim=0).numpy(), atol=1e-5)


def test_checkpoints_of_the_other_kind(tmp_path: Path, checkpoint: Path) -> None:
    save_checkpoint(tmp_path / "c.ckpt", ["cat", "dog"])
    with pytest.raises(UserError, match=r"c\.ckpt is a checkpoint of a classifier, and this needs one of a segment"):
        load_segmenter(tmp_path / "c.ckpt")
    with pytest.raises(UserError, match=r"best\.ckpt is a checkpoint of a segmentation model, and this needs one of a"):
        load_classifier(checkpoint)
    with pytest.raises(UserError, match="Unknown device 'gpu'"):
        load_segmenter(checkpoint, device="gpu")
