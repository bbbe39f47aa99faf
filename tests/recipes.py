"""The repository's path, and command-line arguments shared by several tests."""

from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
# The real compiler takes most of a minute for a whole model; tests/models/test_compiled.py has a small one for it.
BACKENDS = ["eager", pytest.param("inductor", marks=pytest.mark.slow)]
# A model and a run that take seconds; everything else is as in the quickstart.
SMALL = [
    *("--config", str(REPO / "configs/quickstart.yaml")),
    *("--model.name", "inceptionnext_iso_micro"),
    *("--data.num_workers", "0"),
]
