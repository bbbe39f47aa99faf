"""Heat maps of segmentation models, and the command explain with them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from inceptionnext_lit.data.scenes import SceneInput
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.segmenter import resized
from inceptionnext_lit.reports.explain.attribution import METHODS
from inceptionnext_lit.reports.explain.regions import RegionScores, explain_class, find_region_layer, read_scene
from inceptionnext_lit.tasks.segmentation import SegmentationTask
from tests.scenes import NAMES, scene, write_image
from tests.small_segmenter import INPUT, save_segmenter

Cli = Callable[..., None]
LAYER = "maps.backbone.blocks.2"


@pytest.fixture
def task(tmp_path: Path) -> SegmentationTask:
    return save_segmenter(tmp_path / "a.ckpt", classes=NAMES)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.from_numpy(scene(3, 48, 72)[0]).permute(2, 0, 1)


def test_grad_cam_is_its_definition(task: SegmentationTask, pixels: torch.Tensor) -> None:
    """On the mean logit of the pixels predicted as the class, resized to the image."""
    images = SceneInput(INPUT)(pixels)[None]
    with torch.no_grad():  # so that no class is the best everywhere
        task.model.decoder.classifier[1].bias -= task.model(images).mean(dim=(0, 2, 3))
    maps: list[torch.Tensor] = []
    handle = task.model.get_submodule(LAYER).register_forward_hook(lambda module, args, output: maps.append(output))
    logits = resized(task.model(images), (48, 72))
    handle.remove()
    predicted = logits[0].argmax(dim=0)
    target = int(predicted.flatten().bincount(minlength=3).argsort()[1])
    region = predicted == target
    assert 0 < region.sum() < region.numel()
    [gradient] = torch.autograd.grad(logits[0, target][region].mean(), maps)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    cam = (weights * maps[0]).sum(dim=1, keepdim=True).relu()
    expected = functional.interpolate(cam, size=(48, 72), mode="bilinear", align_corners=False)[0, 0]
    found = explain_class(task, pixels, "gradcam", target)
    torch.testing.assert_close(torch.from_numpy(found.heat), (expected / expected.max()).detach(), atol=1e-4, rtol=1e-4)
    assert found.share == pytest.approx(float(region.float().mean()))
    probability = logits.softmax(dim=1)[0, target][region].mean()
    assert found.probability == pytest.approx(float(probability.detach()), abs=1e-6)


def test_a_class_that_is_not_predicted_is_explained_everywhere(task: SegmentationTask, pixels: torch.Tensor) -> None:
    with torch.no_grad():
        task.model.decoder.classifier[1].bias[2] -= 1e4
    found = explain_class(task, pixels, "gradcam", 2)
    assert found.share == 0
    assert found.heat.shape == (48, 72)
    images = SceneInput(INPUT)(pixels)[None]
    whole = RegionScores(task.model)(images)
    resized_mean = resized(task.model(images), (48, 72)).mean(dim=(2, 3))
    torch.testing.assert_close(whole, resized_mean, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map(task: SegmentationTask, pixels: torch.Tensor, method: str) -> None:
    found = explain_class(task, pixels, method, 1)  # type: ignore[arg-type]
    assert found.heat.shape == (48, 72)
    assert 0 <= found.heat.min() <= found.heat.max() <= 1
    assert found.depends


def test_layers(task: SegmentationTask) -> None:
    assert find_region_layer(task) == LAYER
    assert find_region_layer(task, "occlusion") is None
    assert find_region_layer(task, "gradcam++", "maps.backbone.blocks.0") == "maps.backbone.blocks.0"
    with pytest.raises(UserError, match=r"The model has no layer 'blocks\.2'; "):
        find_region_layer(task, "gradcam", "blocks.2")
    with pytest.raises(UserError, match="has no layer; leave out --layer"):
        find_region_layer(task, "occlusion", LAYER)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer4.1"), ("swin_tiny_patch4_window7_224", "layers.3.blocks.1.norm1"),
     ("convnext_atto", "stages.3.blocks.1"), ("inceptionnext_atto", "stages.3.blocks.1"),
     ("vit_tiny_patch16_224", "blocks.11.norm1")],
)  # fmt: skip
def test_other_backbones(name: str, layer: str) -> None:
    from inceptionnext_lit.data_spec import DataSpec

    torch.manual_seed(0)
    arguments = {"kwargs": {"img_size": 64}} if "224" in name else {}
    preprocessing = INPUT | {"image_size": 64}
    task = SegmentationTask(name, data_spec=DataSpec(NAMES, preprocessing=preprocessing), **arguments)  # type: ignore[arg-type]
    assert find_region_layer(task) == f"maps.backbone.{layer}"
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    assert explain_class(task, image, "gradcam", 1).depends


def test_an_image_is_read_at_the_test_scale(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", scene(0, 40, 60)[0])
    assert read_scene(INPUT, str(path)).shape == (3, 40, 60)
    assert read_scene(INPUT | {"scale": [30, 20]}, str(path)).shape == (3, 20, 30)  # type: ignore[typeddict-item]


def test_the_command(task: SegmentationTask, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "photos/a.png", scene(0, 40, 60)[0])
    cli("explain", "a.ckpt", "photos/a.png", "--class", "cat", "--output", "map.svg", "--device", "cpu")
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == f"a.ckpt: gradcam for cat, layer {LAYER}"
    assert re.match(r"photos/a\.png: a\.ckpt: cat 0\.\d{3}, (\d+\.\d% of the pixels|not predicted: all pixels)", second)
    assert last == "Written to map.svg"
    svg = Path("map.svg").read_text()
    assert svg.count("<image ") == 2
    assert "gradcam for cat" in svg

    def refused(*words: object) -> str:
        with pytest.raises(SystemExit):
            cli("explain", "a.ckpt", *words)
        return capsys.readouterr().err.splitlines()[-1]

    assert refused("photos", "--output", "b.svg") == (
        "error: a.ckpt is a segmentation model, which predicts a class for each pixel; give the class to explain with "
        "--class: background, cat, dog."
    )
    assert refused("photos", "--output", "b.svg", "--class", "dgo") == (
        "error: a.ckpt has no class 'dgo'; did you mean dog?"
    )
    assert refused("--spectrum", "--data.root", "photos", "--output", "b.svg") == (
        "error: a.ckpt is a segmentation model, and --spectrum measures classifiers; give a checkpoint of its "
        "backbone's classifier."
    )
    assert not Path("b.svg").exists()
