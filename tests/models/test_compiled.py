"""Compiled inference: the same outputs, one compilation, other shapes as they are."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy


@pytest.fixture
def small() -> nn.Module:
    torch.compiler.reset()
    torch.manual_seed(0)
    model = timm.create_model("inceptionnext_atto", num_classes=3, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return deploy(model)


def test_the_first_shape_that_comes_twice_is_compiled_and_all_have_the_models_outputs(small: nn.Module) -> None:
    compiled = Compiled(small)
    torch._dynamo.utils.counters.clear()
    for size in (3, 4, 2, 4, 3, 4, 1):
        images = torch.randn(size, 3, 64, 64)
        torch.testing.assert_close(compiled(images), small(images), rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert torch._inductor.config.freezing is False


def test_threads_wait_for_one_compilation(small: nn.Module) -> None:
    compiled, images = Compiled(small), torch.randn(6, 2, 3, 64, 64)
    torch._dynamo.utils.counters.clear()
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(compiled, images))
    torch.testing.assert_close(torch.cat(outputs), small(images.flatten(0, 1)), rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


WITHOUT_A_COMPILER = """
import timm, torch
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy
model = deploy(timm.create_model("inceptionnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)))
compiled, images = Compiled(model), torch.randn(1, 3, 64, 64)
torch.testing.assert_close(compiled(images), model(images))  # nothing is compiled yet
try:
    compiled(images)
except UserError as error:
    print(error)
"""


def test_without_a_compiler_one_sentence_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_COMPILER], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("The model cannot be compiled here, so leave that out: No working C++ compiler")
    assert done.stdout.count("\n") == 1
