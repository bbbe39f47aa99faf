"""Requests and their answers: rows, and the status and the reason of everything else."""

import asyncio
import gzip
import io
import re
import struct
import tempfile
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from inceptionnext_lit.serve import body
from tests.serve.fake_model import FAILS, IS_NAN
from tests.serve.serving import Served, answer, half_a_picture, picture, run, served, until

RED, BLUE, HALF = picture("#c80000"), picture("#0000ff", kind="JPEG"), half_a_picture()


def huge_png(width: int, height: int) -> bytes:
    """A small PNG whose header says that it is large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + RED[33:]


def as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def damaged_tiff() -> bytes:
    """A TIFF about which libtiff complains on the standard error."""
    content = bytearray(picture("red", (40, 40), "TIFF", compression="tiff_adobe_deflate"))
    place = content.index(b"\x78\x9c")  # the start of the compressed data
    content[place + 4 : place + 12] = b"\xff" * 8
    return bytes(content)


def test_rows_of_raw_bodies_and_of_forms() -> None:
    async def scenario() -> None:
        async with served(unsure_below=0.99) as server:
            raw = await server.post(RED)
            assert raw.status_code == 200
            row = {"path": None, "label": "red", "probability": 1.0, "top5": {"red": 1.0, "green": 0.0, "blue": 0.0}}
            assert raw.json() == [row | {"unsure": False}]
            assert list(raw.json()[0]) == ["path", "label", "probability", "top5", "unsure"]
            for kind in ("image/png", "application/x-www-form-urlencoded", ""):
                assert (await server.post(RED, headers={"Content-Type": kind})).json() == raw.json()
            mixed = picture("#b4b400")
            files = [("image", ("ä b.png", RED)), ("other", ("b.jpg", BLUE, "text/plain")), ("image", ("c.png", mixed))]
            form = await server.client.post("/predict", files=files, data={"note": "ignored"})
            assert [(row["path"], row["label"], row["unsure"]) for row in form.json()] == [
                ("ä b.png", "red", False),
                ("b.jpg", "blue", False),
                ("c.png", "red", True),
            ]
            assert form.json()[2]["probability"] == 0.5

    run(scenario)


def test_images_without_a_label_get_a_reason() -> None:
    async def scenario() -> None:
        async with served(max_pixels=10_000, max_bytes=50_000) as server:

            async def refused(content: bytes, status: int, reason: str, **options: Any) -> None:
                found = await server.post(content, **options)
                assert (found.status_code, found.json()["detail"]) == (status, reason)

            await refused(b"", 422, "The image is empty.")
            await refused(HALF, 422, "The image cannot be read: image file is truncated.")
            await refused(
                b"\x89PNG\r\n\x1a\n", 422, "The image cannot be read: its content is not an image of a known format."
            )
            unknown = "This is not an image of a known format, such as JPEG, PNG or WebP."
            for content in (b"hello", b"%PDF-1.7", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
                await refused(content, 415, unknown)
            await refused(b"{}", 415, "The type 'application/json' is not an image; send image files or a multipart "
                          "form.", headers={"Content-Type": "application/json; charset=utf-8"})  # fmt: skip
            compressed = "The body is compressed (Content-Encoding: gzip); send the files as they are."
            await refused(gzip.compress(RED), 415, compressed, headers={"Content-Encoding": "gzip"})
            assert (await server.post(RED, headers={"Content-Encoding": "identity"})).status_code == 200
            limit = "the limit is 10,000 (--max_pixels)."
            await refused(huge_png(101, 100), 413, f"The image has 101×100 pixels; {limit}")
            await refused(huge_png(2**31 - 1, 2**31 - 1), 413, f"The image has too many pixels; {limit}")
            large = "The request has more than 50,000 bytes (--max_bytes)."
            await refused(bytes(50_001), 413, large)
            await refused(picture("red", (IS_NAN, 8)), 422, "The model's outputs are NaN or infinite for image 1.")
            failed = "The model failed on this image (RuntimeError); the server's log says where."
            await refused(picture("red", (FAILS, 8)), 500, failed)

            async def chunks() -> Any:
                for _ in range(30):
                    yield bytes(2000)

            found = await server.client.post("/predict", content=chunks())
            assert (found.status_code, found.json()["detail"]) == (413, large)
            assert (await server.post(RED)).status_code == 200
            assert server.service.bodies._room == 8 * 50_000

    run(scenario)


def test_one_bad_image_of_a_form_is_named() -> None:
    async def scenario() -> None:
        async with served() as server:
            files = [("i", ("a.png", RED)), ("i", ("b.png", HALF)), ("i", ("c.txt", b"text"))]
            found = await server.client.post("/predict", files=files)
            truncated = "The image cannot be read: image file is truncated."
            assert found.status_code == 422
            assert found.json() == {
                "detail": f"2 of 3 images got no label. The first, b.png: {truncated}",
                "errors": [
                    {"path": "b.png", "status": 422, "reason": truncated},
                    {
                        "path": "c.txt",
                        "status": 415,
                        "reason": "This is not an image of a known format, such as JPEG, PNG or WebP.",
                    },
                ],
            }

    run(scenario)


def test_a_bad_image_does_not_spoil_the_others_of_its_batch() -> None:
    async def scenario() -> None:
        async with served(max_wait_ms=200) as server:
            contents = [RED, picture("red", (FAILS, 8)), BLUE, HALF, b"text"]
            found = await asyncio.gather(*map(server.post, contents))
            assert [one.status_code for one in found] == [200, 500, 200, 422, 415]
            assert [found[0].json()[0]["label"], found[2].json()[0]["label"]] == ["red", "blue"]
            text = (await server.client.get("/metrics")).text
            assert "\ninceptionnext_batch_images_sum 5.0\n" in text
            assert "\ninceptionnext_batch_images_count 1.0\n" in text

    run(scenario)


@pytest.mark.parametrize(
    ("kind", "content", "status", "reason"),
    [
        ("multipart/form-data", b"", 400, "The multipart form has no valid boundary."),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n", 400, "The multipart form is not valid."),
        ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\nhalf", 400, "The multipart form is not complete."),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            422,
            "The form has no files; send at least one image, as a part with a filename.",
        ),
        (f"multipart/form-data; boundary={'x' * 999}", b"", 400, "The multipart form has no valid boundary."),
    ],
)
def test_forms_that_are_not_valid(kind: str, content: bytes, status: int, reason: str) -> None:
    def read() -> None:
        _, parameters = body.parse_options_header(kind)
        form = body.Form(parameters.get(b"boundary", b""), 2)
        form.write(content)
        form.finish()

    with pytest.raises(body.Refused) as caught:
        read()
    assert (caught.value.status, caught.value.reason) == (status, reason)


def test_a_form_has_at_most_as_many_files_as_the_queue() -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nb\r\n'
    form = body.Form(b"x", 2)
    for byte in part * 2 + b"--x--\r\n":
        form.write(bytes([byte]))
    assert [(upload.name, upload.content) for upload in form.finish()] == [("a", b"b")] * 2
    with pytest.raises(body.Refused, match=r"A request has at most 2 images \(--max_queue\)") as caught:
        body.Form(b"x", 2).write(part * 3)
    assert caught.value.status == 413


def test_nothing_is_written_or_logged(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The fake model's process ends if a file is opened for writing."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a temporary file")

    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    noise = Image.effect_noise((800, 800), 90).convert("RGB")
    file = io.BytesIO()
    noise.save(file, "PNG")
    assert len(file.getvalue()) > 1e6  # more than libraries keep in memory

    async def scenario() -> None:
        async with served() as server:
            form = await server.client.post("/predict", files={"i": ("secret-name.png", file.getvalue())})
            assert form.status_code == 200
            assert (await server.post(picture("red", (FAILS, 8)))).status_code == 500
            await server.client.post("/predict", files={"i": ("secret-name.png", b"bad")})
            await server.client.post(
                "/predict", content=b"--y", headers={"Content-Type": "multipart/form-data; boundary=x"}
            )
            assert (await server.post(damaged_tiff())).status_code == 422
            assert server.service.process.restarts == 0

    run(scenario)
    out, error = capfd.readouterr()
    assert out == ""
    assert 'in _color\n    raise RuntimeError("the secret of the image")' in error  # the line of code, not the message
    assert error.startswith("error: The model failed with RuntimeError:\n")
    assert "secret-name" not in error
    assert "Decod" not in error  # libtiff's own words
    assert "boundary" not in error  # python-multipart's
    assert "RuntimeError: the secret" not in error


async def check_page(server: Served, path: str) -> None:
    page = await server.client.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
    assert not re.search(r"https?://(?!127\.0\.0\.1:8000/)|//cdn|@import|url\(", page.text)
    loaded = re.findall(r'<(?:script|img|link)[^>]*\s(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    for address in loaded:
        if address != "data:,":
            found = await server.client.get(f"/{address}")
            assert found.status_code == 200
            assert found.headers["content-type"].split(";")[0] in ("text/css", "text/javascript")
            assert not re.search(r"https?://|@import|url\(|innerHTML|eval\(", found.text)


def test_the_other_addresses() -> None:
    async def scenario() -> None:
        async with served("colors:0", unsure_below=0.5) as server:
            for path in ("/", "/docs"):
                await check_page(server, path)
            for path in ("/redoc", "/docs/oauth2-redirect", "/static/../app.py"):
                assert (await server.client.get(path)).status_code == 404
            health = await server.client.get("/health")
            assert health.status_code == 200
            assert health.json().items() >= {
                "status": "ok", "model": "colors:0", "waiting": 0, "restarts": 0, "last_failure": None,
            }.items()  # fmt: skip
            metadata = (await server.client.get("/metadata")).json()
            assert metadata["class_names"] == ["red", "green", "blue"]
            assert (metadata["num_classes"], metadata["multi_label"], metadata["unsure_below"]) == (3, False, 0.5)
            assert metadata["limits"]["max_bytes"] == 32 * 2**20
            assert (metadata["heat_map"], metadata["heat_map_note"]) == (True, "")
            api = (await server.client.get("/openapi.json")).json()
            assert set(api["paths"]) == {"/predict", "/explain", "/health", "/metadata", "/metrics"}
            answers = api["paths"]["/predict"]["post"]["responses"]
            assert set(answers) == {"200", "400", "408", "413", "415", "422", "500", "503"}
            assert answers["200"]["content"]["application/json"]["schema"]["items"] == {
                "$ref": "#/components/schemas/Row"
            }

    run(scenario)


def test_heat_maps_without_torch() -> None:
    async def scenario() -> None:
        async with served() as server:
            half = Image.new("RGB", (32, 32), "white")
            half.paste("red", (0, 0, 32, 16))
            drawn = await server.post(as_png(half), "/explain")
            assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/png")
            pixels = np.asarray(Image.open(io.BytesIO(drawn.content)).convert("RGB")).astype(int)
            assert pixels.shape == (224, 224, 3)
            assert np.ptp(pixels[180:], axis=2).max() == 0  # the white half stays gray
            assert np.ptp(pixels[40:80], axis=2).min() > 50  # the red one is colored by the map
            other = await server.post(as_png(half), "/explain?target=mauve")
            assert (other.status_code, other.json()["detail"]) == (
                422,
                "The model has no class 'mauve'; /metadata lists its classes.",
            )

    run(scenario)


@pytest.mark.parametrize("path", ["/", "/health", "/metadata", "/metrics"])
def test_head_is_get_without_the_content(path: str) -> None:
    async def scenario() -> None:
        async with served() as server:
            found, expected = await server.client.head(path), await server.client.get(path)
            assert (found.status_code, found.content) == (200, b"")
            assert found.headers["content-type"] == expected.headers["content-type"]

    run(scenario)


def test_models_without_heat_maps() -> None:
    async def scenario() -> None:
        async with served("masks") as server:
            refused = await server.post(RED, "/explain")
            note = "Heat maps are of classifiers; this model gives each pixel a class."
            assert (refused.status_code, refused.json()["detail"]) == (501, note)

    run(scenario)


def test_wrong_addresses_and_methods_get_a_sentence() -> None:
    async def scenario() -> None:
        async with served() as server:
            found = await server.client.get("/predict")
            assert (found.status_code, found.headers["allow"]) == (405, "POST")
            assert found.json() == {"detail": "/predict does not take GET, but POST; see /docs.", "errors": []}
            found = await server.post(RED, "/predictions")
            assert found.status_code == 404
            assert found.json() == {"detail": "There is no /predictions; /docs lists the addresses.", "errors": []}

    run(scenario)


def test_metrics_are_prometheus_text() -> None:
    async def scenario() -> None:
        async with served() as server:
            await server.post(RED)
            await server.post(b"text")
            await server.client.get("/secret-path")
            text = (await server.client.get("/metrics")).text
            found = {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            assert found["inceptionnext_requests_total", (("path", "/predict"), ("status", "200"))] == 1
            assert found["inceptionnext_requests_total", (("path", "/predict"), ("status", "415"))] == 1
            assert found["inceptionnext_requests_total", (("path", "other"), ("status", "404"))] == 1
            assert found["inceptionnext_images_total", (("status", "415"),)] == 1
            assert found["inceptionnext_batch_images_count", ()] == 2
            assert found["inceptionnext_model_up", ()] == 1
            assert found["inceptionnext_model_restarts", ()] == 0
            assert found["inceptionnext_waiting_images", ()] == 0
            assert 1e7 < found["inceptionnext_resident_bytes", (("process", "model"),)] < 1e9
            assert "secret-path" not in text

    run(scenario)


def test_a_client_that_leaves_gives_its_place_to_others() -> None:
    async def scenario() -> None:
        async with served("colors:0.3", max_batch=1) as server:
            head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(RED)}\r\n\r\n".encode()
            gone = [(await server.send(head + RED))[1] for _ in range(9)]
            await until(lambda: len(server.service.batcher) == 7)  # two are with the model
            for writer in gone:
                writer.close()
            stays, writer = await server.send(head + RED)
            assert (await answer(stays))[0] == 200
            writer.close()
            text = server.service.metrics.text().decode()
            assert "\ninceptionnext_batch_images_count 3.0\n" in text
            await until(lambda: 'status="499"} 9.0' in server.service.metrics.text().decode())

    run(scenario)
