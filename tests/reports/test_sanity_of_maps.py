"""Heat maps of trained networks: they lie on the object, and depend on the last layers' weights."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.reports.explain.attribution import Method, attribute

SIDE, OBJECT = 96, 32
AREA = OBJECT**2 / SIDE**2  # share of a map in the object's box by chance
NETWORKS = {"inceptionnext_nano": {}, "inceptionnext_iso_nano": {"img_size": SIDE, "patch_size": 8}}
STEPS = {"inceptionnext_nano": 40, "inceptionnext_iso_nano": 60}
LAST = {"inceptionnext_nano": ("stages.3", "head"), "inceptionnext_iso_nano": ("blocks.4", "blocks.5", "head")}
Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor, list[tuple[int, int]]]]


@pytest.fixture(scope="module")
def draw(sample: Path) -> Draw:
    """Draw images: a bag (class 1) or a sandal (class 2) off-center on plain ground, or the ground alone (class 0)."""
    objects = []
    for name in ("bag", "sandal"):
        paths = sorted((sample / "train" / name).iterdir())[:40]
        pictures = [Image.open(path).convert("L").resize((OBJECT, OBJECT)) for path in paths]
        objects.append([torch.from_numpy(np.array(picture)).float() / 255 for picture in pictures])

    def drawn(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        images, labels, corners = torch.zeros(count, 3, SIDE, SIDE), torch.zeros(count, dtype=torch.long), []
        for number in range(count):
            label, which, *places = torch.randint(0, 2**31, (6,), generator=generator).tolist()
            labels[number] = label % 3
            row, column = (
                place % 8 + (far % 2) * (SIDE - OBJECT - 8) for place, far in zip(places[:2], places[2:], strict=True)
            )
            corners.append((row, column))
            if labels[number] > 0:
                chosen = objects[label % 3 - 1]
                images[number, :, row : row + OBJECT, column : column + OBJECT] = chosen[which % len(chosen)]
        return (images - 0.2) / 0.3, labels, corners

    return drawn


def trained(name: str, draw: Draw) -> nn.Module:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=3, **NETWORKS[name]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS[name])
    for _ in range(STEPS[name]):
        images, labels, _ = draw(24, generator)
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def upsampled(raw: Tensor) -> Tensor:
    return functional.interpolate(raw[None, None], size=(SIDE, SIDE), mode="bilinear")[0, 0]


def rank_correlation(ours: Tensor, theirs: Tensor) -> float:
    """Return Spearman's correlation of two maps, 0 if one is constant."""
    if ours.std() == 0 or theirs.std() == 0:
        return 0.0
    return float(spearmanr(ours.flatten(), theirs.flatten()).statistic)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_of_trained_networks(name: str, draw: Draw) -> None:
    model = trained(name, draw)
    images, labels, corners = draw(48, torch.Generator().manual_seed(1))
    with torch.no_grad():
        predicted = model(images).argmax(dim=1)
    assert (predicted == labels).float().mean() > 0.8
    shown = [int(number) for number in ((predicted == labels) & (labels > 0)).nonzero()[:16, 0]]
    for method in ("gradcam", "gradcam++"):
        before = maps_of(model, method, images[shown], labels[shown])
        shares = []
        for raw, number in zip(before, shown, strict=True):
            heat, (row, column) = upsampled(raw), corners[number]
            shares.append(float(heat[row : row + OBJECT, column : column + OBJECT].sum() / heat.sum().clamp(min=1e-12)))
        same = maps_of(copy.deepcopy(model), method, images[shown], labels[shown])
        kept = []
        for seed in range(3):
            after = maps_of(randomized(model, LAST[name], seed), method, images[shown], labels[shown])
            kept += [rank_correlation(one, other) for one, other in zip(before, after, strict=True)]
        assert np.mean(shares) > 3 * AREA
        assert [rank_correlation(one, other) for one, other in zip(before, same, strict=True)] == pytest.approx(
            [1] * 16
        )
        # not 0: on plain ground, random layers respond to the object too
        assert np.mean(kept) < 0.75


def maps_of(model: nn.Module, method: Method, images: Tensor, labels: Tensor) -> list[Tensor]:
    return [attribute(model, image[None], method, int(label)) for image, label in zip(images, labels, strict=True)]


def randomized(model: nn.Module, layers: tuple[str, ...], seed: int) -> nn.Module:
    """Return a copy of a network whose last layers are as before training (arXiv 1810.03292, section 3)."""
    other = copy.deepcopy(model)
    torch.manual_seed(seed)
    for name in layers:
        for module in other.get_submodule(name).modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return other
