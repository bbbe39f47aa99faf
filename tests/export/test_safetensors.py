import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from lightning.pytorch import Trainer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.export.safetensors import convert_checkpoint
from inceptionnext_lit.preprocessing import Preprocessing
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO
from tests.models.references import Isotropic

MICRO = "inceptionnext_iso_micro"
CLASSES = ["ape", "bär", "cat"]
INPUT = Preprocessing(image_size=32, crop_pct=0.9, interpolation="bicubic", mean=[0.5] * 3, std=[0.25] * 3)


def randomise(model: nn.Module) -> None:
    """Set weights and norm statistics such that no layer is close to the identity."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            nn.init.uniform_(tensor, 0.5, 1.5)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            nn.init.normal_(tensor, 0, 0.3)


def train(path: Path, name: str, *, ema_decay: float | None = 0.5, size: int = 32, **kwargs: Any) -> ClassificationTask:
    """Train three steps on noise and save a checkpoint; an average then differs from the raw weights."""
    torch.manual_seed(0)
    task = ClassificationTask(
        name, data_spec=DataSpec(class_names=CLASSES, preprocessing=INPUT | {"image_size": size}),
        kwargs=kwargs, lr=1e-2, ema_decay=ema_decay,
    )  # fmt: skip
    randomise(task.model)
    if task.model_ema is not None:
        task.model_ema.set(task.model)
    data = TensorDataset(torch.randn(12, 3, size, size), torch.arange(12) % 3)
    run = Trainer(
        default_root_dir=path.parent, max_epochs=1, accelerator="cpu", limit_val_batches=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    run.strategy.checkpoint_io = SafeCheckpointIO()
    run.fit(task, DataLoader(data, batch_size=4))
    run.save_checkpoint(path)
    return task.eval()


def logits(model: nn.Module, size: int = 32) -> Tensor:
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model.eval()(images)


def assert_same_logits(model: nn.Module, expected: nn.Module, size: int = 32) -> None:
    values = logits(expected, size)
    assert values.std() > 0.01
    torch.testing.assert_close(logits(model, size), values, rtol=0, atol=1e-6 * float(values.abs().max()))


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClassificationTask]:
    """A checkpoint with raw and averaged weights, and its task."""
    path = tmp_path_factory.mktemp("micro") / "last.ckpt"
    return path, train(path, MICRO)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kwargs"), [("atto", {}), ("tiny", {"depths": [1, 1, 2, 1]})])
def test_timms_own_model_loads_a_converted_file(size: str, kwargs: dict[str, Any], tmp_path: Path) -> None:
    task = train(tmp_path / "last.ckpt", f"inceptionnext_{size}", **kwargs)
    report = convert_checkpoint(tmp_path / "last.ckpt", tmp_path / "out.safetensors")
    theirs = timm.create_model(f"inception_next_{size}", num_classes=3, **kwargs)
    theirs.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
    assert_same_logits(theirs, task.inference_model)
    statistics = [tensor for name, tensor in theirs.state_dict().items() if name.endswith("running_mean")]
    assert all(tensor.abs().max() > 0.1 for tensor in statistics)
    assert report.parameters == sum(p.numel() for p in theirs.parameters())
    assert report.loaded.loaded == tuple(theirs.state_dict())
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "out.safetensors"}


def test_averaged_weights_unless_raw_ones_are_asked_for(micro: tuple[Path, ClassificationTask], tmp_path: Path) -> None:
    path, task = micro
    sources = {None: task.model_ema.module, "ema": task.model_ema.module, "raw": task.model}
    assert (logits(sources["ema"]) - logits(sources["raw"])).abs().max() > 0.01
    for weights, source in sources.items():
        report = convert_checkpoint(path, tmp_path / "out.safetensors", weights)
        assert report.weights == metadata_of(tmp_path / "out.safetensors")["weights"] == (weights or "ema")
        model = timm.create_model(MICRO, num_classes=3)
        model.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
        torch.testing.assert_close(logits(model), logits(source), rtol=0, atol=1e-6)


def test_a_run_without_an_average_gives_raw_weights(tmp_path: Path) -> None:
    task = train(tmp_path / "last.ckpt", MICRO, ema_decay=None, depth=2)
    report = convert_checkpoint(str(tmp_path / "last.ckpt"), str(tmp_path / "out.safetensors"))
    assert str(report) == f"{tmp_path}/out.safetensors: {MICRO}, raw weights, 3 classes, 40,539 parameters"
    assert report.loaded.format == "checkpoint of fit, raw weights"
    assert report.fit_arguments() == (
        f"--model.name {MICRO} --model.kwargs '{{\"depth\": 2}}' --model.pretrained {tmp_path}/out.safetensors "
        "--data.image_size 32"
    )
    model = ClassificationTask(
        MICRO, data_spec=DataSpec(num_classes=3), kwargs={"depth": 2}, pretrained=str(tmp_path / "out.safetensors")
    )
    assert_same_logits(model, task)
    with pytest.raises(UserError, match=r"^No averaged weights in .*last\.ckpt, only raw ones; ask for"):
        convert_checkpoint(tmp_path / "last.ckpt", tmp_path / "ema.safetensors", "ema")
    assert not (tmp_path / "ema.safetensors").exists()


def test_metadata_describes_the_file(micro: tuple[Path, ClassificationTask], tmp_path: Path) -> None:
    report = convert_checkpoint(micro[0], tmp_path / "out.safetensors")
    metadata = metadata_of(tmp_path / "out.safetensors")
    assert {key: metadata.pop(key) for key in ("format", "model", "num_classes", "weights", "kwargs")} == {
        "format": "pt",
        "model": MICRO,
        "num_classes": "3",
        "weights": "ema",
        "kwargs": "{}",
    }
    assert {key: json.loads(value) for key, value in metadata.items()} == {
        "class_names": CLASSES,
        "preprocessing": INPUT,
    }
    assert (report.model, report.num_classes, report.kwargs, report.image_size) == (MICRO, 3, {}, 32)


def test_convnext_gets_its_official_names(tmp_path: Path) -> None:
    task = train(tmp_path / "last.ckpt", "convnext_iso_small", depth=2)
    convert_checkpoint(tmp_path / "last.ckpt", tmp_path / "out.safetensors")
    tensors = load_file(tmp_path / "out.safetensors")
    block = ("dwconv", "norm", "pwconv1", "pwconv2")
    layers = ["stem", *[f"blocks.{i}.{layer}" for i in range(2) for layer in block], "norm", "head"]
    assert set(tensors) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert tensors["blocks.1.pwconv1.weight"].shape == (1536, 384)
    official = Isotropic(depth=2, classes=3)
    official.load_state_dict(tensors, strict=True)
    values = logits(task)
    torch.testing.assert_close(logits(official), values, rtol=1e-5, atol=1e-5 * float(values.abs().max()))
    assert json.loads(metadata_of(tmp_path / "out.safetensors")["kwargs"]) == {"depth": 2}


def test_a_task_starts_from_a_converted_file(micro: tuple[Path, ClassificationTask], tmp_path: Path) -> None:
    path, task = micro
    convert_checkpoint(path, tmp_path / "out.safetensors")
    again = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3), pretrained=str(tmp_path / "out.safetensors"))
    torch.testing.assert_close(logits(again), logits(task), rtol=0, atol=1e-6)
    other = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=5), pretrained=str(tmp_path / "out.safetensors"))
    assert other.loaded.reinitialized == ("head.weight", "head.bias")
    assert (other.loaded.skipped, other.loaded.adapted) == ((), ())
    features = other.eval().model.forward_features(torch.ones(1, 3, 32, 32))
    torch.testing.assert_close(features, task.inference_model.forward_features(torch.ones(1, 3, 32, 32)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "metanext_attn_nano"])
def test_any_timm_model_at_the_size_it_was_trained_on(name: str, tmp_path: Path) -> None:
    task = train(tmp_path / "last.ckpt", name, size=64)
    report = convert_checkpoint(tmp_path / "last.ckpt", tmp_path / "out.safetensors")
    assert str(report).startswith(f"{tmp_path}/out.safetensors: {name}, averaged weights, 3 classes, ")
    size = {} if name == "test_resnet" else {"img_size": 64}
    model = timm.create_model(name, num_classes=3, **size)
    model.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
    assert_same_logits(model, task.inference_model, 64)


def test_the_dtype_of_the_checkpoint_stays(micro: tuple[Path, ClassificationTask], tmp_path: Path) -> None:
    content = torch.load(micro[0], weights_only=True)
    content["state_dict"] = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in content["state_dict"].items()
    }
    torch.save(content, tmp_path / "half.ckpt")
    convert_checkpoint(tmp_path / "half.ckpt", tmp_path / "out.safetensors")
    tensors = load_file(tmp_path / "out.safetensors")
    assert torch.equal(tensors["stem.weight"], content["state_dict"]["model_ema.module.stem.weight"])
    assert tensors["stem.weight"].dtype == torch.bfloat16


def test_other_weights_are_never_downloaded(
    micro: tuple[Path, ClassificationTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(micro[0], weights_only=True)
    content["hyper_parameters"] |= {"pretrained": True, "kwargs": {"pretrained": True, "checkpoint_path": "gone.pth"}}
    torch.save(content, tmp_path / "x.ckpt")
    calls = []
    create = timm.create_model

    def watch(name: str, **kwargs: Any) -> nn.Module:
        calls.append(kwargs)
        return create(name, **kwargs)

    monkeypatch.setattr("timm.create_model", watch)
    report = convert_checkpoint(tmp_path / "x.ckpt", tmp_path / "out.safetensors")
    assert report.kwargs == {}
    assert calls == [{"num_classes": 3}]


def test_a_python_run_without_preprocessing(tmp_path: Path) -> None:
    task = ClassificationTask(MICRO, data_spec=DataSpec(num_classes=3))
    run = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    run.strategy.connect(task)
    run.save_checkpoint(tmp_path / "x.ckpt")
    report = convert_checkpoint(tmp_path / "x.ckpt", tmp_path / "out.safetensors")
    assert report.image_size is None
    assert "--data.image_size" not in report.fit_arguments()
    metadata = metadata_of(tmp_path / "out.safetensors")
    assert metadata["preprocessing"] == "null"
    assert json.loads(metadata["class_names"]) == ["0", "1", "2"]


def test_an_old_output_is_replaced_or_stays_whole(micro: tuple[Path, ClassificationTask], tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    save_file({"old": torch.ones(1)}, output)
    before = output.read_bytes()
    with pytest.raises(UserError, match="No checkpoint at"):
        convert_checkpoint(tmp_path / "gone.ckpt", output)
    assert output.read_bytes() == before
    convert_checkpoint(micro[0], output)
    assert len(load_file(output)) == 51
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]


@pytest.mark.parametrize(
    "changes",
    [
        {"hyper_parameters": None},
        {"hyper_parameters": {"name": MICRO}},
        {"hyper_parameters": {"name": MICRO, "data_spec": 3}},
        {"hyper_parameters": {"name": 3, "data_spec": {"num_classes": 3}}},
        {"hyper_parameters": {"name": MICRO, "data_spec": {"num_classes": 3}, "kwargs": "depth"}},
        {"hyper_parameters": {"name": MICRO, "data_spec": {"num_classes": 3, "preprocessing": {"image_size": 32}}}},
        {"hyper_parameters": {"name": MICRO, "data_spec": {"num_classes": 3, "preprocessing": 32}}},
    ],
)
def test_a_checkpoint_that_does_not_describe_its_model(changes: dict[str, Any], tmp_path: Path) -> None:
    state = {f"model.{name}": tensor for name, tensor in timm.create_model(MICRO, num_classes=3).state_dict().items()}
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": state} | changes, path)
    with pytest.raises(UserError) as error:
        convert_checkpoint(path, tmp_path / "new" / "out.safetensors")
    assert str(error.value) == (
        f"{path} is not a checkpoint of a classifier: it does not name its model. "
        f"Use it with fit directly: --model.name NAME --model.pretrained {path}."
    )
    assert [one.name for one in tmp_path.iterdir()] == ["x.ckpt"]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"data_spec": {"num_classes": 4}}, "head.weight, head.bias"),
        ({"kwargs": {"depth": 2}}, "blocks.2.token_mixer.dwconv_hw.weight, .* and 11 more"),
        ({"kwargs": {"in_chans": 1}}, "stem.weight"),
    ],
)
def test_weights_that_are_not_those_of_the_arguments(
    micro: tuple[Path, ClassificationTask], tmp_path: Path, changes: dict[str, Any], wrong: str
) -> None:
    content = torch.load(micro[0], weights_only=True)
    content["hyper_parameters"] |= changes
    if "in_chans" in changes.get("kwargs", {}):
        content["hyper_parameters"]["data_spec"]["preprocessing"] |= {"mean": [0.5], "std": [0.5]}
    torch.save(content, tmp_path / "x.ckpt")
    message = rf"^The weights in .*x\.ckpt are not those of {MICRO} as its arguments describe it: {wrong}\. Use a "
    with pytest.raises(UserError, match=message):
        convert_checkpoint(tmp_path / "x.ckpt", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_missing_set_of_weights(micro: tuple[Path, ClassificationTask], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weights is 'swa', but it must be 'ema' or 'raw'"):
        convert_checkpoint(micro[0], tmp_path / "out.safetensors", "swa")
    content = torch.load(micro[0], weights_only=True)
    averaged = {name: value for name, value in content["state_dict"].items() if name.startswith("model_ema.")}
    torch.save(content | {"state_dict": averaged}, tmp_path / "ema.ckpt")
    with pytest.raises(UserError, match=r"^No raw weights in .*ema\.ckpt, only averaged ones"):
        convert_checkpoint(tmp_path / "ema.ckpt", tmp_path / "out.safetensors", "raw")
    assert [path.name for path in tmp_path.iterdir()] == ["ema.ckpt"]
