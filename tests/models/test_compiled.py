"""Compiled inference: the same outputs, one compilation, other shapes uncompiled."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy
from tests.forked import run_function


def convolution() -> nn.Module:
    """A model that compiles in seconds."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()).eval()


@pytest.fixture
def small() -> nn.Module:
    torch.compiler.reset()
    return convolution()


def isotropic() -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("inceptionnext_iso_micro", num_classes=3, depth=1, dim=16)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return deploy(model)


@pytest.mark.parametrize("build", [convolution, pytest.param(isotropic, marks=pytest.mark.slow)])
def test_the_first_shape_that_comes_twice_is_compiled_and_all_have_the_models_outputs(
    build: Callable[[], nn.Module],
) -> None:
    torch.compiler.reset()
    small = build()
    compiled = Compiled(small)
    torch._dynamo.utils.counters.clear()
    for size in (3, 4, 2, 4, 3, 4, 1):
        images = torch.randn(size, 3, 28, 28)
        torch.testing.assert_close(compiled(images), small(images), rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert torch._inductor.config.freezing is False


@pytest.mark.slow
def test_threads_wait_for_one_compilation(small: nn.Module) -> None:
    compiled, images = Compiled(small), torch.randn(6, 2, 3, 8, 8)
    torch._dynamo.utils.counters.clear()
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(compiled, images))
    torch.testing.assert_close(torch.cat(outputs), small(images.flatten(0, 1)), rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def compile_without_a_compiler() -> None:
    torch._inductor.config.cpp.cxx = ("no-such-compiler",)  # as the variable CXX sets it
    model = convolution()
    compiled, images = Compiled(model), torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(compiled(images), model(images))  # nothing is compiled yet
    try:
        compiled(images)
    except UserError as error:
        print(error)


@pytest.mark.slow
def test_without_a_compiler_one_sentence_says_so(tmp_path: Path) -> None:
    done = run_function(compile_without_a_compiler, cwd=tmp_path, TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The model cannot be compiled here, so leave that out: No working C++ compiler")
    assert done.stdout.count("\n") == 1
