"""A benchmark case that torch runs, as the model trains or in another of its forms."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from inceptionnext_lit.models.compiled import Compiled
from inceptionnext_lit.models.deploy import deploy
from inceptionnext_lit.models.kernels.choice import use
from inceptionnext_lit.reports.benchmark.case import PRODUCTS, WARM_UPS, Case, Product, best_rate, steps_in
from inceptionnext_lit.reports.benchmark.memory import forget_peak, grown_mib, resident_mib
from inceptionnext_lit.reports.benchmark.timing import seconds_of

_TRIAL_STEPS = 2  # per layout, to find the faster one
_MATMUL_SECONDS = 0.2


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
        self._before = resident_mib()
        started = time.perf_counter()
        layouts = [case.layout] if case.layout != "best" else ["channels_last", "contiguous"]
        steps = {layout: self._build(layout) for layout in layouts}
        for step in steps.values():
            for _ in range(WARM_UPS):
                step()
        self._wait()
        self.warm_up_s = time.perf_counter() - started
        seconds = {layout: self._time(step, _TRIAL_STEPS) for layout, step in steps.items()}
        self.layout: str | None = min(layouts, key=seconds.__getitem__)
        self._step = steps[self.layout]
        del steps
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        forget_peak()

    @property
    def device_name(self) -> str:
        """The device in use."""
        return str(self.device)

    def images_per_s(self, seconds: float) -> float:
        """Run for at least this many seconds and three steps, and return the images per second."""
        steps = steps_in(seconds, self._time(self._step, 1))
        return steps * self.case.batch_size / self._time(self._step, steps)

    def matmul_gflop_per_s(self, products: tuple[Product, ...] = PRODUCTS) -> float | None:
        """Return the best speed of several matrix products in this precision.

        Args:
            products: Sizes; by default those of the models at 224 pixels and a large square one.
        """
        dtype = torch.bfloat16 if self.case.precision == "bf16" else torch.float32

        def seconds_per_product(size: Product) -> float:
            rows, inner, columns = size
            left = torch.randn(rows, inner, device=self.device, dtype=dtype)
            right = torch.randn(columns, inner, device=self.device, dtype=dtype)

            def product(left: Tensor = left, right: Tensor = right) -> None:
                with torch.inference_mode():
                    functional.linear(left, right)

            product()
            steps = math.ceil(_MATMUL_SECONDS / self._time(product, 1))
            return self._time(product, steps) / steps

        return best_rate(products, seconds_per_product)

    def peak_memory_mib(self) -> float | None:
        """Return the peak memory since the warm-up: the GPU's, or what this process has used beyond its start."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return grown_mib(self._before)

    def _time(self, step: Callable[[], object], count: int) -> float:
        """Return the seconds that a number of steps take."""
        return seconds_of(self.device, step, count)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _build(self, layout: str) -> Callable[[], object]:
        case = self.case
        model, channels = _model(case)
        model = model.to(self.device)
        memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        images = torch.randn(case.batch_size, channels, *case.size, device=self.device)
        images = images.to(memory_format=memory_format)
        dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
        casts = case.precision == "bf16"
        if "deploy" in case.variant:
            model, images, casts = deploy(model).to(dtype), images.to(dtype), False
        model = model.to(memory_format=memory_format)
        if "kernels" in case.variant and not use(model, "triton"):
            raise ValueError("it has no mixer that a kernel replaces")
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
        labels, loss_of = self._labels()
        run: Callable[[Tensor], Any] = torch.compile(model) if "compile" in self.case.variant else model

        def step() -> object:
            with self._autocast(casts):
                loss = loss_of(run(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            return optimizer.step()

        return step

    def _labels(self) -> tuple[Tensor, Callable[[Any, Tensor], Tensor]]:
        """Return labels for a batch, and the loss of a model's outputs."""
        if self.case.decoder is None:
            labels = torch.arange(self.case.batch_size, device=self.device)
            return labels, lambda logits, labels: functional.cross_entropy(logits.float(), labels)
        from inceptionnext_lit.reports.benchmark.segmenters import pixel_loss, random_classes

        return random_classes(self.case, self.device), pixel_loss

    def _autocast(self, casts: bool) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if casts else nullcontext()


def _model(case: Case) -> tuple[nn.Module, int]:
    """Return a case's model, and the number of channels of its images."""
    if case.decoder is not None:
        from inceptionnext_lit.reports.benchmark.segmenters import build_segmenter

        return build_segmenter(case)
    if (checkpoint := Path(case.model).expanduser()).is_file():
        from inceptionnext_lit.tasks.loading import load_task

        task = load_task(checkpoint)[0]
        return task.inference_model, len(task.preprocessing["mean"]) if task.preprocessing is not None else 3
    config = timm.get_pretrained_cfg(case.model)
    size = {"img_size": case.image_size} if config is not None and config.fixed_input_size else {}
    return timm.create_model(case.model, **size), 3
