"""GoogLeNet against torchvision's, its weights and their normalization, and the two Inception modules."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import GoogLeNet_Weights, googlenet

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.baselines.googlenet import MODULES, ROWS, Inception, NaiveInception, Widths
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.formats import to_public
from inceptionnext_lit.models.pretrained_input import pretrained_input
from inceptionnext_lit.models.weights import load_weights

Randomise = Callable[[nn.Module], nn.Module]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


def amplified(model: nn.Module) -> nn.Module:
    """Give convolutions weights that do not damp the signal layer by layer, as the initial ones do."""
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return model.eval()


@pytest.fixture
def theirs(randomise: Randomise) -> nn.Module:
    """torchvision's model with auxiliary classifiers, as in its file, whose logits depend on the image."""
    return amplified(randomise(googlenet(weights=None, aux_logits=True, init_weights=False)))


@pytest.fixture
def file(theirs: nn.Module, tmp_path: Path) -> Path:
    """A file like torchvision's."""
    path = tmp_path / "googlenet.pth"
    torch.save(theirs.state_dict(), path)
    return path


def test_torchvisions_file(theirs: nn.Module, file: Path) -> None:
    ours = timm.create_model("googlenet").eval()
    report = load_weights(ours, file)
    auxiliary = tuple(name for name in theirs.state_dict() if name.startswith("aux"))
    assert (len(report.loaded), len(report.skipped)) == (len(ours.state_dict()), len(auxiliary))
    assert report.skipped == auxiliary
    assert str(report).startswith(f"{file} (torchvision's GoogLeNet): {len(report.loaded)} tensors loaded, ")
    images = torch.randn(2, 3, 64, 97)
    with torch.no_grad():
        assert_close(ours(images), theirs(images))
    public = to_public(ours.state_dict(), ours)
    assert list(public) == [name for name in theirs.state_dict() if name not in auxiliary]
    through_timm = timm.create_model("googlenet", pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    for name, tensor in through_timm.state_dict().items():
        torch.testing.assert_close(tensor, ours.state_dict()[name], rtol=0, atol=0)


def test_the_normalization_is_the_one_that_torchvision_turns_its_input_into(theirs: nn.Module, file: Path) -> None:
    found = pretrained_input("googlenet", str(file))
    assert found is not None
    assert (found.mean, found.std, found.interpolation, found.crop_pct) == ([0.5] * 3, [0.5] * 3, "bilinear", 0.875)
    transforms = GoogLeNet_Weights.IMAGENET1K_V1.transforms()
    assert (transforms.interpolation.value, transforms.crop_size[0] / transforms.resize_size[0]) == ("bilinear", 0.875)
    torch.testing.assert_close((torch.tensor(transforms.mean), torch.tensor(transforms.std)), (MEAN, STD))
    ours = timm.create_model("googlenet").eval()
    load_weights(ours, file)
    pixels = torch.rand(1, 3, 64, 64)
    theirs.transform_input = True  # as torchvision sets it for its weights
    with torch.no_grad():
        expected = theirs((pixels - MEAN[:, None, None]) / STD[:, None, None])
        assert_close(ours((pixels - 0.5) / 0.5), expected)
        other = ours((pixels - MEAN[:, None, None]) / STD[:, None, None])
        assert (other - expected).norm() > 0.1 * expected.norm()


def test_the_row_is_torchvisions_entry() -> None:
    entry = GoogLeNet_Weights.IMAGENET1K_V1
    assert ROWS[0].url == entry.url
    assert ROWS[0].top1 == pytest.approx(entry.meta["_metrics"]["ImageNet-1K"]["acc@1"], abs=0.05)
    assert ROWS[0].params_m == round(entry.meta["num_params"] / 1e6, 2)


@pytest.mark.slow
def test_gradients_equal_torchvisions(theirs: nn.Module, file: Path) -> None:
    ours = timm.create_model("googlenet").eval()
    load_weights(ours, file)
    images, target = torch.randn(2, 3, 96, 80, dtype=torch.float64), torch.randn(2, 1000, dtype=torch.float64)
    for model in (ours, theirs):
        model.double()
        functional.mse_loss(model(images), target).backward()
    gradients = to_public({name: p.grad for name, p in ours.named_parameters()}, ours)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, theirs.get_parameter(name).grad, rtol=1e-8, atol=1e-12, msg=name)


@pytest.mark.parametrize("name", ["googlenet", "googlenet_naive"])
def test_the_smallest_image(name: str) -> None:
    model = timm.create_model(name, modules=[[Widths(3, 2, 4, 2, 2, 2)]] * 3, stem_dims=(4, 6), num_classes=2).eval()
    assert model(torch.zeros(1, 3, 15, 15)).shape == (1, 2)
    with pytest.raises(UserError, match=r"^An image of 14×15 pixels is too small: this model needs at least 15×15\.$"):
        model(torch.zeros(1, 3, 14, 15))


def branch(conv: nn.Module, x: Tensor) -> Tensor:
    """Compute a convolution with BatchNorm and ReLU from its parameters."""
    weight, norm = conv.conv.weight, conv.bn
    y = functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
    y = functional.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3)
    return y.clamp(min=0)


def test_the_naive_module_is_the_papers_figure_2a(randomise: Randomise) -> None:
    module = randomise(NaiveInception(8, Widths(3, 99, 5, 99, 4, 99))).eval()
    x = torch.randn(2, 8, 6, 7)
    convolved = [branch(one, x) for one in (module.branch1, module.branch2, module.branch3)]
    assert [one.conv.kernel_size for one in (module.branch1, module.branch2, module.branch3)] == [
        (1, 1),
        (3, 3),
        (5, 5),
    ]
    expected = torch.cat([*convolved, functional.max_pool2d(x, 3, 1, 1)], 1)
    torch.testing.assert_close(module(x), expected)
    assert module.dim == expected.shape[1] == 3 + 5 + 4 + 8


def test_the_reduced_module_is_the_papers_figure_2b(randomise: Randomise) -> None:
    module = randomise(Inception(8, Widths(3, 2, 5, 2, 4, 6))).eval()
    x = torch.randn(2, 8, 6, 7)
    expected = [branch(module.branch1, x)]
    expected += [branch(second, branch(first, x)) for first, second in (module.branch2, module.branch3)]
    expected.append(branch(module.branch4[1], functional.max_pool2d(x, 3, 1, 1)))
    torch.testing.assert_close(module(x), torch.cat(expected, 1))
    assert module.branch3[1].conv.kernel_size == (5, 5)
    assert module.dim == 3 + 5 + 4 + 6


def test_the_widths_are_the_papers() -> None:
    outputs = [one.square1 + one.square3 + one.square5 + one.project for one in MODULES.values()]
    assert outputs == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    with torch.device("meta"):
        naive = timm.create_model("googlenet_naive")
    dims = [module.dim for module in naive.modules() if isinstance(module, NaiveInception)]
    assert dims == [416, 832, 1280, 1728, 2176, 2640, 3344, 4048, 4944]
    assert [level["num_chs"] for level in naive.feature_info] == [192, 832, 3344, 4944]


def test_the_deployed_form_has_no_norms(randomise: Randomise) -> None:
    model = timm.create_model("googlenet", modules=[[Widths(3, 2, 4, 2, 2, 2)]] * 3, stem_dims=(4, 6), num_classes=2)
    folded = deploy(amplified(randomise(model)))
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    images = torch.randn(2, 3, 64, 64)
    logits = model(images)
    assert_close(folded(images), logits)
    assert (logits[0] - logits[1]).norm() > 0.01 * logits.norm()
