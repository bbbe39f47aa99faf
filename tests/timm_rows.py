"""A plugin that makes timm's own test suite test only this family's rows.

The suite is not in timm's wheel. Unpack the source of the release that is installed, and run it from there::

    pip download --no-deps --no-binary :all: timm==VERSION && tar xzf timm-*.tar.gz && cd timm-*/
    PYTHONPATH=REPOSITORY/tests python -m pytest -p timm_rows -p no:timeout tests/test_models.py

It takes about 20 minutes on one core. Tests that download weights have nothing to do here: no row has published weights
of its own under timm's name.
"""

from typing import Any

import timm

_THEIRS = set(timm.list_models())

import inceptionnext_lit.models  # noqa: E402, F401  # after theirs are noted

_LIST = timm.list_models
_ROWS = set(_LIST()) - _THEIRS
_NAMED_BY_A_TEST = "regnetx_002"  # a test looks for it in the list


def _list_rows(*args: Any, module: str | list[str] = "", pretrained: bool = False, **kwargs: Any) -> list[str]:
    """List our rows as the models of any of timm's modules."""
    if pretrained:
        return []
    return [name for name in _LIST(*args, **kwargs) if name in _ROWS or name == _NAMED_BY_A_TEST]


timm.list_models = _list_rows
timm.list_pretrained = lambda *args, **kwargs: []
