"""How this program was called, for usage messages and for starting it again."""

import shlex
import shutil
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent
_INSTALLED = "inceptionnext-lit"
_WRITTEN = "python cli.py"  # how messages and help texts call it


def usage_name() -> str:
    """Return the program's name for usage lines, such as ``python cli.py`` or ``inceptionnext-lit``."""
    return shlex.join(_words("python"))


def exact_name() -> str:
    """Return the command that starts the program with this interpreter, as typed in the current folder."""
    on_path = shutil.which("python")
    is_python = on_path is not None and Path(on_path) == Path(sys.executable)
    # the python of a virtual environment is a link that must not be followed
    return shlex.join(_words("python" if is_python else relative(sys.executable, follow=False)))


def restart_command() -> list[str]:
    """Return the command that starts the program again in a new process."""
    script = Path(sys.argv[0])
    is_ours = script.name == "cli.py" or script.name.removesuffix(".exe") == _INSTALLED
    if _is_module() or not is_ours:  # another program has called main
        return [sys.executable, "-m", _PACKAGE.name]
    return [sys.executable, sys.argv[0]]


def as_called(text: str) -> str:
    """Replace the program name in one of our texts with the one it was called by."""
    return text.replace(_WRITTEN, usage_name())


def relative(path: str, *, follow: bool = True) -> str:
    """Return a path relative to the current folder if it is inside it."""
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
    """Return whether the program was called as ``python -m inceptionnext_lit``."""
    return Path(sys.argv[0]) == _PACKAGE / "__main__.py"
