"""Download published weights from the Hugging Face hub or from the authors' URL."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from timm.models import PretrainedCfg
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.wording import first_line

# Network errors are of many types; the hub's client uses one of two libraries, whose base error is found here.
NETWORK_ERRORS: tuple[type[Exception], ...] = (OSError, HTTPException, *HfHubHTTPError.__bases__)
Overlay = dict[str, Any]
_HUB_FILE = "model.safetensors"


def build_pretrained(
    build: Callable[[Overlay], nn.Module],
    name: str,
    config: PretrainedCfg,
    overlay: Overlay | None,
    cache_dir: str | Path | None = None,
) -> nn.Module:
    """Build a model with its published weights, trying all their sources.

    Args:
        build: Builds the model, given changes to its ``pretrained_cfg``.
        name: The model's name, for messages.
        config: Its ``pretrained_cfg``, including the overlay.
        overlay: The caller's changes to it. A ``url`` alone is used instead of the hub.
        cache_dir: Folder for downloaded files; None for the libraries' defaults.

    Raises:
        UserError: If there are no weights, a given file does not exist, or the download fails.
    """
    overlay = overlay or {}
    if not (config.state_dict or config.file or config.hf_hub_id or config.url):
        raise NoWeightsError(
            f"No public weights of {name!r}",
            "; train it from scratch with --model.pretrained false, or give your own weights as "
            "--model.pretrained FILE.",
        )
    if config.file and not Path(config.file).exists():
        raise UserError(f"No checkpoint at {config.file}; check the path.")
    if config.state_dict or config.file:
        return build(overlay)
    if overlay.get("url") and "hf_hub_id" not in overlay:  # timm would prefer the hub to a given URL
        overlay, config = overlay | {"hf_hub_id": None}, replace(config, hf_hub_id=None)
    attempts = [overlay]
    if config.hf_hub_id and config.url and not config.source:  # an explicit source excludes all others
        attempts.append(overlay | {"hf_hub_id": None})
    reasons = []
    for attempt in attempts:
        try:
            if config.hf_hub_id and attempt is overlay:
                _check_hub(config, cache_dir)
            return build(attempt)
        except NETWORK_ERRORS as error:
            failure = error
            reasons.append(_root(error))
    raise describe_offline(name, config, "; ".join(dict.fromkeys(reasons))) from failure


class NoWeightsError(UserError):
    """Published weights that do not exist or cannot be downloaded.

    Args:
        problem: What is wrong: a sentence without its period.
        advice: What to do, for the commands with ``model.pretrained``: the rest of the message.

    Attributes:
        problem: As given; a command with other options adds its own advice.
    """

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(problem + advice)
        self.problem = problem


def describe_offline(name: str, config: PretrainedCfg, reason: str) -> NoWeightsError:
    """Describe which weights could not be downloaded, from where, and what to do without a network.

    Args:
        name: The model's name.
        config: Its ``pretrained_cfg`` with the addresses.
        reason: Why the download failed.
    """
    places = []
    if config.hf_hub_id:
        repository, revision, file = _hub_file(config)
        places.append(f"{constants.ENDPOINT}/{repository}/resolve/{revision}/{file}")
    if config.url:
        places.append(config.url if isinstance(config.url, str) else config.url[0])  # a tuple also has the file name
    fetch = "one of the two files" if len(places) == 2 else "this file"
    return NoWeightsError(
        f"The pretrained weights of {name!r} could not be downloaded from {' or '.join(places)} ({reason})",
        f". Download {fetch} on another machine and give it as --model.pretrained FILE, or train from scratch with "
        "--model.pretrained false.",
    )


def _check_hub(config: PretrainedCfg, cache_dir: str | Path | None) -> None:
    """Ask the hub once for a file that is not cached; its client would silently retry for most of a minute."""
    repository, revision, file = _hub_file(config)
    if try_to_load_from_cache(repository, file, cache_dir, revision) is None:
        with suppress(EntryNotFoundError):  # timm also looks for files with other names
            get_hf_file_metadata(hf_hub_url(repository, file, revision=revision), timeout=10)


def _hub_file(config: PretrainedCfg) -> tuple[str, str, str]:
    """Return the repository, revision and name of the weights on the hub."""
    repository, _, revision = config.hf_hub_id.partition("@")
    return repository, revision or "main", config.hf_hub_filename or _HUB_FILE


def _root(error: BaseException) -> str:
    """Return the first line of the root cause of an error."""
    while below := error.__cause__ or error.__context__:
        error = below
    return first_line(error)
