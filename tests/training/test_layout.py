"""Gradients take the layout of the parameters."""

import torch
from torch import nn

from inceptionnext_lit.training.layout import match_gradients


def test_gradients_have_their_parameters_strides() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1)).to(memory_format=torch.channels_last)
    match_gradients(model)
    model(torch.randn(2, 4, 8, 8)).sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()
