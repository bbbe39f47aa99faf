"""Token mixers and models with kernels: the same outputs and gradients as torch's form, and what falls back to it."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn

from inceptionnext_lit.models import VARIANTS, DepthwiseConv2d, InceptionDWConv2d
from inceptionnext_lit.models.cost import count
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.mixers import DepthwiseMixer
from inceptionnext_lit.models.registry import ROWS
from tests.kernels.convolutions import error

OPERATORS = ("depthwise", "depthwise_with_moments", "depthwise_input_grad", "depthwise_weight_grads")


def mixers_of_rows() -> dict[str, Callable[..., nn.Module]]:
    """Return the token mixers of all rows, by class and arguments."""
    factories = [row.args.get("token_mixer", InceptionDWConv2d) for row in VARIANTS]
    parts = [factory if isinstance(factory, partial) else partial(factory) for factory in factories]
    named = {f"{part.func.__name__}({part.keywords})": part for part in parts}
    return {name: part for name, part in named.items() if issubclass(part.func, DepthwiseMixer)}


def form(mixer: DepthwiseMixer) -> str:
    sizes = [[conv.kernel_size for conv in convs] for convs in mixer.launches()]
    return f"{sizes} {sum(mixer.split_sizes) / mixer.split_sizes[1]:.4g}"


def use_kernels(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "kernels"):
            module.kernels = "triton"
    return model


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the output, and the gradients of the input and the parameters."""
    x = x.clone().requires_grad_()
    out = model(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).cos().reshape(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [x, *model.parameters()])]


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Compare gradients, of which those of biases before a BatchNorm are nothing but rounding errors."""
    least = 0.1 * max(float(value.abs().max()) for value in expected)
    for tensor, value in zip(found, expected, strict=True):
        assert error(tensor, value.double(), least) < tolerance


def used_by(model: nn.Module, *inputs: Tensor) -> set[str]:
    """Return the kernels' operators that a model runs."""
    with torch.profiler.profile() as profile:
        model(*inputs)
    return {event.name.removeprefix("inceptionnext_lit::") for event in profile.events()} & set(OPERATORS)


@pytest.fixture(params=mixers_of_rows())
def mixer(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    mixer = mixers_of_rows()[request.param](32)
    for parameter in mixer.parameters():
        nn.init.normal_(parameter)
    return mixer


@pytest.mark.usefixtures("interpreter")
def test_each_rows_mixer_is_the_same_in_double_precision(mixer: nn.Module) -> None:
    x = torch.randn(2, 32, 9, 6)
    exact = gradients(copy.deepcopy(mixer).double(), x.double())
    found = gradients(use_kernels(mixer), x)
    assert used_by(mixer, x) == {"depthwise"}
    for tensor, value in zip(found, exact, strict=True):
        assert error(tensor, value) < 1e-5


@pytest.mark.slow
def test_no_model_has_another_mixer() -> None:
    known = {form(make(96)) for make in mixers_of_rows().values()}
    found = set()
    for name in ROWS:
        with torch.device("meta"):
            model = timm.create_model(name)
        found |= {form(module) for module in model.modules() if isinstance(module, DepthwiseMixer)}
    assert len(found) > 10
    assert found <= known


@pytest.fixture
def tiny() -> Callable[..., nn.Module]:
    """Builds a small InceptionNeXt whose norms and LayerScale matter."""

    def build(name: str = "inceptionnext_tiny", **kwargs: Any) -> nn.Module:
        torch.manual_seed(0)
        size = {"depths": (1, 1), "dims": (16, 24), "mlp_ratios": (2, 2), "num_classes": 3}
        model = timm.create_model(name, **(size | kwargs))
        for key, parameter in model.named_parameters():
            nn.init.normal_(parameter, mean=key.endswith(("gamma", "norm.weight")), std=0.3)
        return model

    return build


IMAGES = torch.linspace(-2, 2, 2 * 3 * 32 * 36).sin().reshape(2, 3, 32, 36)


@pytest.mark.usefixtures("interpreter")
def test_evaluation_and_the_inference_form(tiny: Callable[..., nn.Module]) -> None:
    model = tiny().eval()
    with torch.inference_mode():
        expected = model(IMAGES)
        for one in (model, deploy(model)):
            assert used_by(use_kernels(one), IMAGES) == {"depthwise"}
            torch.testing.assert_close(one(IMAGES), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("name", ["inceptionnext_tiny", "inceptionnext_tiny_sequential", "convnext_tiny_k3_par1_2"])
@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_training_step(tiny: Callable[..., nn.Module], name: str, checkpointing: bool) -> None:
    model = tiny(name, head_ratio=3, drop_path_rate=0.3)
    model.set_grad_checkpointing(checkpointing)
    other, exact = use_kernels(copy.deepcopy(model)), copy.deepcopy(model).double()
    results = []
    for one, images in ((other, IMAGES), (exact, IMAGES.double()), (model, IMAGES)):
        torch.manual_seed(1)
        results.append(gradients(one, images))
    assert_close(*results[:2], tolerance=1e-4)
    for (key, found), expected in zip(other.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.usefixtures("interpreter")
def test_a_training_step_under_autocast(tiny: Callable[..., nn.Module]) -> None:
    model = tiny()
    exact = gradients(copy.deepcopy(model).double(), IMAGES.double())
    results = []
    for one in (copy.deepcopy(model), use_kernels(model)):
        with torch.autocast("cpu", torch.bfloat16):
            results.append(gradients(one, IMAGES))
    errors = []
    for theirs, ours, value in zip(*results, exact, strict=True):
        assert ours.dtype == theirs.dtype
        if value.abs().max() > 1e-9:  # before a BatchNorm, a bias has no gradient but rounding errors
            errors.append((error(ours, value), error(theirs, value)))
    ours, theirs = (sum(column) / len(errors) for column in zip(*errors, strict=True))
    assert ours < 1.2 * theirs < 0.1


@pytest.fixture
def _recompiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("interpreter", "_recompiled")
@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_a_training_step_compiles_without_graph_breaks(
    tiny: Callable[..., nn.Module], dtype: torch.dtype, checkpointing: bool
) -> None:
    model = use_kernels(tiny(depths=(2,), dims=(16,), mlp_ratios=(2,), drop_path_rate=0.1))
    model.set_grad_checkpointing(checkpointing)
    other = copy.deepcopy(model)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    results = []
    for one in (model, compiled):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            results.append(gradients(one, IMAGES))
    assert_close(*results[::-1], tolerance=1e-4 if dtype == torch.float32 else 0.05)
    for (key, found), expected in zip(other.named_buffers(), model.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=key)


@pytest.mark.slow
@pytest.mark.usefixtures("interpreter", "_recompiled")
def test_inductor_compiles_a_training_step(tiny: Callable[..., nn.Module]) -> None:
    model = use_kernels(tiny())
    expected = gradients(model, IMAGES)
    assert_close(gradients(torch.compile(model, fullgraph=True), IMAGES), expected, tolerance=1e-4)


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_exported_models_have_torchs_form(tiny: Callable[..., nn.Module], training: bool, strict: bool) -> None:
    model = use_kernels(tiny()).train(training)
    program = torch.export.export(model, (IMAGES,), strict=strict)
    assert "inceptionnext_lit" not in str(program.graph)
    assert "conv2d" in str(program.graph)
    torch.testing.assert_close(program.module()(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("interpreter")
def test_onnx_has_torchs_form(tiny: Callable[..., nn.Module]) -> None:
    pytest.importorskip("onnxscript")
    model = use_kernels(tiny()).eval()
    program = torch.onnx.export(model, (IMAGES,), dynamo=True, verbose=False)
    assert program is not None
    assert "Conv" in {node.op_type for node in program.model.graph}
    assert all("inceptionnext" not in node.domain for node in program.model.graph)


@pytest.mark.usefixtures("interpreter")
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
def test_traced_and_scripted_models_have_torchs_form(tiny: Callable[..., nn.Module]) -> None:
    model = use_kernels(tiny()).eval()
    expected = model(IMAGES)
    for traced in (torch.jit.trace(model, IMAGES), torch.jit.script(model), fx.symbolic_trace(model)):
        assert used_by(traced, IMAGES) == set()
        torch.testing.assert_close(traced(IMAGES), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("interpreter")
def test_the_cost_is_the_same(tiny: Callable[..., nn.Module]) -> None:
    model = tiny().eval()
    expected = count(model, IMAGES[:1])
    assert count(use_kernels(model), IMAGES[:1]) == expected


def test_without_a_gpu_torch_computes(tiny: Callable[..., nn.Module]) -> None:
    assert used_by(use_kernels(tiny()), IMAGES) == set()


def dilated() -> nn.Module:
    return InceptionDWConv2d(16, dilation=2)


def replaced() -> nn.Module:
    mixer = InceptionDWConv2d(16)

    class Adapted(nn.Conv2d):  # as LoRA replaces a layer
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    mixer.dwconv_hw = Adapted(2, 2, 3, padding=1, groups=2)
    return mixer


def hooked() -> nn.Module:
    mixer = DepthwiseConv2d(16)
    mixer.dwconv.register_forward_hook(lambda module, inputs, out: 2 * out)
    return mixer


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("build", [dilated, replaced, hooked])
def test_what_the_kernels_cannot_do_is_left_to_torch(build: Callable[[], nn.Module]) -> None:
    mixer, x = build(), torch.randn(1, 16, 6, 6)
    expected = mixer(x)
    assert used_by(use_kernels(mixer), x) == set()
    torch.testing.assert_close(mixer(x), expected, rtol=0, atol=0)


def test_the_choice_is_not_a_part_of_the_weights_and_is_copied() -> None:
    mixer = InceptionDWConv2d(16)
    keys = list(mixer.state_dict())
    assert mixer.kernels == "torch"
    mixer.kernels = "triton"
    assert copy.deepcopy(mixer).kernels == "triton"
    assert list(mixer.state_dict()) == keys
    assert InceptionDWConv2d(16).kernels == "torch"
