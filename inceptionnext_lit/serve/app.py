"""The routes of the server."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from importlib.resources import files
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from inceptionnext_lit import __version__
from inceptionnext_lit.serve.batching import Batcher, BusyError
from inceptionnext_lit.serve.body import BodyReader, Refused, Upload
from inceptionnext_lit.serve.labeling import Answer
from inceptionnext_lit.serve.metrics import CONTENT_TYPE, Metrics
from inceptionnext_lit.serve.middleware import Observed
from inceptionnext_lit.serve.model_process import ModelFailedError, ModelProcess
from inceptionnext_lit.serve.options import ServeOptions
from inceptionnext_lit.serve.schemas import Health, MaskRow, Metadata, Problem, Row
from inceptionnext_lit.wording import count

Result = TypeVar("Result")
_EXPLAINED_AT_ONCE = 4
_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"image": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
}
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": _FORM, "image/*": _IMAGE}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "A form that is not valid."},
    408: {"model": Problem, "description": "The request was not complete in time."},
    413: {"model": Problem, "description": "Too many bytes, pixels or images."},
    415: {"model": Problem, "description": "Not an image."},
    422: {"model": Problem, "description": "A broken image, with the reason."},
    500: {"model": Problem, "description": "The model failed."},
    503: {"model": Problem, "description": "A full queue, or no model; Retry-After says when to try again."},
}
_PAGES = {"/": "page.html", "/docs": "docs.html"}
_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "docs.js": "text/javascript"}


class Service:
    """What the routes need.

    Attributes:
        process: The model's process.
        metrics: The metrics.
        batcher: The queue.
        bodies: Reads requests.
        stopping: Whether the server ends.

    Args:
        options: The server's options.
        process: The model's process.
    """

    def __init__(self, options: ServeOptions, process: ModelProcess) -> None:
        self.options = options
        self.process = process
        self.metrics = Metrics(process)
        self.batcher = Batcher(process, options, self.metrics)
        self.bodies = BodyReader(options)
        self.stopping = False
        self._explaining = 0
        self._start = time.monotonic()

    def drain(self) -> None:
        """Finish what was begun: the server ends."""
        self.stopping = True
        self.bodies.drain()

    async def label(self, request: Request) -> list[dict[str, Any]]:
        """Return the rows of a request's images.

        Raises:
            Refused: If there are none.
        """
        async with self.bodies.uploads(request) as uploads:
            self._refuse_while_the_model_cannot_start()
            contents = [bytes(upload.content) for upload in uploads]
            try:
                answers = await self._in_time(request, self.batcher.submit(contents))
            except BusyError as error:
                reason = "The queue is full; try again later."
                raise Refused(503, reason, retry_after=error.retry_after) from None
            return _rows(uploads, answers)

    async def explain(self, request: Request, target: str | None) -> tuple[bytes, bool]:
        """Return the heat map of a request's only image, as a PNG file, and whether it is empty.

        Raises:
            Refused: If there is none.
        """
        if not self.process.metadata["heat_map"]:
            raise Refused(501, self.process.metadata["heat_map_note"])
        self._refuse_while_the_model_cannot_start()
        if self.process.state != "ok":
            raise Refused(503, "The model is being started; try again later.", self.batcher.retry_after)
        if self._explaining >= _EXPLAINED_AT_ONCE:
            raise Refused(503, "Too many heat maps are being drawn; try again later.", self.batcher.retry_after)
        self._explaining += 1
        try:
            async with self.bodies.uploads(request) as uploads:
                if len(uploads) != 1:
                    raise Refused(422, "Send one image; a heat map is of a single one.")
                asked = self.process.ask("explain", [bytes(uploads[0].content)], target=target)
                frame = await self._in_time(request, asked)
        except ModelFailedError as error:
            raise Refused(500, str(error)) from None
        finally:
            self._explaining -= 1
        [answer] = (Answer(**answer) for answer in frame.content["answers"])
        if answer.row is None:
            raise Refused(answer.status, answer.reason)
        return frame.blocks[0], answer.row["empty"]

    def health(self) -> Health:
        """Return whether images are labeled."""
        process = self.process
        return Health(
            status="stopping" if self.stopping else process.state,
            model=process.metadata["model"],
            waiting=len(self.batcher),
            restarts=process.restarts,
            last_failure=process.last_failure,
            uptime_s=round(time.monotonic() - self._start, 1),
        )

    def metadata(self) -> dict[str, Any]:
        """Return what the model is, and what the server takes."""
        names = ("max_batch", "max_wait_ms", "max_queue", "max_bytes", "max_pixels", "timeout_s")
        limits = {name: getattr(self.options, name) for name in names}
        return {**self.process.metadata, "version": __version__, "limits": limits}

    def _refuse_while_the_model_cannot_start(self) -> None:
        """Refuse images that might wait for long.

        Raises:
            Refused: If the last try to start the model again has failed.
        """
        if (seconds := self.process.retry_after) is not None:
            raise Refused(503, f"No images are labeled now; try again later. {self.process.last_failure}", seconds)

    async def _in_time(self, request: Request, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for work, unless the client leaves or it takes too long."""
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        gone: asyncio.Future[Any] = asyncio.ensure_future(request.receive())  # returns when the client leaves
        try:
            done, _ = await asyncio.wait(
                {task, gone}, timeout=2 * self.options.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if task in done:
                result: Result = task.result()
                return result
            if gone in done:
                raise ClientDisconnect
            raise Refused(503, "The model did not answer in time; try again later.", self.batcher.retry_after)
        finally:
            task.cancel()
            gone.cancel()


def _rows(uploads: Sequence[Upload], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return the rows with the names of the files.

    Raises:
        Refused: If an image has none, with the reasons.
    """
    pairs = list(zip(uploads, answers, strict=True))
    failed = [(upload.name, answer) for upload, answer in pairs if answer.row is None]
    if not failed:
        return [{**(answer.row or {}), "path": upload.name} for upload, answer in pairs]
    name, first = failed[0]
    detail = first.reason
    if len(uploads) > 1:
        detail = f"{len(failed)} of {count(len(uploads), 'image')} got no label. The first, {name}: {first.reason}"
    errors = [{"path": name, "status": answer.status, "reason": answer.reason} for name, answer in failed]
    raise _ImagesRefused(max(answer.status for _, answer in failed), detail, errors)


class _ImagesRefused(Refused):
    def __init__(self, status: int, reason: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(status, reason)
        self.errors = errors


def create_app(service: Service) -> Any:
    """Return the ASGI application.

    Args:
        service: What the routes need.
    """
    app = FastAPI(
        title="inceptionnext_lit",
        version=__version__,
        description=f"Labels images with {service.process.metadata['model']}.",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )

    @app.exception_handler(Refused)
    async def refuse(request: Request, error: Refused) -> Response:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        if error.status in (400, 408, 413, 415, 503):
            headers["Connection"] = "close"  # the rest of the body may still be on its way
        errors = error.errors if isinstance(error, _ImagesRefused) else []
        return JSONResponse({"detail": error.reason, "errors": errors}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def guide(request: Request, error: HTTPException) -> Response:
        path, takes = request.url.path, (error.headers or {}).get("Allow")
        detail = f"There is no {path}; /docs lists the addresses."
        if takes is not None:
            detail = f"{path} does not take {request.method}, but {takes}; see /docs."
        return JSONResponse({"detail": detail, "errors": []}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def forget(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it; the metrics count it

    @app.exception_handler(Exception)
    async def apologize(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": "The server failed; its log says where.", "errors": []}, 500)

    _add_routes(app, service)
    _add_pages(app)
    return Observed(app, service.metrics, {route.path for route in app.routes})  # type: ignore[attr-defined]


def _add_routes(app: FastAPI, service: Service) -> None:
    segments = service.process.metadata.get("task") == "segmentation"
    row: Any = list[MaskRow] if segments else list[Row]
    rows: dict[int | str, dict[str, Any]] = {200: {"model": row, "description": "A row for each image."}}
    picture: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/png": {}}, "description": "The heat map over what the model sees of the image."},
        501: {"model": Problem, "description": "This model or installation has no heat maps."},
    }

    unwell: dict[int | str, dict[str, Any]] = {503: {"model": Health, "description": "No images are labeled now."}}

    @app.post("/predict", summary="Label images", responses=rows | _PROBLEMS, openapi_extra=_BODY)
    async def predict(request: Request) -> Response:
        """Send one image as the body, or files of a multipart form. If one has no label, the answer says why."""
        return JSONResponse(await service.label(request))

    @app.post(
        "/explain",
        summary="Draw a heat map",
        responses=picture | _PROBLEMS,
        openapi_extra=_BODY,
        response_class=Response,
    )
    async def explain(request: Request, target: str | None = None) -> Response:
        """Draw what speaks for a class, `target`, or else for the predicted one, over a single image."""
        png, is_empty = await service.explain(request, target)
        return Response(png, media_type="image/png", headers={"X-Empty-Map": "true"} if is_empty else None)

    @app.get("/health", summary="Whether images are labeled", response_model=Health, responses=unwell)
    async def health() -> Response:
        found = service.health()
        return JSONResponse(found.model_dump(), 200 if found.status == "ok" else 503)

    @app.get("/metadata", summary="The model and the limits", response_model=Metadata)
    async def metadata() -> Response:
        return JSONResponse(service.metadata())

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_pages(app: FastAPI) -> None:
    folder = files("inceptionnext_lit.serve")
    for path, name in _PAGES.items():
        _add_file(app, path, folder.joinpath(name).read_bytes(), "text/html")
    for name, kind in _STATIC.items():
        _add_file(app, f"/static/{name}", folder.joinpath(name).read_bytes(), kind)


def _add_file(app: FastAPI, path: str, content: bytes, kind: str) -> None:
    @app.get(path, include_in_schema=False)
    async def page() -> Response:
        return Response(content, media_type=kind)
