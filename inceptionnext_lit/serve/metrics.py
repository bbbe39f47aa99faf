"""Metrics of the server in Prometheus's text format."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from inceptionnext_lit.serve.model_process import ModelProcess

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters and histograms.

    Attributes:
        waiting: The number of images that wait.

    Args:
        process: The model's process.
    """

    def __init__(self, process: ModelProcess) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the times at which counters were created
        self._registry = CollectorRegistry()
        own: Any = {"registry": self._registry, "namespace": "inceptionnext"}
        self._requests = Counter("requests", "Requests by path and HTTP status.", ["path", "status"], **own)
        self._seconds = Histogram(
            "request_seconds", "Time to the end of the answer.", ["path"], buckets=_SECONDS, **own
        )
        self._images = Counter("images", "Images by HTTP status of their answer.", ["status"], **own)
        self._batch_images = Histogram("batch_images", "Images per batch.", buckets=_SIZES, **own)
        self._batch_seconds = Histogram("batch_seconds", "Time of a batch in the model.", buckets=_SECONDS, **own)
        self.waiting = Gauge("waiting_images", "Images that wait for the model.", **own)
        self._registry.register(_Processes(process))

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def image(self, status: int) -> None:
        """Count an image."""
        self._images.labels(status).inc()

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self._batch_images.observe(images)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics as text."""
        return bytes(generate_latest(self._registry))


class _Processes(Collector):
    """The state and the memory of the server's processes, read when they are asked for."""

    def __init__(self, process: ModelProcess) -> None:
        self._process = process

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the current values."""
        up = float(self._process.state == "ok")
        yield GaugeMetricFamily("inceptionnext_model_up", "Whether the model takes images.", value=up)
        restarts = float(self._process.restarts)
        yield GaugeMetricFamily("inceptionnext_model_restarts", "Restarts of the model's process.", value=restarts)
        memory = GaugeMetricFamily("inceptionnext_resident_bytes", "Resident memory of a process.", labels=["process"])
        for name, pid in (("server", os.getpid()), ("model", self._process.pid)):
            if (resident := _resident_bytes(pid)) is not None:
                memory.add_metric([name], resident)
        yield memory


def _resident_bytes(pid: int | None) -> float | None:
    """Return the resident memory of a process; None if the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
