"""Heat maps: agreement with formulas computed by hand, on every layout of feature maps."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.reports.explain.attribution import (
    BY_LAYER,
    METHODS,
    Method,
    attribute,
    explain,
    find_layer,
    grad_cam_plus_plus,
    heat_map,
)
from inceptionnext_lit.reports.explain.layers import Tapped, default_layer, find_layout
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.tasks.loading import load_random

SIDE = 64
# a network, its arguments, the layer of its map, and how its output becomes (N, C, H, W)
NCHW: Callable[[Tensor], Tensor] = lambda x: x  # noqa: E731
NETWORKS = {
    "inceptionnext_nano": ({}, "stages.3.blocks.0", NCHW),
    "inceptionnext_iso_nano": ({"img_size": SIDE}, "blocks.5", NCHW),
    "convnext_atto": ({}, "stages.3.blocks.1", NCHW),
    "resnet50": ({}, "layer4.2", NCHW),
    "swin_tiny_patch4_window7_224": (
        {"img_size": SIDE},
        "layers.3.blocks.1.norm1",
        lambda x: x.permute(0, 3, 1, 2),
    ),
    "deit_tiny_patch16_224": (
        {"img_size": SIDE},
        "blocks.11.norm1",
        lambda x: x[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2),
    ),
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=10, **NETWORKS[name][0])
    for parameter in model.parameters():  # also those that start at zero
        nn.init.normal_(parameter, std=0.05) if parameter.ndim > 1 else parameter.data.add_(0.1)
    return model.eval()


def maps_by_hand(model: nn.Module, images: Tensor, name: str, target: int) -> tuple[Tensor, Tensor]:
    """Return a layer's map and the logit's gradient, (1, C, H, W) both, from two lines of hooks."""
    _, layer, to_map = NETWORKS[name]
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    logit = model(images.clone().requires_grad_())[0, target]
    handle.remove()
    [gradient] = torch.autograd.grad(logit, kept)
    return to_map(kept[0]).detach(), to_map(gradient)


def test_the_default_layer_of_a_block_with_named_parts() -> None:
    model = timm.create_model("replknet_31b", depths=(1, 1, 1, 1), num_classes=2).eval()
    assert default_layer(model, torch.zeros(1, 3, SIDE, SIDE)) == "stages.3.blocks.0.ffn"


@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_equals_the_formula(name: str) -> None:
    model, images = network(name), torch.randn(1, 3, SIDE, SIDE)
    assert default_layer(model, images) == NETWORKS[name][1]
    positive = 0
    for target in range(4):
        maps, gradient = maps_by_hand(model, images, name, target)
        expected = (gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu()[0]
        found = attribute(model, images, "gradcam", target)
        scale = max(float(expected.max()), 1e-30)
        assert found.shape == expected.shape
        assert torch.allclose(found / scale, expected / scale, atol=1e-5)
        positive += bool(expected.max() > 0)
        found = attribute(model, images, "gradcam++", target)
        expected = grad_cam_plus_plus(maps, gradient)[0]
        assert torch.allclose(found / expected.max(), expected / expected.max(), atol=1e-5)
    assert positive >= 1
    assert not any(module._forward_hooks for module in model.modules())


def test_grad_cam_plus_plus_by_loops() -> None:
    maps, gradient = torch.rand(1, 2, 2, 3), torch.randn(1, 2, 2, 3)
    expected = torch.zeros(2, 3)
    for channel in range(2):
        weight = 0.0
        for i in range(2):
            for j in range(3):
                g = float(gradient[0, channel, i, j])
                alpha = g**2 / (2 * g**2 + float(maps[0, channel].sum()) * g**3)
                weight += alpha * max(g, 0)
        expected += weight * maps[0, channel]
    assert torch.allclose(grad_cam_plus_plus(maps, gradient)[0], expected.relu(), atol=1e-5)


def test_layouts_are_told_apart() -> None:
    swin, deit = nn.Module(), nn.Module()
    swin.output_fmt, deit.num_prefix_tokens = "NHWC", 1
    images = torch.Size((2, 3, 224, 320))

    def found(shape: tuple[int, ...], model: nn.Module, images: torch.Size = images) -> object:
        layout = find_layout(torch.zeros(shape), images, model)
        return layout and (layout.kind, layout.height, layout.width, layout.prefix)

    assert found((2, 768, 7, 10), nn.Module()) == ("NCHW", 7, 10, 0)
    assert found((2, 7, 10, 768), nn.Module()) == ("NHWC", 7, 10, 0)
    assert found((2, 1 + 14 * 20, 384), deit) == ("NLC", 14, 20, 1)
    assert found((2, 14 * 20, 384), deit) == ("NLC", 14, 20, 0)
    square = torch.Size((2, 3, 56, 56))
    assert found((2, 7, 7, 7), nn.Module(), square) == ("NCHW", 7, 7, 0)
    assert found((2, 7, 7, 7), swin, square) == ("NHWC", 7, 7, 0)
    assert found((2, 384), nn.Module()) is None
    assert found((8, 49, 96), nn.Module()) is None  # windows instead of images
    assert found((2, 383, 196), nn.Module(), torch.Size((2, 3, 224, 224))) is None
    assert find_layout((torch.zeros(2, 8, 7, 10),), images, nn.Module()) is None


@pytest.mark.slow
def test_the_tap_changes_nothing() -> None:
    for name in ("swin_tiny_patch4_window7_224", "deit_tiny_patch16_224", "resnet50"):
        model, images = network(name), torch.randn(2, 3, SIDE, SIDE)
        with torch.no_grad():
            assert torch.equal(Tapped(model, NETWORKS[name][1])(images), model(images))


def test_a_layer_that_works_in_place_afterwards() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.randn(1, 3, 8, 8)
    maps = model[0](images).detach()
    expected = ((maps > 0).float().mean(dim=(2, 3), keepdim=True)[:, :1] / 64 * maps[:, :1]).sum(dim=1).relu()[0]
    assert torch.allclose(attribute(model, images, "gradcam", 0, "0"), expected, atol=1e-6)


def test_a_network_that_does_not_name_its_maps() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert default_layer(model, torch.zeros(1, 3, 8, 8)) == "1"
    with pytest.raises(UserError, match=r"No layer of the model returns a map of the image; give one with --layer"):
        default_layer(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), torch.zeros(1, 3, 8, 8))


def test_layers_that_cannot_be_explained() -> None:
    model, images = network("deit_tiny_patch16_224"), torch.randn(1, 3, SIDE, SIDE)
    with pytest.raises(UserError, match=r"no layer 'blocks.11.norm'; did you mean blocks.11.norm2 or blocks.11.norm1"):
        attribute(model, images, "gradcam", 0, "blocks.11.norm")
    with pytest.raises(UserError, match=r"'head' does not return a map of the image, but \(1, 10\); give a layer"):
        attribute(model, images, "gradcam", 0, "head")
    shared = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), shared, nn.Conv2d(4, 4, 3), shared, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UserError, match=r"'1' runs 2 times for an image, but it must run once"):
        attribute(model, torch.randn(1, 3, 8, 8), "gradcam", 0, "1")


def test_integrated_gradients_and_occlusion_of_a_linear_network() -> None:
    linear = nn.Linear(3 * 16 * 16, 2)
    model, images = nn.Sequential(nn.Flatten(), linear), torch.randn(1, 3, 16, 16)
    parts = linear.weight[1].detach().view(3, 16, 16) * images[0]  # exact, since gradients are constant
    found = attribute(model, images, "integrated_gradients", 1)
    assert torch.allclose(found, parts.sum(dim=0).relu(), atol=1e-5)  # what speaks against the class is not shown
    assert (found == 0).float().mean() > 0.3
    # windows of 2 pixels, moved by 1: a pixel's value is the mean over its windows of their sums
    windows = parts.sum(dim=0).unfold(0, 2, 1).unfold(1, 2, 1).sum(dim=(2, 3))  # (15, 15)
    expected = torch.zeros(16, 16)
    for i in range(16):
        for j in range(16):
            expected[i, j] = windows[max(i - 1, 0) : i + 1, max(j - 1, 0) : j + 1].mean()
    assert torch.allclose(attribute(model, images, "occlusion", 1), expected.relu(), atol=1e-4)


def test_explanation_of_a_picture() -> None:
    task = load_random("inceptionnext_nano")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    found = explain(task, image, target=7)
    assert found.heat.shape == (64, 64)
    assert found.heat.dtype == np.float32
    assert found.heat.min() >= 0
    assert found.heat.max() in (0, 1)
    assert found.remark == ("" if found.heat.any() else "no evidence")
    assert found.pixels.shape == (3, 64, 64)
    with torch.no_grad():
        mean, std = (torch.tensor(task.preprocessing[key]).view(3, 1, 1) for key in ("mean", "std"))
        scores = task.model((found.pixels / 255 - mean)[None] / std).softmax(dim=1)[0]
    assert found.target == 7
    assert found.predicted == int(scores.argmax())
    assert found.probability == pytest.approx(float(scores[7]), abs=1e-6)
    assert found.predicted_probability == pytest.approx(float(scores.max()), abs=1e-6)
    assert np.array_equal(heat_map(task, found.pixels, target=7), found.heat)
    with pytest.raises(UserError, match=r"There is no class 1000; the model's classes are 0 to 999\."):
        explain(task, image, target=1000)
    with pytest.raises(UserError, match="The method occlusion explains the input and has no layer"):
        explain(task, image, method="occlusion", layer="stages.3")


def linear_task(weight: float, image_size: int = 8) -> ClassificationTask:
    """Return a task whose first logit is a weight times the mean of a 1×1 convolution's map."""
    task = load_random("inceptionnext_nano")
    task.preprocessing = {"image_size": image_size, "crop_pct": 1.0, "interpolation": "bilinear",
                          "mean": [0.0] * 3, "std": [1.0] * 3}  # fmt: skip
    task.model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    nn.init.constant_(task.model[0].weight, 1.0)
    nn.init.zeros_(task.model[3].bias)
    task.model[3].weight.data[:, 0] = torch.tensor([weight, -1.0])
    return task


@pytest.mark.parametrize("method", METHODS)
def test_what_speaks_against_a_class_is_no_evidence(method: Method) -> None:
    pixels = torch.rand(3, 8, 8)
    layer = "0" if method in BY_LAYER else None
    against = explain(linear_task(-2.0), pixels, method, target=0, layer=layer)
    assert against.remark == "no evidence"
    assert against.depends
    assert not against.heat.any()
    speaking = explain(linear_task(2.0), pixels, method, target=0, layer=layer)
    assert speaking.remark == ""
    assert speaking.heat.max() == 1
    assert not explain(linear_task(0.0), pixels, method, target=0, layer=layer).depends


@pytest.mark.parametrize("method", METHODS)
def test_a_map_that_is_the_same_everywhere(method: Method) -> None:
    found = explain(linear_task(2.0), torch.full((3, 8, 8), 0.5), method, 0, "0" if method in BY_LAYER else None)
    if method != "occlusion":  # windows overlap less at the border
        assert found.remark == "constant"
        assert found.heat == pytest.approx(np.ones((8, 8)))
    assert found.depends


def test_few_positive_pixels_are_drawn() -> None:
    pixels = torch.zeros(3, 32, 32)
    pixels[:, 3, 5] = 0.5  # less than 1% of the image
    heat = explain(linear_task(2.0, 32), pixels, "integrated_gradients", 0).heat
    assert heat[3, 5] == 1
    assert heat.sum() == 1


@pytest.mark.slow
def test_a_layer_that_the_class_token_does_not_read() -> None:
    task = load_random("deit_tiny_patch16_224")
    image = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8)
    unread = explain(task, image, "gradcam", 0, "blocks.11")
    assert unread.remark == "no evidence"
    assert not unread.depends
    assert find_layer(task) == "blocks.11.norm1"
    assert explain(task, image, "gradcam", 0).depends


def test_layers_are_found_before_an_image_is_read() -> None:
    task = load_random("inceptionnext_nano")
    assert find_layer(task) == "stages.3.blocks.0"
    assert find_layer(task, "gradcam++", "stages.1") == "stages.1"
    assert find_layer(task, "occlusion") is None
    with pytest.raises(UserError, match=r"no layer 'stage.1'; did you mean stages.1"):
        find_layer(task, layer="stage.1")
    with pytest.raises(UserError, match="'head' does not return a map of the image"):
        find_layer(task, layer="head")
    with pytest.raises(UserError, match="The method occlusion explains the input and has no layer"):
        find_layer(task, "occlusion", "stages.1")


def test_random_weights_have_a_seed_and_leave_the_generator() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (load_random("inceptionnext_iso_nano", seed).model.stem.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_without_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(UserError, match=r"need captum; install it with pip install 'inceptionnext-lit\[explain\]'"):
        heat_map(load_random("inceptionnext_nano"), Image.new("RGB", (32, 32)))
