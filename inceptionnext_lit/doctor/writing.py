"""Write a doctor's report as JSON or HTML."""

import json
import os
from pathlib import Path

from inceptionnext_lit.doctor.page import render_page
from inceptionnext_lit.doctor.report import Report
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.safe_save import obstacle, replacing

SUFFIXES = (".json", ".html")


def check_output(path: Path) -> None:
    """Refuse an unsuitable report file before reading anything.

    Raises:
        UserError: If its suffix is neither ``.json`` nor ``.html``, or it cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--output is {path}; it must end in {' or '.join(SUFFIXES)}.")
    if (code := obstacle(path)) is not None:
        raise UserError(f"The report {path} cannot be written: {os.strerror(code)}; give another one with --output.")


def write_report(report: Report, path: Path) -> None:
    """Write a report atomically, in the format given by the file's suffix.

    Raises:
        UserError: If it cannot be written.
    """
    as_json = path.suffix.lower() == ".json"
    text = json.dumps(report.record(), indent=2) + "\n" if as_json else render_page(report)
    try:
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"The report {path} cannot be written: {error.strerror or error}.") from error
