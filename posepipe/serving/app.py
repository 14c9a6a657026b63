"""The service as an ASGI app: an image in, its poses or the drawn image out.

A request gets a place, then room for its bytes as they come; the image's size is known from its
header before a pixel is decoded. Decoded images of all requests form batches. Whoever finds no
room is turned away at once (429), so that what is held stays bounded whatever clients do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posepipe.core.poses import Poses
from posepipe.drawing.draw import draw_poses
from posepipe.drawing.save import encode_image
from posepipe.errors import ImageError, ImageTooLargeError
from posepipe.io.images import ImageFile
from posepipe.io.records import pose_records
from posepipe.serving.admission import Admission, Full, Held
from posepipe.serving.batching import Batcher
from posepipe.serving.metrics import Metrics
from posepipe.serving.options import ServeOptions

T = TypeVar("T")

_IMAGE: dict[str, Any] = {
    "requestBody": {
        "description": "The image: the bytes of a JPEG, PNG, WebP, … file.",
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_TROUBLE: dict[int | str, dict[str, Any]] = {
    408: {"description": "The image did not arrive in time."},
    413: {"description": "The file has too many bytes, or the image too many pixels."},
    422: {"description": "Not an image, or a damaged one."},
    429: {"description": "No room now: come back after the seconds of Retry-After."},
    503: {"description": "No answer in time."},
}
_RETRY_AFTER = {"Retry-After": "1"}
_ROUTES = ("/poses", "/draw", "/health", "/metrics", "/docs", "/openapi.json")
_POSE_LIST = "A list as in kps.json: COCO's keypoint results, with the box of each person."

FileName = Annotated[str, Query(max_length=255, description="What the answer calls the image.")]
ImageId = Annotated[int, Query(ge=0, le=2**53, description="The image's id in the answer.")]


class People(Protocol):
    """What the service needs of a `posepipe.pipeline.Pipeline`."""

    def stream(
        self, images: Any, *, workers: int | None = None
    ) -> Iterator[tuple[ImageFile, Poses]]:
        """The poses in images, in their order."""
        ...


def create_app(
    pipeline: People,
    options: ServeOptions | None = None,
    *,
    hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]"),
    about: dict[str, str] | None = None,
) -> FastAPI:
    """The app, for uvicorn or any other ASGI server; one process per app.

    Args:
        pipeline: what finds the poses; its models should be loaded.
        options: the limits.
        hosts: the names under which it may be addressed (a page elsewhere that makes its own name
            point here is turned away); "*" for any.
        about: what ``/health`` says besides its state: versions, models.
    """
    service = _Service(pipeline, options or ServeOptions(), about or {})

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.close)

    app = FastAPIOffline(  # whose interactive page has its scripts with it
        title="posepipe",
        description="Find the people in images and estimate their poses.",
        version=service.about.get("version", ""),
        lifespan=lifespan,
        redoc_url=None,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(_Watched, service=service)

    @app.post("/poses", openapi_extra=_IMAGE, responses=_TROUBLE, response_description=_POSE_LIST)
    async def poses(
        request: Request, file_name: FileName = "image", image_id: ImageId = 1
    ) -> Response:
        """The poses of the people in an image."""
        async with service.estimated(request, file_name, image_id) as (image, found):
            records = list(pose_records(found, image, ""))
            return Response(msgspec.json.encode(records), media_type="application/json")

    @app.post(
        "/draw",
        openapi_extra=_IMAGE,
        responses={**_TROUBLE, 200: {"content": {"image/jpeg": {}, "image/png": {}}}},
        response_class=Response,
    )
    async def draw(
        request: Request, file_name: FileName = "image", format: Literal["jpg", "png"] = "jpg"
    ) -> Response:
        """The image with the skeletons of the people in it."""
        async with service.estimated(request, file_name, 1) as (image, found):
            drawn = await service.aside(
                lambda: encode_image(f"drawn.{format}", draw_poses(image.read(), found))
            )
            kind = "image/jpeg" if format == "jpg" else "image/png"
            return Response(drawn, media_type=kind)

    @app.get("/health", responses={503: {"description": "Not fit for work."}})
    async def health() -> JSONResponse:
        """Whether the service works, and what it consists of."""
        state = "ok" if service.works else "not working"
        return JSONResponse({"state": state, **service.about}, 200 if service.works else 503)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """What was counted, for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    return app


class _Service:
    """What all requests share."""

    def __init__(self, pipeline: People, options: ServeOptions, about: dict[str, str]) -> None:
        self.options, self.about = options, about
        self.admission = Admission(options.queue, options.queue_bytes)
        self.metrics = Metrics(self.admission)
        self._pipeline = pipeline
        self._batcher: Batcher[ImageFile, Poses] | None = None
        self._threads: ThreadPoolExecutor | None = None

    def start(self) -> None:
        self._threads = ThreadPoolExecutor(self.options.workers, "posepipe-decode")
        self._batcher = Batcher(
            self._work,
            together=self.options.together,
            max_delay=self.options.max_delay,
            done=self.metrics.batch,
        )

    def close(self) -> None:
        if self._batcher is not None:
            self._batcher.close()
        if self._threads is not None:
            self._threads.shutdown()

    @property
    def works(self) -> bool:
        return self._batcher is not None and self._batcher.is_alive

    async def aside(self, call: Callable[[], T]) -> T:
        """What a call gives, computed beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    @asynccontextmanager
    async def estimated(
        self, request: Request, file_name: str, image_id: int
    ) -> AsyncIterator[tuple[ImageFile, Poses]]:
        """A request's image and its poses; its place and its bytes are kept until the end."""
        with _turned_away(), self.admission.request() as held:
            data = await self._received(request, held)
            image = ImageFile(
                image_id,
                Path(file_name),
                file_name,
                data=data,
                max_pixels=self.options.max_pixels,
            )
            try:
                async with asyncio.timeout(self.options.timeout):
                    image = await self._decoded(image, held)
                    assert self._batcher is not None  # noqa: S101  # since start()
                    poses = await asyncio.wrap_future(self._batcher.submit(image))
                    self.metrics.people(len(poses))
                    yield image, poses
            except TimeoutError:
                seconds = self.options.timeout
                raise HTTPException(503, f"no answer within {seconds:g} s", _RETRY_AFTER) from None

    async def _received(self, request: Request, held: Held) -> bytes:
        most = self.options.max_bytes
        too_long = HTTPException(413, f"more than {most:,} bytes")
        if int(request.headers.get("Content-Length", "0")) > most:
            raise too_long
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self.options.timeout):
                async for part in request.stream():
                    held.take(len(part))
                    parts.append(part)
                    if held.count > most:
                        raise too_long
        except TimeoutError:
            seconds = self.options.timeout
            raise HTTPException(408, f"the image did not arrive within {seconds:g} s") from None
        return b"".join(parts)

    async def _decoded(self, image: ImageFile, held: Held) -> ImageFile:
        try:
            pixels = await self.aside(image.check_pixels)
            held.take(3 * pixels)
            array = await self.aside(image.read)
        except ImageTooLargeError as error:
            raise HTTPException(413, str(error)) from None
        except ImageError as error:
            raise HTTPException(422, str(error)) from None
        return replace(image, pixels=array, data=None)

    def _work(self, images: Sequence[ImageFile]) -> list[Poses]:
        return [poses for _, poses in self._pipeline.stream(images, workers=self.options.workers)]


@contextmanager
def _turned_away() -> Iterator[None]:
    """No room becomes an answer; a client that is gone gets one that nobody reads."""
    try:
        yield
    except Full:
        raise HTTPException(429, "no room now", _RETRY_AFTER) from None
    except ClientDisconnect:
        raise HTTPException(400, "the upload ended too soon") from None


class _Watched:
    """Counts every request."""

    def __init__(self, app: ASGIApp, service: _Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = status or 500  # sent by who catches it, further out
            raise
        finally:
            path = scope["path"] if scope["path"] in _ROUTES else "other"
            self._service.metrics.request(path, status, time.monotonic() - begun)
