"""The shipped packages and recipes, in a wheel built from the source archive."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.recipes import REPO

SETTINGS = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_package_is_shipped() -> None:
    folders = {path.parent.relative_to(REPO) for path in (REPO / "inceptionnext_lit").rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} | {"inceptionnext_lit.configs"} == set(SETTINGS["packages"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the source archive, so that both are tested."""
    root = tmp_path_factory.mktemp("build")
    source = root / "source"
    left_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "__pycache__")
    shutil.copytree(REPO, source, ignore=left_out)
    build = "from setuptools import build_meta; build_meta.build_{}({!r})"
    subprocess.run([sys.executable, "-c", build.format("sdist", str(root))], cwd=source, check=True, timeout=120)
    [archive] = root.glob("*.tar.gz")
    shutil.unpack_archive(archive, root / "unpacked")
    [unpacked] = (root / "unpacked").iterdir()
    subprocess.run([sys.executable, "-c", build.format("wheel", str(root))], cwd=unpacked, check=True, timeout=120)
    [found] = root.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a virtual environment with the wheel; its dependencies come from this environment."""
    root = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True, timeout=120)
    [packages] = root.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(root / "bin/python"), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", "--quiet", str(wheel)], check=True, timeout=300)
    return root


@pytest.mark.slow
def test_the_wheel_runs_the_quickstart_from_another_folder(environment: Path, tmp_path: Path) -> None:
    def start(*words: str) -> str:
        bare = {"PATH": "/usr/bin"}
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=bare)
        assert done.returncode == 0, done.stderr
        return done.stdout

    command, python = str(environment / "bin/inceptionnext-lit"), str(environment / "bin/python")
    place = start(python, "-c", "import inceptionnext_lit; print(inceptionnext_lit.__file__)")
    assert place.startswith(str(environment))
    shipped = {path.relative_to(REPO / "configs").with_suffix("").as_posix() for path in REPO.glob("configs/**/*.yaml")}
    listing = start(command, "recipes").split("\n\n")[0].splitlines()
    assert {line.split()[0] for line in listing} == shipped
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "4", "--trainer.limit_val_batches", "2"]
    output = start(command, "fit", "--config", "quickstart", *short)
    assert "Run folder: runs/quickstart/version_0\n" in output
    assert "\nNext:       inceptionnext-lit predict FOLDER_OR_IMAGE --ckpt_path runs/quickstart/version_0/" in output
    output = start(python, "-m", "inceptionnext_lit", "fit", "--config", "quickstart.yaml", *short)
    assert f"\nNext:       {python} -m inceptionnext_lit predict FOLDER_OR_IMAGE --ckpt_path runs/quickstart/" in output


@pytest.mark.slow
def test_an_editable_install_has_the_recipes(tmp_path: Path) -> None:
    source = tmp_path / "clone"
    shutil.copytree(REPO, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "__pycache__"))
    build = f"from setuptools import build_meta; build_meta.build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, timeout=120)
    [wheel] = tmp_path.glob("*.whl")
    root = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True, timeout=120)
    [packages] = root.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(root / "bin/python"), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", "--quiet", str(wheel)], check=True, timeout=300)
    done = subprocess.run(
        [str(root / "bin/inceptionnext-lit"), "recipes"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={"PATH": "/usr/bin"},
    )  # fmt: skip
    assert f"Files:   {source / 'configs'}\n" in done.stdout
