"""Where the repository lies, and command-line words that several tests share."""

from pathlib import Path

REPO = Path(__file__).parents[1]
# A model and a run of seconds; everything else is the quickstart's.
SMALL = [
    *("--config", str(REPO / "configs/quickstart.yaml")),
    *("--model.name", "inceptionnext_iso_micro"),
    *("--data.num_workers", "0"),
]
