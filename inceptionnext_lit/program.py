"""How this program was called, for texts that say what to type and for starting it once more."""

import shlex
import shutil
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent
_INSTALLED = "inceptionnext-lit"
_WRITTEN = "python cli.py"  # how our texts call it


def usage_name() -> str:
    """The program in usage lines: ``python cli.py``, ``python -m inceptionnext_lit`` or ``inceptionnext-lit``."""
    return shlex.join(_words("python"))


def exact_name() -> str:
    """What starts the program with this interpreter, as one would type it in this folder."""
    on_path = shutil.which("python")
    is_python = on_path is not None and Path(on_path) == Path(sys.executable)
    # a virtual environment's python is a link that must not be followed
    return shlex.join(_words("python" if is_python else relative(sys.executable, follow=False)))


def restart_command() -> list[str]:
    """Words that start the program again as a process of its own."""
    script = Path(sys.argv[0])
    is_ours = script.name == "cli.py" or script.name.removesuffix(".exe") == _INSTALLED
    if _is_module() or not is_ours:  # a program that has called main itself
        return [sys.executable, "-m", _PACKAGE.name]
    return [sys.executable, sys.argv[0]]


def as_called(text: str) -> str:
    """A text of ours, with the program's name as it was called."""
    return text.replace(_WRITTEN, usage_name())


def relative(path: str, *, follow: bool = True) -> str:
    """A path as one would type it in this folder."""
    absolute = Path(path).resolve() if follow else Path(path).absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else path


def _words(python: str) -> list[str]:
    script = sys.argv[0]
    if _is_module():
        return [python, "-m", _PACKAGE.name]
    if script.endswith(".py"):
        return [python, relative(script)]
    return [Path(script).name.removesuffix(".exe")]


def _is_module() -> bool:
    """Whether it was called as ``python -m inceptionnext_lit``."""
    return Path(sys.argv[0]) == _PACKAGE / "__main__.py"
