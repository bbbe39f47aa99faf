"""Earlier results of timing both forms of mixers, in a small file of the cache folder."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from inceptionnext_lit.machine import cache_folder
from inceptionnext_lit.models.kernels.recording import Case
from inceptionnext_lit.models.kernels.trials import Verdict, choose
from inceptionnext_lit.safe_save import replacing

NAME = "kernels.json"
_MOST = 1000  # entries; the oldest are dropped


class Remembered:
    """Times measured by earlier runs, for the same GPU, libraries and kernels.

    Several processes may write at once: the file is always a complete one, and may lack what another one measured.

    Args:
        device: The device that the times are of.
        tell: Called with a sentence if the file cannot be used.
        path: The file; None for ``kernels.json`` in the cache folder.
    """

    def __init__(self, device: torch.device, tell: Callable[[str], None], path: Path | None = None) -> None:
        self._place = _place(device)
        self._tell = tell
        self.path = cache_folder() / NAME if path is None else path
        self._known = self._read()

    def find(self, case: Case) -> Verdict | None:
        """Return the verdict that the times of an earlier run give; None if there are none.

        Args:
            case: What a mixer computes.
        """
        times = self._known.get(self._key(case))
        if not isinstance(times, dict) or not all(isinstance(times.get(of), int | float) for of in ("torch", "triton")):
            return None
        verdict = choose({"torch": times["torch"], "triton": times["triton"]})
        return replace(verdict, reason=f"{verdict.reason}, as timed by an earlier run")

    def keep(self, verdicts: Mapping[Case, Verdict]) -> None:
        """Remember measured times; those of a kernel that failed are not measured.

        Args:
            verdicts: The verdicts of cases.
        """
        new = {
            self._key(case): {"torch": verdict.torch_ms, "triton": verdict.triton_ms}
            for case, verdict in verdicts.items()
            if verdict.torch_ms is not None and verdict.triton_ms is not None
        }
        if not new:
            return
        known = {key: value for key, value in self._read(quiet=True).items() if key not in new} | new
        text = json.dumps(dict(list(known.items())[-_MOST:]), indent=1) + "\n"
        try:
            with replacing(self.path) as partial:
                partial.write_text(text, encoding="utf-8")
        except OSError as error:
            self._tell(f"the times cannot be remembered in {self.path}: {error.strerror or error}")

    def _read(self, *, quiet: bool = False) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):  # writing will say what is wrong
            return {}
        except (OSError, ValueError) as error:
            content, problem = None, getattr(error, "strerror", None) or "it is not JSON"
        else:
            problem = "it is not a table of times"
        if isinstance(content, dict):
            return content
        if not quiet:
            self._tell(f"earlier times in {self.path} are not used: {problem}")
        return {}

    def _key(self, case: Case) -> str:
        return f"{self._place} {case.key}"


def _place(device: torch.device) -> str:
    """Return all that times depend on besides the case: GPU, libraries, kernels and torch's settings."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    try:
        triton = version("triton")
    except PackageNotFoundError:  # some builds have another name
        triton = "unknown"
    cudnn = torch.backends.cudnn
    settings = f"tf32={cudnn.allow_tf32} benchmark={cudnn.benchmark}"
    return f"{gpu} torch={torch.__version__} triton={triton} kernels={_source_hash()} {settings}"


def _source_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
