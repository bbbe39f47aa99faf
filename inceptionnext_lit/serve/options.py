"""The options of the server."""

from dataclasses import dataclass

from inceptionnext_lit.errors import UserError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeOptions:
    """The options of the server.

    Attributes:
        model: What ``load_classifier`` takes: a checkpoint, an exported file, or the name of a model.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.
        device: Device of the model; None for a GPU if there is one.
        max_batch: Maximum number of images that the model gets at once.
        max_wait_ms: Milliseconds that an image waits for others to fill its batch.
        max_queue: Maximum number of images that wait, and of a request.
        max_bytes: Maximum size of a request's body in bytes.
        max_pixels: Maximum number of pixels of an image.
        timeout_s: Seconds that a client has to send its request, and the model to label a batch.
        unsure_below: If set, rows have ``unsure``: whether the best probability is below this.

    Raises:
        UserError: If a value is out of its range.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    device: str | None = None
    max_batch: int = 16
    max_wait_ms: float = 5
    max_queue: int = 256
    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    timeout_s: float = 60
    unsure_below: float | None = None

    def __post_init__(self) -> None:
        for name, lowest in (("max_batch", 1), ("max_queue", 1), ("max_bytes", 1), ("max_pixels", 1)):
            if getattr(self, name) < lowest:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be {lowest} or more.")
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port is {self.port}; it must be a port number from 0 to 65535.")
        if not 0 <= self.max_wait_ms <= 10_000:
            raise UserError(f"--max_wait_ms is {self.max_wait_ms:g}; it must be from 0 to 10000 milliseconds.")
        if not 0 < self.timeout_s <= 3600:
            raise UserError(f"--timeout_s is {self.timeout_s:g}; it must be more than 0 and at most 3600 seconds.")
        if self.unsure_below is not None and not 0 < self.unsure_below <= 1:
            raise UserError(
                f"--unsure_below is {self.unsure_below}; it must be a probability greater than 0, at most 1."
            )
