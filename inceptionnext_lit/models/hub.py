"""Fetching published weights: from the Hugging Face hub, else from the authors' own address, else a clear error."""

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

# A network fails in many ways; the hub's client is built on one of two libraries, of which this names the base error.
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
    """Build a model with its published weights, trying every place that has them.

    Args:
        build: Builds the model, given what to change in its ``pretrained_cfg``.
        name: The model's name, for messages.
        config: Its ``pretrained_cfg``, the overlay included.
        overlay: What the caller wants changed in it. A ``url`` alone takes the hub's place.
        cache_dir: Where fetched files are kept; None for the libraries' own places.

    Raises:
        UserError: If there are no weights, a file that was named does not exist, or none can be fetched.
    """
    overlay = overlay or {}
    if not (config.state_dict or config.file or config.hf_hub_id or config.url):
        raise UserError(
            f"There are no public weights of {name!r}; train it from scratch with --model.pretrained false, "
            "or give weights of your own as --model.pretrained FILE."
        )
    if config.file and not Path(config.file).exists():
        raise UserError(f"There is no checkpoint at {config.file}; check the path.")
    if config.state_dict or config.file:
        return build(overlay)
    if overlay.get("url") and "hf_hub_id" not in overlay:  # timm would prefer the hub to an address that was given
        overlay, config = overlay | {"hf_hub_id": None}, replace(config, hf_hub_id=None)
    attempts = [overlay]
    if config.hf_hub_id and config.url and not config.source:  # a source that was set allows no other
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


def describe_offline(name: str, config: PretrainedCfg, reason: str) -> UserError:
    """Say which weights could not be fetched, from where, and what to do without a network.

    Args:
        name: The model's name.
        config: Its ``pretrained_cfg``, which holds the addresses.
        reason: Why it failed.
    """
    places = []
    if config.hf_hub_id:
        repository, revision, file = _hub_file(config)
        places.append(f"{constants.ENDPOINT}/{repository}/resolve/{revision}/{file}")
    if config.url:
        places.append(config.url if isinstance(config.url, str) else config.url[0])  # else with the file's name
    fetch = "one of the two files" if len(places) == 2 else "this file"
    return UserError(
        f"The pretrained weights of {name!r} could not be fetched from {' or '.join(places)} ({reason}). Fetch {fetch} "
        "on another machine and give it as --model.pretrained FILE, or train from scratch with "
        "--model.pretrained false."
    )


def _check_hub(config: PretrainedCfg, cache_dir: str | Path | None) -> None:
    """Ask the hub once for a file that is not in the cache; its client would try for most of a minute in silence."""
    repository, revision, file = _hub_file(config)
    if try_to_load_from_cache(repository, file, cache_dir, revision) is None:
        with suppress(EntryNotFoundError):  # timm looks for files of other names too
            get_hf_file_metadata(hf_hub_url(repository, file, revision=revision), timeout=10)


def _hub_file(config: PretrainedCfg) -> tuple[str, str, str]:
    """Repository, revision and name of the weights on the hub."""
    repository, _, revision = config.hf_hub_id.partition("@")
    return repository, revision or "main", config.hf_hub_filename or _HUB_FILE


def _root(error: BaseException) -> str:
    """The first line of what went wrong at the bottom of a chain of errors."""
    while below := error.__cause__ or error.__context__:
        error = below
    return first_line(error)
