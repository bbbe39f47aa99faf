"""Parameters are contiguous, activations channels-last, and gradients take the layout of the parameters."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelPruning
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, TensorDataset

from inceptionnext_lit.data_spec import DataSpec
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.layout import match_gradients

MODELS = ["inceptionnext_nano", "inceptionnext_iso_micro", "metanext_attn_nano", "convnext_iso_nano", "resnet10t"]


def test_gradients_have_their_parameters_strides() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1)).to(memory_format=torch.channels_last)
    match_gradients(model)
    model(torch.randn(2, 4, 8, 8)).sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()


@pytest.mark.parametrize("name", MODELS)
def test_parameters_go_into_a_vector_and_back(name: str) -> None:
    task = ClassificationTask(name, data_spec=DataSpec(num_classes=3))
    for model in (task.model, deploy(task.model)):
        parameters = list(model.parameters())
        vector = parameters_to_vector(parameters)
        assert vector.numel() == sum(parameter.numel() for parameter in parameters)
        with torch.no_grad():
            vector_to_parameters(torch.arange(vector.numel(), dtype=torch.float32), parameters)
        assert parameters[1].flatten()[0] == parameters[0].numel()


@pytest.mark.parametrize("name", MODELS[:2])
@pytest.mark.parametrize("channels", [1, 3])
def test_activations_are_channels_last(name: str, channels: int) -> None:
    """Of images with one channel too, whose strides tell nothing unless they are set."""
    task = ClassificationTask(name, data_spec=DataSpec(num_classes=3), kwargs={"in_chans": channels})
    images = task._lay_out(torch.randn(2, channels, 64, 64))
    assert task.model.forward_features(images).is_contiguous(memory_format=torch.channels_last)


def test_lightning_prunes_while_it_trains(tmp_path: Path) -> None:
    """Half of all weights of a model whose stem and downsampling layers have spatial kernels."""
    task = ClassificationTask("inceptionnext_nano", data_spec=DataSpec(num_classes=3), lr=1e-3)
    convolutions = [(module, "weight") for module in task.model.modules() if isinstance(module, nn.Conv2d)]
    images = torch.randn(4, 3, 64, 64)
    loader = DataLoader(TensorDataset(images, torch.tensor([0, 1, 2, 0])), batch_size=4)
    pruning = ModelPruning(
        "l1_unstructured", parameters_to_prune=convolutions, amount=0.5, use_lottery_ticket_hypothesis=False
    )
    Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[pruning], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    ).fit(task, loader)  # fmt: skip
    weights = torch.cat([module.weight.flatten() for module, _ in convolutions])
    assert float((weights == 0).float().mean()) == pytest.approx(0.5, abs=1e-3)
