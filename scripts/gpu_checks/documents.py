"""What the check writes: a JSON file with everything, and a page of tables."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from gpu_checks import tables
from gpu_checks.running import Outcome
from gpu_checks.settings import SETTINGS
from inceptionnext_lit.safe_save import replacing

_SECTIONS: tuple[tuple[str, Callable[..., str]], ...] = (
    ("Bounds", tables.bounds),
    ("Tests", tables.tests),
    ("Goals", tables.goals),
    ("Training and inference", tables.speed),
    ("Peak memory of a training step", tables.memory),
    ("Times of the kernels", tables.kernel_times),
    ("Errors of the kernels", tables.kernel_errors),
    ("Fit", tables.fit),
)


@dataclass(frozen=True)
class Run:
    """What the documents say of a run.

    Attributes:
        command: The command line.
        device: ``cuda`` or ``cpu``.
        batch_size: Images per step.
        commit: The commit of the repository; None if it is unknown.
        date: The day on which it ran.
    """

    command: str
    device: str
    batch_size: int
    commit: str | None
    date: str


def write(
    folder: Path, about: Run, titles: Mapping[str, str], outcomes: Mapping[str, Outcome], allowed: float, spent: float
) -> None:
    """Replace ``gpu_check.json`` and ``gpu_check.md``.

    Args:
        folder: Where they are.
        about: The run.
        titles: What each part does, also those that have not run yet.
        outcomes: The outcomes so far.
        allowed: Total time in seconds.
        spent: What is spent of it.
    """
    parts = {name: {"title": titles[name], **asdict(outcome)} for name, outcome in outcomes.items()}
    whole = {**asdict(about), "seconds_allowed": allowed, "seconds": spent, "parts": parts}
    with replacing(folder / "gpu_check.json") as partial:
        partial.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with replacing(folder / "gpu_check.md") as partial:
        partial.write_text(page(about, titles, outcomes, allowed, spent), encoding="utf-8")


def page(about: Run, titles: Mapping[str, str], outcomes: Mapping[str, Outcome], allowed: float, spent: float) -> str:
    """Return the page of tables; see :func:`write`."""
    results = {name: outcome.result for name, outcome in outcomes.items() if outcome.result is not None}
    machine = results.get("environment") or {}
    card = machine.get("card") if isinstance(machine, dict) else None
    where = f"On {card or 'an unknown card'}, commit {about.commit or 'unknown'}, {about.date}."
    if about.device == "cpu":
        where = f"**A trial of the script on tiny models; no figure here says anything about a GPU.** {where}"
    text = [
        f"# GPU check\n\n{where} The parts took {spent:.0f} of {allowed:.0f} seconds.",
        f"```bash\n{about.command}\n```",
        tables.parts(titles, outcomes),
    ]
    for title, table in _SECTIONS:
        try:
            content = table(results, SETTINGS[about.device])
        except Exception as error:  # what a part reports must not keep the others from the page
            content = f"This table cannot be written: {type(error).__name__}: {error}. See gpu_check.json."
        if content:
            text.append(f"## {title}\n\n{content}")
    return "\n\n".join(one.strip("\n") for one in text) + "\n"
