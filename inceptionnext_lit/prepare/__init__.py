"""Turn public data sets into folders and manifests that all commands read."""

from pathlib import Path


def prepared_folder(name: str, num_workers: int | None = None) -> Path:
    """Return the prepared copy of a data set under the cache folder, which is prepared on first use.

    Several processes may call this at once: the others wait for the first.

    Args:
        name: A data set of ``inceptionnext_lit.data.public.DATASETS``, or ``hf:OWNER/NAME``.
        num_workers: Number of processes that write images; by default one for each core, at most 8.

    Returns:
        A folder for ``data.root``.

    Raises:
        UserError: If there is no such data set, or it cannot be prepared.
    """
    from inceptionnext_lit.prepare.prepare import cached

    return cached(name, num_workers)
