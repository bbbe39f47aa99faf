"""The guide to ``serve`` and the examples: commands run, and the files of containers fit the program."""

import asyncio
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from inceptionnext_lit.cli.commands import serve
from inceptionnext_lit.serve.app import Service, create_app
from inceptionnext_lit.serve.model_process import ModelProcess
from inceptionnext_lit.serve.options import ServeOptions
from tests.pages import DOCS, READ, commands
from tests.recipes import REPO
from tests.serve.serving import half_a_picture, picture, run, served

EXAMPLES = REPO / "examples/serve"
PAGE = DOCS / "guides/serve.md"
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMMANDS = commands(*READ)


async def call(words: Sequence[str], folder: Path, port: int) -> tuple[int, str, str]:
    """Run a command of the guide against a server on another port."""
    words = [word.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for word in words]
    words = [str(REPO / word) if word.startswith("examples/") else word for word in words]
    words = [sys.executable if word == "python" else word for word in words]
    process = await asyncio.create_subprocess_exec(*words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, color in (("photo.jpg", "red"), ("one.jpg", "lime"), ("two.png", "blue")):
        (tmp_path / name).write_bytes(picture(color, kind="JPEG" if name.endswith("jpg") else "PNG"))
    return tmp_path


def test_the_arguments_of_serve_are_valid() -> None:
    found = [words[3:] for words in COMMANDS if words[2:3] == ["serve"]]
    assert found
    for words in found:
        assert serve._parse(words).model


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_calls_with_curl(folder: Path) -> None:
    found = [words for words in COMMANDS if words[0] == "curl"]
    assert len(found) == 2
    assert all(f"  {shlex.join(words)}\n" in serve.EXAMPLES for words in found)

    async def scenario() -> None:
        async with served() as server:
            raw, form = [(await call([*words, "-s"], folder, server.port))[1] for words in found]
            assert raw.startswith('[{"path":null,"label":"red","probability":')
            assert re.findall(r'"path":"(.*?)","label":"(.*?)"', form) == [("one.jpg", "green"), ("two.png", "blue")]

    run(scenario)


def test_the_client(folder: Path) -> None:
    [words] = [words for words in COMMANDS if words[1] == "examples/serve/client.py"]
    (folder / "half.png").write_bytes(half_a_picture())

    async def scenario() -> None:
        async with served("colors:0.3", max_batch=1, max_queue=1) as server:
            busy = [asyncio.create_task(server.post(picture("blue"))) for _ in range(3)]
            code, out, error = await call(words, folder, server.port)  # it comes back later
            assert (code, error) == (0, "")
            assert re.fullmatch(r"photo\.jpg: red, probability \d\.\d{4}\n", out)
            code, out, error = await call([*words[:2], "half.png", *words[2:]], folder, server.port)
            assert (code, out.count("\n")) == (1, 1)
            assert error == "half.png: The image cannot be read: image file is truncated.\n"
            await asyncio.gather(*busy)
        code, out, error = await call(words, folder, server.port)
        assert (code, out) == (1, "")
        assert "Connection refused" in error

    run(scenario)


@pytest.mark.parametrize(
    ("clients", "seconds", "options"),
    [
        (20, 1, {"max_queue": 8}),
        pytest.param(200, 30, {}, marks=pytest.mark.slow),
    ],
)
def test_under_load_no_answer_is_lost(folder: Path, clients: int, seconds: int, options: dict[str, Any]) -> None:
    [words] = [words for words in COMMANDS if words[1] == "examples/serve/load_test.py"]
    images = [str(path) for path in sorted(folder.iterdir())]
    command = [
        *words[:2],
        *images,
        *words[words.index("--url") :],
        "--clients",
        str(clients),
        "--seconds",
        str(seconds),
    ]

    async def scenario() -> None:
        async with served("colors:0.02", **options) as server:
            code, out, error = await call(command, folder, server.port)
            print(out)
            assert (code, error) == (0, "")
            assert re.search(rf"^{clients} clients, \S+ s: [\d,]+ answers, \S+ images/s$", out, re.MULTILINE)
            assert re.search(r"^latency in ms: p50 \d+, p95 \d+, p99 \d+, most \d+$", out, re.MULTILINE)
            assert re.search(r"^lost: 0, wrong: 0, told to come back \(503\): [\d,]+$", out, re.MULTILINE)
            assert re.search(
                r"^memory in MiB: server \d+ -> \d+, model \d+ -> \d+; most together \d+$", out, re.MULTILINE
            )
            if options:
                assert not re.search(r"\(503\): 0$", out, re.MULTILINE)

    run(scenario)


def test_the_load_test_stays_on_this_machine(folder: Path) -> None:
    async def scenario() -> None:
        words = ["python", "examples/serve/load_test.py", "photo.jpg", "--url", "http://example.org"]
        code, _, error = await call(words, folder, 0)
        assert code == 2
        assert error.endswith("error: load only a server on this machine, such as http://127.0.0.1:8000\n")

    run(scenario)


def requirements(lines: Sequence[str]) -> dict[str, str]:
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: str(requirement.specifier) for requirement in found}


def test_the_image_installs_what_the_server_needs() -> None:
    """The bounds are the project's, and no package brings torch."""
    image = requirements((EXAMPLES / "requirements.txt").read_text(encoding="utf-8").splitlines())
    project = requirements([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["serve"]])
    assert image == {name: project[name] for name in image}
    assert set(requirements(PROJECT["optional-dependencies"]["serve"])) <= set(image)
    assert not {"torch", "torchvision", "timm", "lightning"} & set(image)


def test_the_dockerfile() -> None:
    """Without Docker: instructions are known, what is copied exists and is sent, and the command is the program's."""
    lines = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    assert {name for name, _ in instructions} == {
        *("FROM", "ARG", "ENV", "COPY", "RUN", "USER", "WORKDIR", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"),
        *("ENTRYPOINT", "CMD"),
    }
    assert instructions[0] == ["FROM", "python:3.13-slim"]
    ignored = (EXAMPLES / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"
    for name, text in instructions:
        if name == "COPY":
            for source in text.split()[:-1]:
                assert (REPO / source).exists(), source
                assert f"!{source}" in ignored
    last = dict(instructions)  # type: ignore[arg-type]
    assert last["USER"] == "10001"
    assert last["STOPSIGNAL"] == "SIGTERM"
    command, *words = yaml.safe_load(last["ENTRYPOINT"])
    assert command in PROJECT["scripts"]
    assert words[0] == "serve"
    options = serve._parse([*words[1:], *yaml.safe_load(last["CMD"])])
    assert (options.host, options.model) == ("0.0.0.0", "/model/model.onnx")
    assert int(last["EXPOSE"]) == options.port
    compile(yaml.safe_load(last["HEALTHCHECK"].partition("CMD ")[2])[2], "health", "exec")


def test_the_compose_file() -> None:
    [(name, service)] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text(encoding="utf-8"))["services"].items()
    assert name == "serve"
    build = service["build"]
    assert (EXAMPLES / build["context"]).resolve() == REPO
    assert (REPO / build["dockerfile"]).is_file()
    options = serve._parse(["--host", "0.0.0.0", *service["command"]])
    [volume] = service["volumes"]
    assert volume == f"./model.onnx:{options.model}:ro"
    assert service["ports"] == [f"127.0.0.1:8000:{options.port}"]
    assert service["read_only"] is True
    assert int(service["stop_grace_period"].rstrip("s")) > 2 * options.timeout_s
    kind, python, flag, code = service["healthcheck"]["test"]
    assert (kind, python, flag) == ("CMD", "python", "-c")
    assert f":{options.port}/health" in code
    compile(code, "health", "exec")


def test_the_kubernetes_manifest() -> None:
    deployment, service = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text(encoding="utf-8"))
    assert (deployment["kind"], service["kind"]) == ("Deployment", "Service")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    pod = template["spec"]
    [container] = pod["containers"]
    options = serve._parse(["--host", "0.0.0.0", *container["args"]])
    assert pod["terminationGracePeriodSeconds"] > 2 * options.timeout_s
    [port] = container["ports"]
    assert port["containerPort"] == options.port
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(options.port)
    paths = {template["metadata"]["annotations"]["prometheus.io/path"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        paths.add(container[probe]["httpGet"]["path"])
        assert container[probe]["httpGet"]["port"] == port["name"]
    assert paths == {"/health", "/metrics"}
    [mount], [volume] = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]
    assert Path(options.model).parent == Path(mount["mountPath"])
    assert container["image"] == yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]["serve"]["image"]


def test_the_guide_lists_all_addresses_and_answers() -> None:
    options = ServeOptions("model.onnx")
    process = ModelProcess(options)
    process.metadata = {"model": "model.onnx"}
    api = create_app(Service(options, process)).app.openapi()
    text = PAGE.read_text(encoding="utf-8")
    for path in api["paths"]:
        assert f"{path}`" in text
    for status in api["paths"]["/predict"]["post"]["responses"].keys() - {"200"}:
        assert re.search(rf"^\| .*\b{status}\b.* \|", text, re.MULTILINE), status
