"""Preprocessing of pretrained weights, from timm's entries and from files."""

import json
from pathlib import Path

import pytest
import timm
import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.pretrained_input import PretrainedInput, pretrained_input
from inceptionnext_lit.models.weights import save_weights

MODEL = "inceptionnext_iso_micro"
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
STORED = {"image_size": 28, "crop_pct": 0.9, "interpolation": "bilinear", "mean": [0.3] * 3, "std": [0.4] * 3}


def test_timm_entries() -> None:
    assert pretrained_input("vit_base_patch16_224", True) == PretrainedInput(
        [0.5] * 3, [0.5] * 3, "bicubic", 0.9, "center", "timm's entry of vit_base_patch16_224"
    )
    found = pretrained_input("convnext_base.fb_in22k_ft_in1k_384", True)
    assert found is not None
    assert (found.crop_pct, found.crop_mode, (found.mean, found.std)) == (1.0, "squash", IMAGENET)
    overlaid = pretrained_input("vit_base_patch16_224", True, {"mean": (0.1, 0.2, 0.3)})
    assert overlaid is not None
    assert (overlaid.mean, overlaid.std) == ([0.1, 0.2, 0.3], [0.5] * 3)
    assert pretrained_input("inceptionnext_tiny", False) is None


def test_other_channels_have_the_average() -> None:
    found = pretrained_input("inceptionnext_tiny", True)
    assert found is not None
    assert found.for_channels(3) is found
    gray = found.for_channels(2)
    assert (gray.mean, gray.std, gray.averaged) == ([0.449] * 2, [0.226] * 2, True)


def test_files(tmp_path: Path) -> None:
    model = timm.create_model(MODEL, num_classes=2)
    torch.save(
        {"state_dict": model.state_dict(), "hyper_parameters": {"data_spec": {"preprocessing": STORED}}},
        tmp_path / "a.ckpt",
    )
    save_weights(model, tmp_path / "b.safetensors", {"preprocessing": json.dumps(STORED | {"crop_mode": "border"})})
    torch.save(model.state_dict(), tmp_path / "c.pth")
    torch.save(
        {"state_dict": model.state_dict(), "hyper_parameters": {"data_spec": {"preprocessing": None}}},
        tmp_path / "d.ckpt",
    )
    stored = PretrainedInput([0.3] * 3, [0.4] * 3, "bilinear", 0.9, "center", str(tmp_path / "a.ckpt"))
    assert pretrained_input(MODEL, str(tmp_path / "a.ckpt")) == stored
    assert pretrained_input(MODEL, str(tmp_path / "b.safetensors")) == PretrainedInput(
        [0.3] * 3, [0.4] * 3, "bilinear", 0.9, "border", str(tmp_path / "b.safetensors")
    )
    for name in ("c.pth", "d.ckpt"):
        found = pretrained_input(MODEL, str(tmp_path / name))
        assert found is not None
        assert ((found.mean, found.std), found.origin) == (IMAGENET, f"timm's entry of {MODEL}")
        assert found.assumed
    with pytest.raises(UserError, match=r"No checkpoint at .*none\.pth"):
        pretrained_input(MODEL, str(tmp_path / "none.pth"))


def test_a_config_next_to_the_file_as_on_the_hub(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "model.pth")
    entry = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "squash"}
    content = {"architecture": MODEL, "pretrained_cfg": entry}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert pretrained_input(MODEL, str(tmp_path / "model.pth")) == PretrainedInput(
        [0.5] * 3, [0.5] * 3, "bilinear", 1.0, "squash", str(tmp_path / "config.json")
    )
    for other in (json.dumps(content | {"architecture": "another"}), "{"):
        (tmp_path / "config.json").write_text(other)
        found = pretrained_input(MODEL, str(tmp_path / "model.pth"))
        assert found is not None
        assert found.mean == IMAGENET[0]
