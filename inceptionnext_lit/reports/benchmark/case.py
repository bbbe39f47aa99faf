"""One benchmark case: a model in one form, ready to run in its own process.

Each case has its own process, so that it shares neither memory nor compiled code nor an allocator with others.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, cast, get_args

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.allocator import keep_memory
from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy

Mode = Literal["infer", "train"]
Precision = Literal["fp32", "tf32", "bf16"]
Variant = Literal["eager", "compile", "deploy", "deploy+compile"]
Layout = Literal["best", "channels_last", "contiguous"]
VARIANTS: tuple[str, ...] = get_args(Variant)
_WARM_UPS = 2  # the second one compiles
_TRIAL_STEPS = 2  # per layout, to find the faster one
_LEAST_STEPS = 3  # per round
_MATMUL_SECONDS = 0.2
Product = tuple[int, int, int]  # rows, inner dimension and columns
PRODUCTS: tuple[Product, ...] = (
    (50176, 96, 384), (12544, 192, 768), (3136, 384, 1536), (784, 768, 2304), (2048, 2048, 2048)
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        model: A timm model name.
        variant: ``eager``; ``compile`` (with freezing for inference); ``deploy``, the inference form, whose weights
            have the given precision too; or both.
        mode: Inference, or a training step: forward, loss, backward and a step of AdamW.
        precision: ``bf16`` is autocast, except for ``deploy``; ``tf32`` uses a GPU's TF32 units for matrix products and
            convolutions; ``fp32`` uses full precision for both.
        layout: Memory layout of images and weights; ``best`` tries both.
        batch_size: Images per step.
        image_size: Side of the images in pixels.
        threads: CPU threads.
        keeps_memory: Whether the allocator keeps freed memory.
    """

    model: str
    variant: Variant
    mode: Mode
    precision: Precision
    layout: Layout
    batch_size: int
    image_size: int
    threads: int
    keeps_memory: bool


class Bench:
    """A case that is ready to run.

    Args:
        case: What is measured.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(case.threads)
        torch.manual_seed(0)
        # torch's defaults allow TF32 only in convolutions, so speed would depend on how a model writes a linear layer
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.precision == "tf32"
        if case.precision == "tf32" and self.device.type != "cuda":
            raise ValueError("tf32 needs a GPU, and there is none here")
        self._before = _resident_mib()
        started = time.perf_counter()
        layouts = [case.layout] if case.layout != "best" else ["channels_last", "contiguous"]
        steps = {layout: self._build(layout) for layout in layouts}
        for step in steps.values():
            for _ in range(_WARM_UPS):
                step()
        self._wait()
        self.warm_up_s = time.perf_counter() - started
        seconds = {layout: self._time(step, _TRIAL_STEPS) for layout, step in steps.items()}
        self.layout = min(layouts, key=seconds.__getitem__)
        self._step = steps[self.layout]
        del steps
        _forget_peak()

    def images_per_s(self, seconds: float) -> float:
        """Run for at least this many seconds and three steps, and return the images per second."""
        steps = max(_LEAST_STEPS, math.ceil(seconds / self._time(self._step, 1)))
        return steps * self.case.batch_size / self._time(self._step, steps)

    def matmul_gflop_per_s(self, products: Sequence[Product] = PRODUCTS) -> float:
        """Return the best speed of several matrix products in this precision.

        Args:
            products: Sizes; by default those of the models at 224 pixels and a large square one.
        """
        dtype = torch.bfloat16 if self.case.precision == "bf16" else torch.float32
        best = 0.0
        for rows, inner, columns in products:
            left = torch.randn(rows, inner, device=self.device, dtype=dtype)
            right = torch.randn(columns, inner, device=self.device, dtype=dtype)

            def product(left: Tensor = left, right: Tensor = right) -> None:
                with torch.inference_mode():
                    functional.linear(left, right)

            product()
            steps = math.ceil(_MATMUL_SECONDS / self._time(product, 1))
            elapsed = self._time(product, steps)
            best = max(best, 2e-9 * rows * inner * columns * steps / elapsed)
        return best

    def peak_memory_mib(self) -> float | None:
        """Return the peak memory since the warm-up: the GPU's, or what this process has used beyond its start."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        peak = _status("VmHWM")
        return None if peak is None or self._before is None else peak - self._before

    def _time(self, step: Callable[[], object], count: int) -> float:
        """Return the seconds that a number of steps take."""
        if self.device.type != "cuda":
            started = time.perf_counter()
            for _ in range(count):
                step()
            return time.perf_counter() - started
        begin, end = (cast(Any, torch.cuda.Event)(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _build(self, layout: str) -> Callable[[], object]:
        case = self.case
        config = timm.get_pretrained_cfg(case.model)
        size = {"img_size": case.image_size} if config is not None and config.fixed_input_size else {}
        model: nn.Module = timm.create_model(case.model, **size).to(self.device)
        memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        images = torch.randn(case.batch_size, 3, case.image_size, case.image_size, device=self.device)
        images = images.to(memory_format=memory_format)
        dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
        casts = case.precision == "bf16"
        if "deploy" in case.variant:
            model, images, casts = deploy(model).to(dtype), images.to(dtype), False
        model = model.to(memory_format=memory_format)
        if case.mode == "train":
            return self._training(model, images, casts)
        model.eval()
        if "compile" in case.variant:
            run: Callable[[Tensor], Tensor] = Compiled(model)
        else:
            run = model

        def forward() -> object:
            with torch.inference_mode(), self._autocast(casts):
                return run(images)

        return forward

    def _training(self, model: nn.Module, images: Tensor, casts: bool) -> Callable[[], object]:
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        labels = torch.arange(self.case.batch_size, device=self.device)
        run: Callable[[Tensor], Tensor] = torch.compile(model) if "compile" in self.case.variant else model

        def step() -> object:
            with self._autocast(casts):
                loss = functional.cross_entropy(run(images).float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            return optimizer.step()

        return step

    def _autocast(self, casts: bool) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if casts else nullcontext()


def serve(connection: Connection, case: Case) -> None:
    """Run a case in its own process, and call its methods on request.

    Args:
        connection: Receives the name of a method of :class:`Bench` and its arguments, or None to end; sends the
            returned value, or the exception raised. The first message sent tells whether the case is ready.
        case: What is measured.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns about a missing CUDA folder
    if case.keeps_memory:
        keep_memory()
    try:
        bench = Bench(case)
    except Exception as error:  # the parent process reports errors of any type
        connection.send(error)
        return
    connection.send({"warm_up_s": bench.warm_up_s, "layout": bench.layout, "device": str(bench.device)})
    while (asked := connection.recv()) is not None:
        name, arguments = asked
        try:
            connection.send(getattr(bench, name)(*arguments))
        except Exception as error:
            connection.send(error)


def _resident_mib() -> float | None:
    return _status("VmRSS")


def _forget_peak() -> None:
    """Reset the kernel's record of this process's peak memory (Linux)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _status(key: str) -> float | None:
    """Return a value of this process's status in MiB; None if the system does not provide it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) / 1024 if found else None
