"""torch.fx and TorchScript support each row, as trained and as deployed, with the same outputs."""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.models import FeatureHookNet
from torch import fx, nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torchvision.models.feature_extraction import create_feature_extractor

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import MetaNeXt, Variant
from inceptionnext_lit.models.convolutions import ScaledConv2d
from inceptionnext_lit.models.deploy import deploy
from tests.models.rows import MIXERS, each_mixer, only

Build = Callable[..., nn.Module]
Randomise = Callable[[nn.Module], nn.Module]
IMAGE = torch.linspace(-2, 2, 2 * 3 * 64 * 48).sin().reshape(2, 3, 64, 48)  # resamples a position embedding
# torch deprecates both in favor of torch.export, but other tools still use them
pytestmark = pytest.mark.filterwarnings("ignore:.*(torch.jit|torch.ao.quantization).* is deprecated")


def script(model: nn.Module) -> nn.Module:
    # TorchScript identifies builtins by ``id``, and confuses a layer's list with a freed builtin at the same address
    builtins = torch.jit._builtins._get_builtin_table()
    for value in [value for module in model.modules() for value in vars(module).values() if not callable(value)]:
        builtins.pop(id(value), None)
    return torch.jit.script(model)


@pytest.fixture(params=["trained", "deployed"])
def model(request: pytest.FixtureRequest, shrunk: Build, randomise: Randomise) -> nn.Module:
    trained = randomise(shrunk(num_classes=4)).eval()
    return trained if request.param == "trained" else deploy(trained)


@pytest.fixture
def expected(model: nn.Module) -> torch.Tensor:
    return model(IMAGE)


def test_symbolic_trace(model: nn.Module, expected: torch.Tensor) -> None:
    graph = fx.symbolic_trace(model)
    torch.testing.assert_close(graph(IMAGE), expected)
    with pytest.raises(UserError, match="The images have 1 channels, but this model was built for 3"):
        graph(IMAGE[:, :1])


def test_symbolic_trace_of_a_model_in_training(shrunk: Build, randomise: Randomise) -> None:
    trained = randomise(shrunk(num_classes=4)).train()
    graph = fx.symbolic_trace(copy.deepcopy(trained))
    for one in (trained, graph):
        one(IMAGE).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in trained.named_parameters()}
    for name, parameter in graph.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-3, msg=name)


@only(*MIXERS)
def test_script(model: nn.Module, expected: torch.Tensor) -> None:
    scripted = script(model)
    torch.testing.assert_close(scripted(IMAGE), expected)
    torch.testing.assert_close(scripted(IMAGE[..., :32]), model(IMAGE[..., :32]))
    with pytest.raises(torch.jit.Error, match=r"An image of 2×2 pixels is too small"):
        scripted(IMAGE[:, :, :2, :2])


@only("inceptionnext_nano", "metanext_attn_nano")
def test_script_of_a_traced_model(shrunk: Build, randomise: Randomise) -> None:
    model = randomise(shrunk(num_classes=4)).eval()
    torch.testing.assert_close(script(fx.symbolic_trace(model))(IMAGE), model(IMAGE))


@only("inceptionnext_nano", "inceptionnext_iso_micro")
def test_script_with_checkpointing_and_without_pooling(shrunk: Build, randomise: Randomise) -> None:
    model = randomise(shrunk(num_classes=4, global_pool="")).eval()
    model.set_grad_checkpointing()
    torch.testing.assert_close(script(model)(IMAGE), model(IMAGE))


@each_mixer()
def test_torchvisions_feature_extractor(model: nn.Module, row: Variant) -> None:
    node = "stages.1" if row.form is MetaNeXt else "blocks.1"
    maps = create_feature_extractor(model, {node: "map"})(IMAGE)
    (level,) = model.forward_intermediates(IMAGE, indices=[1], intermediates_only=True)
    torch.testing.assert_close(maps["map"], level)


@pytest.mark.slow
@only("inceptionnext_nano", "inceptionnext_iso_micro")
def test_quantization_sees_the_convolutions(model: nn.Module, expected: torch.Tensor) -> None:
    prepared = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping(), (IMAGE,))
    torch.testing.assert_close(prepared(IMAGE), expected)
    observed = {str(node.target) for node in prepared.graph.nodes if "activation_post_process" in str(node.target)}
    assert len(observed) > 10
    quantised = convert_fx(prepared)(IMAGE)
    assert quantised.shape == expected.shape
    assert torch.nn.functional.cosine_similarity(quantised.flatten(), expected.flatten(), dim=0) > 0.9


@pytest.mark.parametrize("feature_cls", ["list", "dict"])
@pytest.mark.parametrize("name", ["inceptionnext_nano", "inceptionnext_iso_micro"])
def test_features_of_a_rebuilt_model(name: str, feature_cls: str, randomise: Randomise) -> None:
    body = randomise(timm.create_model(name, features_only=True, feature_cls=feature_cls, out_indices=(0, 2))).eval()
    maps = body(IMAGE)
    if feature_cls == "dict":
        assert list(maps) == ["0", "2"]
        maps = list(maps.values())
    whole = timm.create_model(name).eval()
    own = {key.replace("_", ".", 1) if key.startswith(("stem_", "stages_", "blocks_")) else key: value
           for key, value in body.state_dict().items()}  # fmt: skip
    assert not whole.load_state_dict(own, strict=False).unexpected_keys
    levels = whole.forward_intermediates(IMAGE, indices=[0, 2], intermediates_only=True)
    assert [m.shape[1] for m in maps] == body.feature_info.channels()
    for ours, theirs in zip(maps, levels, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("feature_cls", ["list", "dict"])
def test_features_are_refused_where_the_position_embedding_would_be_lost(feature_cls: str) -> None:
    with pytest.raises(UserError, match="would lose its position embedding; use 'getter', 'hook' or 'fx'"):
        timm.create_model("metanext_attn_nano", features_only=True, feature_cls=feature_cls)


@pytest.mark.parametrize("feature_cls", ["hook", "fx", FeatureHookNet])
@pytest.mark.parametrize("name", ["pvt_tiny", "t2t_vit_14", "swin_tiny_inception"])
def test_features_are_refused_where_modules_return_no_maps(name: str, feature_cls: str | type) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=rf"not all feature maps \(N, C, H, W\) in {name}; use"):
        timm.create_model(name, features_only=True, feature_cls=feature_cls)


def test_a_traced_layer_scale_survives_float16() -> None:
    layer = ScaledConv2d(8, 8, 1)

    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = layer
            self.scale = nn.Parameter(torch.full((8,), 1e-6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x, self.scale)

    with torch.autocast("cpu", torch.float16):
        out = fx.symbolic_trace(Scales())(100 * torch.randn(1, 8, 4, 4))
    assert out.abs().min() > 0
