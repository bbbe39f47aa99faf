import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import IsotropicMetaNeXt
from inceptionnext_lit.models.formats import to_public
from inceptionnext_lit.models.weights import LoadReport, load_weights, save_weights
from inceptionnext_lit.tasks import ClassificationTask
from tests.models.references import FourStages, Isotropic

Randomise = Callable[[nn.Module], nn.Module]
PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "model."]


def logits(model: nn.Module, size: int = 64, channels: int = 3) -> Tensor:
    image = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model.eval()(image)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


def assert_same_state(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0)


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor / 2 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


@pytest.fixture
def theirs(randomise: Randomise) -> nn.Module:
    return randomise(timm.create_model("inception_next_atto"))


@pytest.fixture
def atto_file(theirs: nn.Module, tmp_path: Path) -> Path:
    torch.save(theirs.state_dict(), tmp_path / "atto.pth")
    return tmp_path / "atto.pth"


@pytest.mark.parametrize(
    ("size", "ending"),
    [
        ("atto", "pth"),
        ("atto", "bin"),
        ("atto", "safetensors"),
        pytest.param("tiny", "safetensors", marks=pytest.mark.slow),
    ],
)
def test_public_inceptionnext_files(size: str, ending: str, tmp_path: Path, randomise: Randomise) -> None:
    theirs = randomise(timm.create_model(f"inception_next_{size}"))
    path = tmp_path / f"weights.{ending}"
    (save_file if ending == "safetensors" else torch.save)(theirs.state_dict(), path)
    ours = timm.create_model(f"inceptionnext_{size}")
    report = load_weights(ours, path)
    assert_close(logits(ours), logits(theirs))
    count = len(ours.state_dict())
    assert str(report) == f"{path} (the model's own names): {count} tensors loaded, 0 reinitialized, 0 skipped"
    assert report.loaded == tuple(ours.state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        *[lambda raw, prefix=prefix: prefixed(raw, prefix) for prefix in PREFIXES],
        *[lambda raw, prefix=prefix: {"model": prefixed(raw, prefix), "epoch": 3} for prefix in PREFIXES],
        lambda raw: {"state_dict": raw},
        lambda raw: {"model": raw},
        lambda raw: {"model": halved(raw), "model_ema": raw},
        lambda raw: {"state_dict": halved(raw), "state_dict_ema": prefixed(raw, "module.")},
    ],
)
def test_wrapped_inceptionnext_files(
    wrap: Callable[[dict[str, Tensor]], dict[str, Any]], theirs: nn.Module, tmp_path: Path
) -> None:
    torch.save(wrap(theirs.state_dict()), tmp_path / "x.pth")
    ours = timm.create_model("inceptionnext_atto")
    assert load_weights(ours, tmp_path / "x.pth").skipped == ()
    assert_same_state(ours.state_dict(), theirs.state_dict())
    assert_close(logits(ours), logits(theirs))


def test_raw_weights_on_request(theirs: nn.Module, tmp_path: Path) -> None:
    raw = theirs.state_dict()
    torch.save({"model": raw, "model_ema": halved(raw)}, tmp_path / "x.pth")
    ours = timm.create_model("inceptionnext_atto")
    assert "(the model's own names, raw weights)" in str(load_weights(ours, tmp_path / "x.pth", weights="raw"))
    assert_close(logits(ours), logits(theirs))
    assert "(the model's own names, averaged weights)" in str(load_weights(ours, tmp_path / "x.pth"))
    assert_same_state(ours.state_dict(), halved(raw))


@pytest.mark.parametrize("depth", [3, pytest.param(18, marks=pytest.mark.slow)])
def test_official_isotropic_convnext(depth: int, tmp_path: Path, randomise: Randomise) -> None:
    theirs = randomise(Isotropic(depth=depth))
    path = tmp_path / "convnext_iso_small_1k_224_ema.pth"
    torch.save({"model": theirs.state_dict()}, path)
    ours = timm.create_model("convnext_iso_small", depth=depth)
    report = load_weights(ours, path)
    assert_close(logits(ours, 96), logits(theirs, 96))
    count = 6 + 8 * depth
    assert str(report) == (f"{path} (official ConvNeXt, isotropic): {count} tensors loaded, 0 reinitialized, 0 skipped")
    through_timm = timm.create_model(
        "convnext_iso_small", depth=depth, pretrained=True, pretrained_cfg_overlay={"file": str(path)}
    )
    assert_same_state(through_timm.state_dict(), ours.state_dict())
    again = Isotropic(depth=depth)
    again.load_state_dict(to_public(ours.state_dict(), ours), strict=True)
    assert_close(logits(again, 96), logits(theirs, 96))


@pytest.mark.parametrize(
    ("name", "kernel", "ratio"),
    [("k5", 5, 1), ("k3", 3, 1), ("k3_par1_2", 3, 1 / 2), ("k3_par3_8", 3, 3 / 8), ("k3_par1_16", 3, 1 / 16)],
)
def test_official_four_stage_convnext(
    name: str, kernel: int, ratio: float, tmp_path: Path, randomise: Randomise
) -> None:
    form = {"dims": (32, 48, 64, 80), "depths": (1, 2, 1, 1)}
    theirs = randomise(FourStages(kernel, ratio, **form))
    torch.save({"model": theirs.state_dict()}, tmp_path / "x.pth")
    ours = timm.create_model(f"convnext_tiny_{name}", **form)
    report = load_weights(ours, tmp_path / "x.pth")
    assert (report.format, len(report.loaded)) == ("official ConvNeXt", len(theirs.state_dict()))
    assert_close(logits(ours), logits(theirs))
    again = FourStages(kernel, ratio, **form)
    again.load_state_dict(to_public(ours.state_dict(), ours), strict=True)
    assert_close(logits(again), logits(theirs))


@pytest.mark.slow
def test_a_whole_convnext_tiny_agrees_with_timms_head(tmp_path: Path, randomise: Randomise) -> None:
    theirs = randomise(FourStages(3))
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    ours = timm.create_model("convnext_tiny_k3")
    load_weights(ours, tmp_path / "x.pth")
    assert_close(logits(ours), logits(theirs))
    timms = timm.create_model("convnext_tiny", kernel_sizes=3)
    load_weights(timms, tmp_path / "x.pth")  # through timm's own filter for ConvNeXt's names
    assert_close(logits(timms), logits(theirs))


def test_our_lightning_checkpoints_by_hand(theirs: nn.Module, tmp_path: Path) -> None:
    raw, metric = theirs.state_dict(), {"metrics.of_val.acc1.total": torch.tensor(3)}
    state = {**prefixed(raw, "model."), **prefixed(halved(raw), "model_ema.module."), **metric}
    torch.save({"state_dict": state, "hyper_parameters": {"name": "inceptionnext_atto"}}, tmp_path / "last.ckpt")
    ours = timm.create_model("inceptionnext_atto")
    report = load_weights(ours, tmp_path / "last.ckpt", weights="raw")
    assert_close(logits(ours), logits(theirs))
    assert report.format == "Lightning checkpoint, raw weights"
    assert report.skipped == tuple(metric)
    for weights in (None, "ema"):
        ours = timm.create_model("inceptionnext_atto")
        assert load_weights(ours, tmp_path / "last.ckpt", weights=weights).format == (
            "Lightning checkpoint, averaged weights"
        )
        assert_same_state(ours.state_dict(), halved(raw))
    torch.save({"state_dict": prefixed(raw, "model."), "hyper_parameters": {}}, tmp_path / "raw.ckpt")
    assert load_weights(ours, tmp_path / "raw.ckpt").format == "Lightning checkpoint"
    assert_same_state(ours.state_dict(), raw)
    with pytest.raises(UserError, match=r"^No averaged weights in .*raw\.ckpt, only raw ones"):
        load_weights(ours, tmp_path / "raw.ckpt", weights="ema")


def test_a_checkpoint_of_the_task(tmp_path: Path, randomise: Randomise) -> None:
    task = ClassificationTask("inceptionnext_iso_micro", data_spec=DataSpec(num_classes=7), ema_decay=0.9)
    randomise(task.model_ema.module)
    checkpoint = {"state_dict": task.state_dict(), "hyper_parameters": {"name": "inceptionnext_iso_micro"}}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    for weights, source in ((None, task.model_ema.module), ("raw", task.model)):
        ours = timm.create_model("inceptionnext_iso_micro", num_classes=7)
        assert load_weights(ours, tmp_path / "last.ckpt", weights=weights).skipped == ()
        assert_same_state(ours.state_dict(), source.state_dict())
        torch.testing.assert_close(logits(ours, 28), logits(source, 28))


def test_another_number_of_classes_keeps_the_initial_classifier(
    theirs: nn.Module, atto_file: Path, randomise: Randomise
) -> None:
    ours = randomise(timm.create_model("inceptionnext_atto", num_classes=10))
    fresh = {name: tensor.clone() for name, tensor in ours.state_dict().items() if name.startswith("head.fc2")}
    report = load_weights(ours, atto_file)
    count = len(theirs.state_dict()) - 2
    assert str(report) == (
        f"{atto_file} (the model's own names): {count} tensors loaded, "
        "2 reinitialized (head.fc2.weight, head.fc2.bias), 0 skipped"
    )
    theirs.head.fc2 = nn.Linear(960, 10)
    theirs.head.fc2.load_state_dict({name.rpartition(".")[2]: tensor for name, tensor in fresh.items()})
    assert_close(logits(ours), logits(theirs))
    lines = report.details().splitlines()
    assert len(lines) == count + 2
    assert lines[0] == "stem.0.weight: loaded"
    assert lines[-1] == "head.fc2.bias: reinitialized: the model keeps its own initial values"


def test_no_classes_skip_the_files_classifier_and_back(theirs: nn.Module, atto_file: Path, tmp_path: Path) -> None:
    ours = timm.create_model("inceptionnext_atto", num_classes=0)
    report = load_weights(ours, atto_file)
    assert report.skipped == ("head.fc2.weight", "head.fc2.bias")
    assert report.reinitialized == ()
    theirs.reset_classifier(0)
    assert_close(logits(ours), logits(theirs))
    save_weights(ours, tmp_path / "features.safetensors")
    whole = timm.create_model("inceptionnext_atto")
    assert load_weights(whole, tmp_path / "features.safetensors").reinitialized == report.skipped


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_adapt_the_stem(channels: int, theirs: nn.Module, atto_file: Path) -> None:
    ours = timm.create_model("inceptionnext_atto", in_chans=channels)
    report = load_weights(ours, atto_file)
    assert report.adapted == ("stem.0.weight",)
    assert "tensors loaded (adapted: stem.0.weight), 0 reinitialized" in str(report)
    assert "stem.0.weight: loaded, adapted to the model's shape" in report.details().splitlines()
    conv = nn.Conv2d(channels, 40, 4, stride=4)
    weight = adapt_input_conv(channels, theirs.stem[0].weight.detach())
    conv.load_state_dict({"weight": weight, "bias": theirs.stem[0].bias})
    theirs.stem[0] = conv
    assert_close(logits(ours, channels=channels), logits(theirs, channels=channels))


def test_a_position_embedding_is_resampled(tmp_path: Path, randomise: Randomise) -> None:
    source = randomise(timm.create_model("metanext_attn_small", depth=3))
    nn.init.normal_(source.pos_embed)
    torch.save(source.state_dict(), tmp_path / "x.pth")
    ours = timm.create_model("metanext_attn_small", depth=3, img_size=160)
    report = load_weights(ours, tmp_path / "x.pth")
    assert report.adapted == ("pos_embed",)
    assert ours.pos_embed.shape == (1, 384, 10, 10)
    assert_close(logits(ours, 160), logits(source, 160))


def test_counters_that_an_old_file_lacks_are_kept(theirs: nn.Module, tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in theirs.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    ours = timm.create_model("inceptionnext_atto")
    report = load_weights(ours, tmp_path / "old.pth")
    assert len(report.kept) == 16
    assert "16 kept (stages.0.blocks.0.norm.num_batches_tracked, " in str(report)
    assert_close(logits(ours), logits(theirs))


def test_dtype_and_layout_of_the_model_stay(theirs: nn.Module, atto_file: Path) -> None:
    ours = timm.create_model("inceptionnext_atto").to(torch.float64, memory_format=torch.channels_last)
    load_weights(ours, atto_file)
    weight = ours.stages[1].downsample[1].weight
    assert weight.dtype == torch.float64
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weight.float(), theirs.stages[1].downsample[1].weight, rtol=0, atol=0)


def test_a_model_that_timm_did_not_build(tmp_path: Path, randomise: Randomise) -> None:
    args = {"dim": 16, "depth": 1, "patch_size": 4}
    source = randomise(IsotropicMetaNeXt(**args))
    torch.save(source.state_dict(), tmp_path / "x.pth")
    ours = IsotropicMetaNeXt(**args, num_classes=3, in_chans=1)
    report = load_weights(ours, tmp_path / "x.pth")
    assert report.reinitialized == ("head.weight", "head.bias")
    assert report.adapted == ("stem.weight",)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("resnet18", {}),
        ("vit_tiny_patch16_224", {"depth": 2}),
        pytest.param("swin_tiny_patch4_window7_224", {}, marks=pytest.mark.slow),
    ],
)
def test_other_timm_models(name: str, args: dict[str, int], tmp_path: Path, randomise: Randomise) -> None:
    source = randomise(timm.create_model(name, **args))
    torch.save({"state_dict": prefixed(source.state_dict(), "module.")}, tmp_path / "x.pth")
    ours = timm.create_model(name, num_classes=5, **args)
    report = load_weights(ours, tmp_path / "x.pth")
    assert len(report.reinitialized) == 2
    source.reset_classifier(0), ours.reset_classifier(0)
    assert_close(logits(ours, 224), logits(source, 224))
    save_weights(ours, tmp_path / "x.safetensors")
    assert load_weights(ours, tmp_path / "x.safetensors").reinitialized == ()


def refused(model: nn.Module, path: Path) -> str:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(model, path)
    assert_same_state(model.state_dict(), before)
    return str(error.value)


def test_a_file_of_another_model_names_what_differs_and_what_fits(atto_file: Path, tmp_path: Path) -> None:
    message = refused(timm.create_model("inceptionnext_iso_micro"), atto_file)
    assert message.startswith(
        f"{atto_file} does not fit inceptionnext_iso_micro: missing: stem.weight (48×3×4×4), stem.bias (48), "
    )
    assert (
        "; unexpected: stem.0.weight (40×3×4×4), stem.0.bias (40), stem.1.weight (40), stem.1.bias (40) and " in message
    )
    assert message.endswith(
        " It fits inceptionnext_atto (--model.name inceptionnext_atto). Create the model that fits, or give another "
        "file."
    )
    torch.save(timm.create_model("inceptionnext_tiny_band9").state_dict(), tmp_path / "band9.pth")
    message = refused(timm.create_model("inceptionnext_tiny"), tmp_path / "band9.pth")
    assert ": other shape: stages.0.blocks.0.token_mixer.dwconv_w.weight (file 12×1×1×9, model 12×1×1×11), " in message
    assert " and 32 more. It fits inceptionnext_tiny_band9 (--model.name inceptionnext_tiny_band9)." in message


@pytest.mark.slow
def test_the_mapping_of_a_published_file_is_applied_to_every_candidate(tmp_path: Path) -> None:
    torch.save({"model": Isotropic(depth=18, classes=21).state_dict()}, tmp_path / "iso.pth")
    message = refused(timm.create_model("inceptionnext_atto", in_chans=1), tmp_path / "iso.pth")
    assert message.endswith(
        "It fits convnext_iso_small (--model.name convnext_iso_small). Create the model that fits, or give another "
        "file."
    )
    torch.save({"model": Isotropic(depth=17).state_dict()}, tmp_path / "iso.pth")
    message = refused(timm.create_model("inceptionnext_atto"), tmp_path / "iso.pth")
    assert "The nearest model of this package is convnext_iso_small: 142 tensors fit it and 8 do not." in message
    torch.save({"w": torch.zeros(3)}, tmp_path / "w.pth")
    assert "It fits no model of this package." in refused(timm.create_model("inceptionnext_atto"), tmp_path / "w.pth")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pvt_medium", "focal_tiny", "googlenet", "swin_tiny_inception", "iformer_small"])
def test_a_file_of_another_system_is_recognized(tmp_path: Path, name: str) -> None:
    torch.save(timm.create_model(name).state_dict(), tmp_path / "w.pth")
    message = refused(timm.create_model("inceptionnext_atto"), tmp_path / "w.pth")
    assert message.endswith(f" It fits {name} (--model.name {name}). Create the model that fits, or give another file.")


@pytest.mark.slow
def test_a_file_that_names_its_model_is_believed(atto_file: Path, tmp_path: Path) -> None:
    model = timm.create_model("inceptionnext_iso_micro", depth=2)
    save_weights(model, tmp_path / "x.safetensors", {"model": "inceptionnext_iso_micro"})
    message = refused(timm.create_model("inceptionnext_atto"), tmp_path / "x.safetensors")
    assert "It was saved from inceptionnext_iso_micro (--model.name inceptionnext_iso_micro). " in message
    message = refused(timm.create_model("inceptionnext_iso_micro"), tmp_path / "x.safetensors")
    assert "It was also saved from inceptionnext_iso_micro, but built with other arguments. " in message
    checkpoint = {"state_dict": prefixed(model.state_dict(), "model."), "hyper_parameters": {"name": "resnet50"}}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    assert "It was saved from resnet50 (--model.name resnet50). " in refused(model.__class__(), tmp_path / "last.ckpt")


class Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = timm.create_model("inceptionnext_iso_micro")
    torch.save({**model.state_dict(), "x": Dangerous()}, "code.pth")
    assert "code.pth contains code (posix.mkdir) besides weights" in refused(model, Path("code.pth"))
    assert not Path("ran").exists()
    torch.save(model.state_dict(), "cut.pth")
    Path("cut.pth").write_bytes(Path("cut.pth").read_bytes()[:-300])
    assert "cut.pth is not a checkpoint, or is damaged" in refused(model, Path("cut.pth"))
    assert refused(model, Path("nope.pth")) == "No checkpoint at nope.pth; check the path."


@pytest.mark.slow
def test_saved_weights_are_public_ones(theirs: nn.Module, atto_file: Path, tmp_path: Path) -> None:
    ours = timm.create_model("inceptionnext_atto").to(memory_format=torch.channels_last)
    load_weights(ours, atto_file)
    path = tmp_path / "new" / "atto.safetensors"
    save_weights(ours, path, {"model": "inceptionnext_atto", "classes": "1000"})
    again = timm.create_model("inception_next_atto")
    again.load_state_dict(load_file(path), strict=True)
    assert_close(logits(again), logits(theirs))
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "model": "inceptionnext_atto", "classes": "1000"}
    assert [one.name for one in path.parent.iterdir()] == ["atto.safetensors"]


@pytest.mark.slow
def test_a_whole_tiny_goes_to_timm(randomise: Randomise) -> None:
    ours = randomise(timm.create_model("inceptionnext_tiny"))
    theirs = timm.create_model("inception_next_tiny")
    theirs.load_state_dict(to_public(ours.state_dict(), ours), strict=True)
    assert_close(logits(theirs), logits(ours))


def test_targets_where_weights_cannot_be_saved(tmp_path: Path) -> None:
    model = timm.create_model("inceptionnext_iso_micro")
    with pytest.raises(UserError, match=r"x\.pth does not end in \.safetensors"):
        save_weights(model, tmp_path / "x.pth")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^.*x\.safetensors cannot be written: (Not a directory|File exists)\.$"):
        save_weights(model, tmp_path / "file" / "x.safetensors")
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(UserError, match=r"cannot be written: Is a directory\."):
        save_weights(model, tmp_path / "x.safetensors")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "x.safetensors"]


def test_a_report_in_one_line_shortens_long_lists() -> None:
    names = tuple("abcdefg")
    report = LoadReport(Path("w.pth"), "official ConvNeXt", loaded=("x",), skipped=names)
    assert str(report) == (
        "w.pth (official ConvNeXt): 1 tensor loaded, 0 reinitialized, 7 skipped (a, b, c, d and 3 more)"
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weight: weight.to_sparse(), "not plain numbers: stem.weight. Save it again"),
        (lambda weight: weight.to("meta"), "not plain numbers: stem.weight. Save it again"),
        (lambda weight: weight.to(torch.complex64), "not plain numbers: stem.weight. Save it again"),
        (lambda weight: weight / 0, "NaN or infinite values in stem.weight; use an earlier checkpoint"),
    ],
)
def test_unusable_numbers_are_refused(spoil: Callable[[Tensor], Tensor], message: str, tmp_path: Path) -> None:
    model = timm.create_model("inceptionnext_iso_micro")
    tensors = dict(model.state_dict())
    tensors["stem.weight"] = spoil(tensors["stem.weight"])
    torch.save(tensors, tmp_path / "spoilt.pth")
    assert message in refused(model, tmp_path / "spoilt.pth")


@pytest.mark.slow
def test_a_compiled_model_loads_weights_like_the_wrapped_model(tmp_path: Path) -> None:
    source, ours = (timm.create_model("inceptionnext_iso_micro") for _ in range(2))
    torch.save(source.state_dict() | {"model.other": torch.zeros(1)}, tmp_path / "x.pth")
    message = refused(ours, tmp_path / "x.pth")
    assert "unexpected: model.other (1). All its other 51 tensors fit inceptionnext_iso_micro." in message
    torch.save(source.state_dict(), tmp_path / "x.pth")
    load_weights(torch.compile(ours), tmp_path / "x.pth")
    assert_same_state(ours.state_dict(), source.state_dict())
