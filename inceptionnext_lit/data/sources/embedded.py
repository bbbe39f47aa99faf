"""The embedded images: a subset of Fashion-MNIST, unpacked once into a cache folder.

Source: https://github.com/zalandoresearch/fashion-mnist, MIT license (LICENSE-fashion-mnist);
selected by scripts/make_sample.py.
"""

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

from inceptionnext_lit.data.sources.prepared import prepared_root
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.machine import CACHE_VARIABLE, cache_folder

ARCHIVE = Path(__file__).parents[1] / "fashion_mnist_sample.zip"
SAMPLE = "sample"


def data_folder(name: str) -> Path:
    """Return the folder or manifest of a given name; ``sample`` stands for the embedded images.

    A folder that ``prepare`` has written may stand for the manifest in it.

    Args:
        name: A path; write ``./sample`` for a folder called sample.

    Raises:
        UserError: If the name is empty, or the embedded images cannot be unpacked.
    """
    if not name:  # Path("") is the current folder
        raise UserError("The name of the images is empty; give a folder or a file, or . for the current folder.")
    return unpack_sample() if name == SAMPLE else prepared_root(Path(name).expanduser())


def unpack_sample(cache_dir: str | Path | None = None, archive: Path = ARCHIVE) -> Path:
    """Unpack the embedded images unless they are already unpacked.

    Several processes may call this at once: each unpacks into its own folder, the first to finish renames it to its
    final name, and the others discard theirs. A folder with the final name is complete.

    Args:
        cache_dir: Where to unpack; ``None``: the environment variable ``INCEPTIONNEXT_LIT_CACHE``, otherwise
            ``inceptionnext_lit`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
        archive: The zip file. The final name contains its hash, so that a new version is unpacked again.

    Returns:
        The folder with ``train/`` and ``val/``.

    Raises:
        UserError: If the cache folder cannot be written.
    """
    cache = cache_folder(cache_dir)
    version = hashlib.sha256(archive.read_bytes()).hexdigest()[:12]
    target = cache / f"{archive.stem}-{version}"
    if target.is_dir():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=cache, ignore_cleanup_errors=True) as work:
            content = Path(work) / "content"
            with zipfile.ZipFile(archive) as bundle:
                bundle.extractall(content)
            publish(content, target)
    except OSError as error:
        raise UserError(
            f"Cannot unpack the embedded images into {cache}: {error.strerror or error}. "
            f"Name a writable folder with the environment variable {CACHE_VARIABLE}."
        ) from error
    return target


def publish(content: Path, target: Path) -> None:
    """Give a complete folder its final name, unless another process was first.

    Args:
        content: The folder.
        target: Its final name.

    Raises:
        OSError: If it cannot be renamed.
    """
    try:
        os.rename(content, target)
    except OSError:
        if not target.is_dir():  # otherwise another process was first
            raise
