"""The viewer's web application: addresses of pictures, outlines and decisions, for the browser on this machine alone.

Images are addressed by number and sources by their place, so no request names a path; of files only those beside this
one (`static/`) are served. A request must name this machine as its host, or a page elsewhere could reach the viewer by
a name that it points here (DNS rebinding); what changes anything must also carry a token that only pages from here can
read. No header lets another origin read an answer.
"""

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bonepipe.data.review import Review
from bonepipe.errors import BonepipeError
from bonepipe.report.view import pictures, tables
from bonepipe.report.view.gallery import Gallery

STATIC = Path(__file__).with_name("static")
HOSTS = ("127.0.0.1", "localhost", "[::1]")
LONGEST = 4096  # bytes of a decision
TRUTH = "truth"  # in an address, in place of a source's number
FRESH = {"Cache-Control": "no-store"}  # files may be written anew while they are looked at
KEPT = {"Cache-Control": "private, max-age=600"}
HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' data:; style-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


class OnlyFromHere:
    """Refuse what a browser says that another site asked for, and send headers that keep answers on this one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = dict(scope["headers"])
        foreign = sent.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
        if foreign and sent.get(b"sec-fetch-mode") != b"navigate":  # a link to the viewer may be followed
            await Response("Asked for by another site", 403)(scope, receive, send)
            return

        # A script of an earlier version must not be taken from the browser's cache.
        caching = [(b"cache-control", b"no-cache")] if scope["path"].startswith("/static/") else []

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items(), *caching]
            await send(message)

        await self.app(scope, receive, send_with)


@dataclass(frozen=True)
class Viewer:
    """What the routes answer from.

    Attributes:
        gallery: images and masks.
        review: candidates for wrong annotations; None where nobody has looked for any.
        hint: how to get some, where there are none.
        token: that a decision must carry.
        session: part of the addresses of pictures, so that none of another start is taken from the browser's cache.
        scored: set when the Dice of all images is known.
        listing: held while a picture of the list is made.
    """

    gallery: Gallery
    review: Review | None = None
    hint: str = ""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    session: str = field(default_factory=lambda: secrets.token_hex(4))
    scored: threading.Event = field(default_factory=threading.Event)
    listing: threading.Lock = field(default_factory=threading.Lock)

    def score(self) -> None:
        """Compute what Dice is missing; in a thread of its own, so that nobody waits for it."""
        for _ in self.gallery.score():
            pass
        self.scored.set()

    def index(self, request: Request) -> Response:
        """The table of all images."""
        del request
        of_this_start = {"token": self.token, "session": self.session}
        return JSONResponse({**tables.index(self.gallery), **of_this_start}, headers=FRESH)

    def dice(self, request: Request) -> Response:
        """Dice of each source, image and class, and whether that is all; of files written anew it is computed again."""
        del request
        with self.listing:
            changed = [source.forget_changed() for source in self.gallery.sources if self.scored.is_set()]
            if any(changed):
                self.scored.clear()
                threading.Thread(target=self.score, daemon=True).start()
        done = self.scored.is_set()
        return JSONResponse({"done": done, "dice": tables.dice(self.gallery)}, headers=FRESH)

    def image(self, request: Request) -> Response:
        """A picture of an image."""
        number, size = self._number(request), request.path_params["size"]
        if size not in pictures.SIZES:
            raise HTTPException(404)
        if size > pictures.SIZES[0]:
            content = pictures.jpeg(self.gallery.grey(number), size)
        else:  # of the list, one after the other: whoever looks at an image waits for none of them
            with self.listing:
                content = pictures.jpeg(self.gallery.images[number].read(), size)
        return Response(content, media_type="image/jpeg", headers=KEPT)

    def tile(self, request: Request) -> Response:
        """A part of an image, its own pixels."""
        grey, place = self.gallery.grey(self._number(request)), request.path_params
        return Response(pictures.tile(grey, place["row"], place["column"]), media_type="image/png", headers=KEPT)

    def masks(self, request: Request) -> Response:
        """The outlines of an image by a source."""
        return JSONResponse(tables.masks(self.gallery, self._number(request), self._source(request)), headers=FRESH)

    def differences(self, request: Request) -> Response:
        """Where a source differs from the truth."""
        number, source = self._number(request), self._source(request)
        if source is None:
            raise HTTPException(404)
        return JSONResponse(tables.differences(self.gallery, number, source), headers=FRESH)

    def candidates(self, request: Request) -> Response:
        """The candidates for wrong annotations with what was decided."""
        del request
        if self.review is None:
            return JSONResponse({"hint": self.hint, "path": "", "candidates": []}, headers=FRESH)
        pairs = zip(self.review.candidates, self.review.states(), strict=True)
        rows = [{**asdict(candidate), "actions": candidate.actions, "state": state} for candidate, state in pairs]
        return JSONResponse({"hint": "", "path": str(self.review.path), "candidates": rows}, headers=FRESH)

    async def decide(self, request: Request) -> Response:
        """Write a decision about a candidate: `{"rank": 3, "action": "permute"}`."""
        _require_own_page(request, self.token)
        decision = _decision(await request.body())
        if self.review is None:
            raise HTTPException(404)
        await run_in_threadpool(self.review.decide, *decision)
        return await run_in_threadpool(self.candidates, request)

    def _number(self, request: Request) -> int:
        number: int = request.path_params["number"]
        if number >= len(self.gallery.images):
            raise HTTPException(404)
        return number

    def _source(self, request: Request) -> int | None:
        name: str = request.path_params["source"]
        if name == TRUTH:
            return None
        if not (name.isascii() and name.isdecimal() and len(name) < 4) or int(name) >= len(self.gallery.sources):
            raise HTTPException(404)
        return int(name)


def _require_own_page(request: Request, token: str) -> None:
    """Raise HTTPException unless a page of this viewer sent the request."""
    sent, origin = request.headers.get("x-bonepipe-token", ""), request.headers.get("origin")
    if not secrets.compare_digest(sent.encode(), token.encode()):
        raise HTTPException(403, "the token is missing or of an earlier start; load the page again")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers['host']}":
        raise HTTPException(403, "asked for by another site")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "expected application/json")


def _decision(body: bytes) -> tuple[int, str]:
    """Rank and action."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "expected JSON") from error
    rank, action = (content.get("rank"), content.get("action")) if isinstance(content, Mapping) else (None, None)
    if type(rank) is not int or not isinstance(action, str):
        raise HTTPException(400, "expected a rank and an action")
    return rank, action


def _refused(request: Request, error: Exception) -> Response:
    del request
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.UNPROCESSABLE_ENTITY
    text = error.detail if isinstance(error, HTTPException) else str(error)
    return JSONResponse({"error": text}, status, headers=FRESH)


def application(viewer: Viewer) -> Starlette:
    """The application, for any server that speaks ASGI."""
    image = "/{number:int}"
    data: list[Route] = [
        Route("/index", viewer.index),
        Route("/dice", viewer.dice),
        Route("/masks" + image + "/{source}", viewer.masks),
        Route("/differences" + image + "/{source}", viewer.differences),
        Route("/candidates", viewer.candidates),
        Route("/decisions", viewer.decide, methods=["POST"]),
    ]
    routes: list[Any] = [
        Route("/", lambda _: FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})),
        Route("/image" + image + "/{size:int}", viewer.image),
        Route("/tile" + image + "/{row:int}/{column:int}", viewer.tile),
        Mount("/api", routes=data, middleware=[Middleware(GZipMiddleware, minimum_size=2000, compresslevel=3)]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)
    handlers: Any = {BonepipeError: _refused, HTTPException: _refused}
    return Starlette(
        routes=routes,
        middleware=[hosts, Middleware(OnlyFromHere)],
        exception_handlers=handlers,
        max_body_size=LONGEST,
    )
