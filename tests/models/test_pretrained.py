"""``pretrained=True`` with a local hub, without one, and from files."""

import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models.hub import describe_offline
from tests.models.references import Isotropic

NOBODY = "http://127.0.0.1:9"  # the port of a service that nobody runs
HUB_PATH = "timm/inception_next_atto.sail_in1k/resolve/main/model.safetensors"
SCRIPT = """
import sys, timm, torch, inceptionnext_lit
from inceptionnext_lit.errors import UserError
torch.set_num_threads(1)
for number, overlay in enumerate({overlays}):
    try:
        model = timm.create_model("inceptionnext_atto", pretrained=True, pretrained_cfg_overlay=overlay)
    except UserError as error:
        print(error)
    else:
        torch.save(model.state_dict(), f"loaded_{{number}}.pth")
        print("loaded")
"""


class HubHandler(SimpleHTTPRequestHandler):
    """Serve the files of a folder, with the headers that the hub's client expects."""

    def end_headers(self) -> None:
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("X-Repo-Commit", "0" * 40)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        self.server.paths.append(self.path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(HubHandler, directory=str(tmp_path / "served"))) as server:
        server.paths = []
        server.folder = tmp_path / "served"
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def create(tmp_path: Path) -> Callable[..., str]:
    """Creates pretrained attos in a process of its own, with an empty cache; gives what it prints."""

    def run(endpoint: str, *overlays: dict[str, str] | None) -> str:
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": "hf", "TORCH_HOME": "torch"}
        environment |= {"HF_HUB_ETAG_TIMEOUT": "3", "HF_HUB_DOWNLOAD_TIMEOUT": "3", "HF_HUB_DISABLE_XET": "1"}
        environment |= {"OMP_NUM_THREADS": "1", "NO_PROXY": "*", "PYTHONPATH": str(Path(__file__).parents[2])}
        for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
            environment.pop(name, None)
        command = [sys.executable, "-c", SCRIPT.format(overlays=overlays)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def assert_loaded(tmp_path: Path, source: nn.Module) -> None:
    loaded = torch.load(tmp_path / "loaded_0.pth", weights_only=True)
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)


@pytest.mark.slow
def test_from_the_hub(server: ThreadingHTTPServer, create: Callable[..., str], tmp_path: Path) -> None:
    source = timm.create_model("inception_next_atto")
    (server.folder / HUB_PATH).parent.mkdir(parents=True)
    save_file(source.state_dict(), server.folder / HUB_PATH)
    assert create(server.address, None) == "loaded\n"
    assert_loaded(tmp_path, source)
    assert {path for path in server.paths if not path.startswith("/api/")} == {f"/{HUB_PATH}"}


@pytest.mark.slow
def test_where_the_hub_is_out_of_reach_the_authors_address_is_asked(
    server: ThreadingHTTPServer, create: Callable[..., str], tmp_path: Path
) -> None:
    source = timm.create_model("inception_next_atto")
    torch.save({"state_dict": source.state_dict()}, server.folder / "atto.pth")
    hub_id = "timm/inception_next_atto.sail_in1k"
    there, nowhere = f"{server.address}/atto.pth", f"{NOBODY}/other.pth"
    printed = create(NOBODY, {"url": there, "hf_hub_id": hub_id}, {"url": nowhere, "hf_hub_id": hub_id})
    assert_loaded(tmp_path, source)
    assert server.paths == ["/atto.pth"]
    lines = [line for line in printed.splitlines() if not line.startswith("Downloading: ")]  # torch's
    assert lines == [
        "loaded",
        f"The pretrained weights of 'inceptionnext_atto' could not be downloaded from {NOBODY}/{HUB_PATH} or "
        f"{nowhere} ([Errno 111] Connection refused). Download one of the two files on another machine and "
        "give it as --model.pretrained FILE, or train from scratch with --model.pretrained false.",
    ]


def test_the_callers_url_or_file_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    source = timm.create_model("inception_next_atto").state_dict()
    path = tmp_path / "mine.pth"
    torch.save({"model": {f"module.{name}": tensor for name, tensor in source.items()}}, path)
    for overlay in ({"url": path.as_uri()}, {"file": str(path)}, {"state_dict": source}):
        model = timm.create_model("inceptionnext_atto", pretrained=True, pretrained_cfg_overlay=overlay)
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, source[name], rtol=0, atol=0)
    with pytest.raises(UserError, match=r"^No checkpoint at nope\.pth; check the path\.$"):
        timm.create_model("inceptionnext_atto", pretrained=True, pretrained_cfg_overlay={"file": "nope.pth"})
    overlay = {"url": (tmp_path / "nope.pth").as_uri()}
    with pytest.raises(UserError, match=re.escape(f"downloaded from {overlay['url']} ([Errno 2] No such")):
        timm.create_model("inceptionnext_atto", pretrained=True, pretrained_cfg_overlay=overlay)


def test_features_of_a_pretrained_model(tmp_path: Path) -> None:
    reference = Isotropic(depth=4)
    torch.save({"model": reference.state_dict()}, tmp_path / "iso.pth")
    overlay = {"file": str(tmp_path / "iso.pth")}
    features = timm.create_model(
        "convnext_iso_small", depth=4, pretrained=True, pretrained_cfg_overlay=overlay, features_only=True
    )
    image = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(features(image)[-1], reference.blocks(reference.stem(image)))


def test_weights_by_the_name_of_their_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(url: str, **kwargs: object) -> None:
        asked.append(url)
        raise OSError("no network here.")

    monkeypatch.setattr("inceptionnext_lit.models.hub.get_hf_file_metadata", refuse)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", refuse)
    with pytest.raises(UserError, match=r"'inceptionnext_base_384' could not be downloaded"):
        timm.create_model("inceptionnext_base_384.sail_in1k_384", pretrained=True, depths=(1, 1, 1, 1))
    assert asked == [
        "https://huggingface.co/timm/inception_next_base.sail_in1k_384/resolve/main/model.safetensors",
        "https://github.com/sail-sg/inceptionnext/releases/download/model/inceptionnext_base_384.pth",
    ]
    with pytest.raises(
        UserError, match=r"dl\.fbaipublicfiles\.com/\S+_ema\.pth \(no network here\)\. Download this file"
    ):
        timm.create_model("convnext_iso_small", pretrained=True, depth=1)


def test_cached_weights_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = timm.create_model("inception_next_atto").state_dict()
    folder = tmp_path / "models--timm--inception_next_atto.sail_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(source, folder / "snapshots" / ("0" * 40) / "model.safetensors")
    model = timm.create_model("inceptionnext_atto", pretrained=True, cache_dir=tmp_path)
    torch.testing.assert_close(model.state_dict()["head.fc2.weight"], source["head.fc2.weight"], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["inceptionnext_iso_small", "inceptionnext_tiny_band7", "metanext_attn_nano"])
def test_models_without_public_weights(name: str) -> None:
    with pytest.raises(UserError) as error:
        timm.create_model(name, pretrained=True)
    assert str(error.value) == (
        f"No public weights of '{name}'; train it from scratch with --model.pretrained false, "
        "or give your own weights as --model.pretrained FILE."
    )


def test_the_message_for_other_timm_models() -> None:
    error = describe_offline("resnet50", timm.get_pretrained_cfg("resnet50"), "no network")
    message = str(error)
    assert message.startswith(
        "The pretrained weights of 'resnet50' could not be downloaded from "
        "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors"
    )
    assert "(no network). Download " in message
    assert message.startswith(f"{error.problem}. Download ")
    copy = pickle.loads(pickle.dumps(error))  # as from a process of benchmark
    assert (str(copy), copy.problem) == (message, error.problem)
