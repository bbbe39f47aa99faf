"""Decoders of segmentation_models_pytorch: against that library's own models, on maps of any size, in training."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.pyramid import SimplePyramid, feature_maps
from inceptionnext_lit.models.segmenter import Segmenter
from inceptionnext_lit.models.smp_decoders import SmpDecoderName, smp_decoder
from tests.recipes import REPO

NAMES: tuple[SmpDecoderName, ...] = get_args(SmpDecoderName)
PIXELWISE = ("unet", "unetplusplus", "manet", "linknet")
WHOLE = (*PIXELWISE, "fpn", "segformer")
"""Decoders that take the maps of an undilated backbone."""
CHANNELS = (8, 16, 32, 64)
SMALL: Mapping[str, dict[str, Any]] = {
    **{key: {"decoder_channels": [16, 16, 8, 8, 8]} for key in ("unet", "unetplusplus", "manet")},
    "fpn": {"decoder_pyramid_channels": 16, "decoder_segmentation_channels": 32},
    "pspnet": {"psp_out_channels": 16},
    "deeplabv3": {"decoder_channels": 16},
    "deeplabv3plus": {"decoder_channels": 16},
    "segformer": {"decoder_segmentation_channels": 16},
}


def maps_of(height: int, width: int, images: int = 2) -> list[Tensor]:
    """Maps of an image, rounded down as by backbones' convolutions."""
    torch.manual_seed(0)
    return [
        torch.randn(images, dim, height // stride, width // stride)
        for dim, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)
    ]


def small(name: SmpDecoderName) -> nn.Module:
    torch.manual_seed(0)
    return smp_decoder(name, CHANNELS, 5, **SMALL.get(name, {}))


def whole_model(name: str, backbone: str) -> Any:
    head = {} if name in PIXELWISE else {"upsampling": 1}
    return smp.create_model(name, backbone, encoder_weights=None, classes=5, encoder_depth=5, **head)


@torch.no_grad()
@pytest.mark.parametrize("name", ["unet", *(pytest.param(one, marks=pytest.mark.slow) for one in WHOLE[1:])])
def test_logits_are_those_of_the_library(name: SmpDecoderName) -> None:
    torch.manual_seed(0)
    maps = feature_maps(timm.create_model("inceptionnext_atto", num_classes=0), "atto")
    ours = Segmenter(maps, 5, name, "none").eval()
    theirs = whole_model(name, "tu-inceptionnext_atto").eval()
    theirs.encoder.model.model.load_state_dict(ours.maps.backbone.state_dict())
    theirs.decoder.load_state_dict(ours.decoder.decoder.state_dict())
    theirs.segmentation_head.load_state_dict(ours.decoder.head.state_dict())
    images = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pspnet", "deeplabv3", "deeplabv3plus", "pan"])
def test_decoders_of_dilated_backbones_have_the_library_s_parameters(name: SmpDecoderName) -> None:
    maps = feature_maps(timm.create_model("resnet18", num_classes=0), "resnet18")
    ours, theirs = Segmenter(maps, 5, name), whole_model(name, "resnet18")
    for own, other in ((ours.decoder.decoder, theirs.decoder), (ours.decoder.head, theirs.segmentation_head)):
        shapes = [{key: value.shape for key, value in of.state_dict().items()} for of in (own, other)]
        assert shapes[0] == shapes[1]


@torch.no_grad()
@pytest.mark.parametrize(("name", "factor"), [("deeplabv3plus", 2), ("deeplabv3", 4), ("pspnet", 4), ("pan", 2)])
def test_the_last_map_is_resized_to_the_stride_of_a_dilated_one(name: SmpDecoderName, factor: int) -> None:
    decoder: Any = small(name).eval()
    maps = maps_of(128, 160)
    last = F.interpolate(maps[-1], scale_factor=factor, mode="bilinear", align_corners=False)
    empty = torch.empty(2, 0, 128, 160)
    expected = decoder.head(decoder.decoder([empty, empty, *maps[:-1], last]))
    expected = F.interpolate(expected, (32, 40), mode="bilinear", align_corners=False)
    torch.testing.assert_close(decoder(maps), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(64, 96), (70, 101), (33, 47)])
def test_logits_of_maps_of_any_size(name: SmpDecoderName, size: tuple[int, int]) -> None:
    maps = maps_of(*size)
    logits = small(name).eval()(maps)
    height, width = maps[0].shape[-2:]
    if name in ("pspnet", "deeplabv3"):  # they see the last map only
        height, width = (8 * side for side in maps[-1].shape[-2:])
    times = 4 if name in PIXELWISE else 1
    assert logits.shape == (2, 5, height * times, width * times)
    assert logits.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("name", ["unet", "fpn", "segformer"])
def test_padding_is_zeros_that_are_cropped(name: SmpDecoderName) -> None:
    """Maps of 24 × 32 at stride 4, of which the last column is missing."""
    decoder, maps = small(name).eval(), maps_of(96, 128)
    narrow = [x[..., : x.shape[-1] - 1] for x in maps[:1]] + maps[1:]
    maps[0][..., -1] = 0
    times = 4 if name in PIXELWISE else 1
    torch.testing.assert_close(decoder(narrow), decoder(maps)[..., : 31 * times], rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "backbone", ["inceptionnext_iso_micro", pytest.param("inceptionnext_atto", marks=pytest.mark.slow)]
)
def test_every_parameter_is_trained(name: SmpDecoderName, backbone: str) -> None:
    """DistributedDataParallel needs a gradient for each."""
    torch.manual_seed(0)
    maps = feature_maps(timm.create_model(backbone, num_classes=0), backbone)
    model = Segmenter(maps, 5, name, decoder_kwargs=SMALL.get(name, {}))
    logits = model(torch.randn(2, 3, 64, 64))
    (logits * torch.randn_like(logits)).sum().backward()
    assert [key for key, one in model.named_parameters() if one.grad is None or not one.grad.isfinite().all()] == []
    assert sum(one.grad.abs().sum() > 0 for one in model.parameters()) > 0.9 * len(list(model.parameters()))  # type: ignore[union-attr]


def test_maps_that_a_decoder_does_not_use_have_no_parameters() -> None:
    maps = feature_maps(timm.create_model("inceptionnext_iso_nano", num_classes=0, patch_size=16), "iso")
    model = Segmenter(maps, 5, "deeplabv3plus", decoder_kwargs=SMALL["deeplabv3plus"])
    assert isinstance(maps, SimplePyramid)
    assert [type(norm).__name__ for norm in model.norms] == ["BatchNorm2d", "Identity", "Identity", "BatchNorm2d"]
    assert [bool(len(list(scale.parameters()))) for scale in maps.scales] == [True, False, False, False]


def test_a_decoder_s_own_arguments() -> None:
    plain, normed = (
        smp_decoder("unet", CHANNELS, 3, decoder_channels=[8, 8, 8, 8, 4], decoder_use_norm=norm)
        for norm in (False, "batchnorm")
    )
    assert plain.head[0].in_channels == normed.head[0].in_channels == 4  # type: ignore[index, operator, union-attr]
    kinds = [[type(module) for module in of.modules()].count(nn.BatchNorm2d) for of in (plain, normed)]
    assert kinds == [0, 10]
    with pytest.raises(TypeError, match=r"it takes decoder_attention_type, .*, not decoder_chanels"):
        smp_decoder("unet", CHANNELS, 3, decoder_chanels=[8])
    with pytest.raises(TypeError, match="not encoder_depth"):
        smp_decoder("unet", CHANNELS, 3, encoder_depth=4)
    with pytest.raises(
        UserError, match=r"The decoder unet cannot be built with .*decoder_channels.*: Model depth is 5"
    ):
        smp_decoder("unet", CHANNELS, 3, decoder_channels=[8, 8])


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inceptionnext_lit.models.smp_decoders.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"The decoder unet needs .*pip install 'inceptionnext-lit\[smp\]'"):
        smp_decoder("unet", CHANNELS)


def test_all_of_the_library_s_decoders_but_two() -> None:
    """``upernet`` is MMSegmentation's here, and DPT builds maps of its own from the tokens of a ViT."""
    assert set(smp.MODEL_ARCHITECTURES_MAPPING) == {*NAMES, "upernet", "dpt"}


def trained(cli: Callable[..., None], decoder: str, kwargs: Sequence[object] = ()) -> dict[str, Any]:
    cli(
        *("fit", "--config", REPO / "configs/segment/quickstart.yaml", "--run_name", decoder),
        *("--model.name", "inceptionnext_iso_micro", "--data.batch_size", 4, "--trainer.max_steps", 2),
        *("--trainer.max_epochs", -1, "--trainer.check_val_every_n_epoch", 1, "--trainer.limit_val_batches", 1),
        *("--model.segmentation.decoder", decoder, *kwargs),
    )
    return torch.load(f"runs/{decoder}/version_0/checkpoints/last.ckpt", weights_only=True)


@pytest.mark.slow
def test_training_through_the_command_line(
    cli: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCEPTIONNEXT_LIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("inceptionnext_lit.data.sources.scenes.COUNTS", {"train": 8, "val": 4})
    channels = ("--model.segmentation.decoder_kwargs", "{decoder_channels: [16, 16, 8, 8, 8]}")
    checkpoint = trained(cli, "unet", channels)
    assert checkpoint["global_step"] == 2
    assert checkpoint["hyper_parameters"]["segmentation"]["decoder"] == "unet"
    assert checkpoint["state_dict"]["model.decoder.head.0.weight"].shape == (6, 8, 3, 3)
    cli("validate", "--ckpt_path", "runs/unet/version_0/checkpoints/last.ckpt", "--data.root", "scenes")
