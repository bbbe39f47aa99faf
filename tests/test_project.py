"""Project files: versions agree, and hooks and workflows match the Makefile and the settings."""

import datetime
import re
import tomllib
from typing import Any

import pytest
import yaml

import inceptionnext_lit
from tests.recipes import REPO

PYPROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PYPROJECT["project"]["version"]
WORKFLOWS = sorted((REPO / ".github/workflows").glob("*.yml"))
MAKEFILE = (REPO / "Makefile").read_text(encoding="utf-8")


def read_yaml(path: str) -> Any:
    return yaml.safe_load((REPO / path).read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    assert inceptionnext_lit.__version__ == VERSION
    released = re.findall(
        r"^## (\d\S*) - (\d{4}-\d\d-\d\d)$", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.M
    )
    citation = read_yaml("CITATION.cff")
    assert released[0] == (VERSION, citation["date-released"].isoformat())
    assert citation["version"] == VERSION


def test_the_changelog_follows_keep_a_changelog() -> None:
    headings = re.findall(r"^##+ .*$", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    for heading in headings:
        assert re.fullmatch(
            r"## (Unreleased|\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d)|### (Added|Changed|Deprecated|Removed|Fixed|Security)",
            heading,
        )


def test_the_citation_names_the_paper_and_the_software() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()  # required by the format
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert isinstance(citation["date-released"], datetime.date)
    paper = citation["preferred-citation"]
    assert paper["title"] == "InceptionNeXt: When Inception Meets ConvNeXt"
    assert [author["family-names"] for author in paper["authors"]] == ["Yu", "Zhou", "Yan", "Wang"]
    assert (paper["year"], paper["identifiers"][0]["value"]) == (2024, "arXiv:2303.16900")


def test_the_hooks_run_the_same_as_make_check() -> None:
    [repo] = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"  # the tools of .venv, so that each has one version
    entries = [hook["entry"] for hook in repo["hooks"]]
    [block] = re.findall(r"^check: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    checks = [line.replace("$(BIN)", ".venv/bin") for line in block.splitlines()]
    tools = [re.sub(r" (--check|--fix|\.)", "", entry).strip() for entry in (*entries, *checks)]
    assert tools[:3] == tools[3:] == [".venv/bin/ruff check", ".venv/bin/ruff format", ".venv/bin/mypy"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_targets_of_the_makefile(path: Any) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands
    targets = re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE)
    for command in commands:
        found = re.fullmatch(r"make ([\w-]+) PYTHON=python", command)
        assert found is not None
        assert found[1] in targets


def test_ci_covers_the_supported_versions_of_python() -> None:
    jobs = read_yaml(".github/workflows/ci.yml")["jobs"]
    versions = jobs["test"]["strategy"]["matrix"]["python-version"]
    assert PYPROJECT["project"]["requires-python"] == f">={versions[0]}"
    assert versions == ["3.11", "3.12", "3.13"]
    [minimum] = [step for step in jobs["minimum-versions"]["steps"] if "python-version" in step.get("with", {})]
    assert minimum["with"]["python-version"] == versions[0]


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_have_fields(name: str) -> None:
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    fields = [field["id"] for field in form["body"]]
    assert len(set(fields)) == len(fields) >= 3


def test_make_gpu_check_runs_the_script() -> None:
    [recipe] = re.findall(r"^gpu-check: \$\(READY\)\n\t(.*)\n", MAKEFILE, re.MULTILINE)
    assert recipe == "$(BIN)/python scripts/gpu_check.py"
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert "gpu-check" in phony.split()
    assert "/gpu_check/" in (REPO / ".gitignore").read_text(encoding="utf-8").splitlines()
