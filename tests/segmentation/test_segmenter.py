"""The segmentation model: its maps, its parameters, and the layer decay of its stages."""

import pytest
import timm
import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.decoders import SemanticFPN
from inceptionnext_lit.models.pyramid import SimplePyramid, StageMaps, feature_maps
from inceptionnext_lit.models.segmenter import DecoderName, Segmenter, resized
from inceptionnext_lit.training.optim import OptimizerOptions


def segmenter(name: str, decoder: DecoderName = "semantic_fpn", **kwargs: object) -> Segmenter:
    return Segmenter(feature_maps(timm.create_model(name, num_classes=0, **kwargs), name), 5, decoder)


@pytest.mark.parametrize(
    ("name", "kwargs", "kind"),
    [
        ("inceptionnext_atto", {}, StageMaps),
        ("inceptionnext_iso_micro", {}, SimplePyramid),
        pytest.param("resnet18", {}, StageMaps, marks=pytest.mark.slow),
        pytest.param("convnext_atto", {}, StageMaps, marks=pytest.mark.slow),
        pytest.param("poolformer_s12", {}, StageMaps, marks=pytest.mark.slow),
        pytest.param("deit_tiny_patch16_224", {"img_size": 64}, SimplePyramid, marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", {"img_size": 64}, StageMaps, marks=pytest.mark.slow),
    ],
)
def test_maps_have_strides_4_to_32(name: str, kwargs: dict[str, object], kind: type) -> None:
    backbone = timm.create_model(name, num_classes=0, **kwargs)
    maps = feature_maps(backbone, name)
    assert isinstance(maps, kind)
    images = torch.randn(1, 3, 64, 64)
    assert [tuple(x.shape) for x in maps(images)] == [
        (1, dim, 64 // stride, 64 // stride) for dim, stride in zip(maps.channels, (4, 8, 16, 32), strict=True)
    ]


def test_maps_are_those_of_features_only() -> None:
    torch.manual_seed(0)
    whole = timm.create_model("inceptionnext_atto", num_classes=0).eval()
    reference = timm.create_model("inceptionnext_atto", features_only=True).eval()
    reference.model.load_state_dict(whole.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 96)
    for found, expected in zip(feature_maps(whole, "atto").eval()(images), reference(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_isotropic_maps_come_from_four_blocks() -> None:
    backbone = timm.create_model("inceptionnext_iso_small", num_classes=0)
    maps = feature_maps(backbone, "iso")
    assert isinstance(maps, SimplePyramid)
    assert maps.levels == [4, 8, 13, 17]
    assert [type(layer).__name__ for layer in maps.scales[0]] == [  # type: ignore[union-attr]
        "ConvTranspose2d",
        "BatchNorm2d",
        "GELU",
        "ConvTranspose2d",
    ]
    assert isinstance(maps.scales[3], torch.nn.MaxPool2d)


@pytest.mark.parametrize("decoder", ["upernet", "semantic_fpn"])
def test_sizes_of_logits(decoder: DecoderName) -> None:
    model = Segmenter(
        feature_maps(timm.create_model("inceptionnext_atto", num_classes=0), "atto"),
        5,
        decoder,
        decoder_kwargs={"width": 16},
    )
    images = torch.randn(2, 3, 64, 96)
    outputs = model(images)
    logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
    assert logits.shape == (2, 5, 16, 24)
    assert [one.shape for one in auxiliary] == ([(2, 5, 4, 6)] if decoder == "upernet" else [])
    evaluated = model.eval()(images)
    assert resized(evaluated, (64, 96)).shape == (2, 5, 64, 96)


def test_parameters_are_those_of_the_backbone_and_the_decoder() -> None:
    model = segmenter("inceptionnext_atto")
    features = timm.create_model("inceptionnext_atto", features_only=True)
    decoder = SemanticFPN((40, 80, 160, 320), 5)
    parts = [sum(p.numel() for p in part.parameters()) for part in (features, decoder, model.norms)]
    assert sum(p.numel() for p in model.parameters()) == sum(parts)
    assert parts[2] == 2 * (40 + 80 + 160 + 320)


def test_powers_of_the_layer_decay_are_convnexts() -> None:
    exponents = segmenter("inceptionnext_atto").decay_exponents()
    assert exponents["maps.backbone.stem.0.weight"] == 7
    assert [exponents[f"maps.backbone.stages.{stage}.downsample.1.weight"] for stage in (1, 2, 3)] == [7, 7, 7]
    assert [exponents[f"maps.backbone.stages.{stage}.blocks.0.mlp.fc1.weight"] for stage in range(4)] == [6, 5, 4, 3]
    assert exponents["norms.0.weight"] == exponents["decoder.classifier.1.weight"] == 0
    assert [round(0.9**power, 3) for power in (7, 6, 5, 4, 3)] == [0.478, 0.531, 0.59, 0.656, 0.729]


def test_layer_decay_of_the_optimizer() -> None:
    model = segmenter("inceptionnext_atto")
    optimizer = OptimizerOptions(layer_decay=0.9).build(model, 1e-4, 0.05)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {
        names[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    assert rates.keys() == set(names.values())
    assert rates["maps.backbone.stem.0.weight"] == (pytest.approx(1e-4 * 0.9**7), 0.05)
    assert rates["maps.backbone.stages.3.blocks.1.gamma"] == (pytest.approx(1e-4 * 0.9**3), 0.0)
    assert rates["decoder.classifier.1.weight"] == (pytest.approx(1e-4), 0.05)
    assert rates["decoder.classifier.1.bias"] == (pytest.approx(1e-4), 0.0)


def test_layer_decay_of_isotropic_models_falls_by_block() -> None:
    exponents = segmenter("inceptionnext_iso_micro").decay_exponents()
    depth = len(timm.create_model("inceptionnext_iso_micro").blocks)
    found = [exponents[f"maps.backbone.blocks.{block}.mlp.fc1.weight"] for block in range(depth)]
    assert found == list(range(depth, 0, -1))
    assert exponents["maps.backbone.stem.weight"] == depth + 1


def test_models_without_such_maps_are_refused() -> None:
    with pytest.raises(UserError, match=r"identity. does not give its feature maps"):
        feature_maps(torch.nn.Identity(), "identity")
