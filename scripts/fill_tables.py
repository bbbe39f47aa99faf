"""Insert the output of ``python cli.py budget --format markdown`` into docs/paper.md, between its two markers.

Usage: python scripts/fill_tables.py
"""

import argparse
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[1]
COMMAND = ["cli.py", "budget", "--format", "markdown"]
BEGIN, END = "<!-- budget: begin -->\n", "<!-- budget: end -->\n"


def fill(text: str, tables: str) -> str:
    """Replace the text between the markers.

    Args:
        text: The page.
        tables: The new text.

    Raises:
        ValueError: If the page does not have both markers.
    """
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"docs/paper.md does not have the markers {BEGIN.strip()} and {END.strip()}.")
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    printed = subprocess.run([sys.executable, *COMMAND], cwd=REPO, stdout=subprocess.PIPE, text=True, check=True).stdout
    page = REPO / "docs/paper.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), printed), encoding="utf-8")
