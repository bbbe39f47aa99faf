import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from inceptionnext_lit.models.kernels import operators

KERNELS = "inceptionnext_lit.models.kernels."
MODULES = tuple(KERNELS + name for name in ("depthwise", "division", "moments", "weight_grads"))
State = list[tuple[Any, dict[str, Any]]]


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run kernels on the CPU by Triton's interpreter, slowly.

    Triton asks whether to do so when a kernel is defined, so the modules with kernels are imported anew, and removed
    again: in this process, other tests compile models and kernels.
    """
    pytest.importorskip("triton")  # a build of torch for CPUs comes without
    from triton import language
    from triton.runtime import JITFunction
    from triton.runtime import interpreter as machine

    state = state_of(language)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(operators, "INTERPRETED", True)
    for name in ("sum", "zeros"):  # Triton's own functions, if Triton was imported before
        if isinstance(function := getattr(language, name), JITFunction):
            monkeypatch.setattr(language, name, machine.InterpretedFunction(function.fn))
    convert = machine._convert_float

    def rounded(data: Any, source: Any, target: Any, mode: Any) -> Any:
        """Round float32 to bfloat16 to the nearest, as a GPU does; the interpreter truncates."""
        if (source, target) != (language.float32, language.bfloat16):
            return convert(data, source, target, mode)
        nearest = torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32)).bfloat16()
        return nearest.view(torch.int16).numpy().view(np.uint16)

    monkeypatch.setattr(machine, "_convert_float", rounded)
    compiled = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(compiled)
    restore(state)


def state_of(language: Any) -> State:
    """Return the attributes of Triton's language, of which the interpreter does not put all back."""
    classes = [value for value in vars(language.core).values() if isinstance(value, type)]
    return [(holder, dict(vars(holder))) for holder in (language, language.core, language.math, *classes)]


def restore(state: State) -> None:
    for holder, attributes in state:
        for name in vars(holder).keys() - attributes.keys():
            delattr(holder, name)
        for name, value in attributes.items():
            if vars(holder).get(name) is not value:
                setattr(holder, name, value)
