"""The registry as an ASGI application: one table of routes, one function each.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints
"""

from __future__ import annotations

import re

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from veloci.errors import Conflict, HostError, InvalidInput, VelociError
from veloci.registry import protocol
from veloci.registry.server import handlers
from veloci.registry.server.handlers import Refused
from veloci.registry.server.storage import Missing, Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    Handler = Callable[..., Awaitable[Response]]

_BLOB = f"/v2/(?P<name>{protocol.NAME})/blobs/"
_REFERENCE = f"(?P<reference>{protocol.TAG}|{protocol.DIGEST})"
_UPLOAD = "(?P<upload>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"

# Path -> what each method does, and what the caller must be allowed to do; anything else is refused.
ROUTES: tuple[tuple[str, dict[str, tuple[Handler, str]]], ...] = (
    ("/v2/?", {"GET": (handlers.ping, ""), "HEAD": (handlers.ping, "")}),
    ("/v2/_catalog", {"GET": (handlers.catalog, "catalog")}),
    (f"/v2/(?P<name>{protocol.NAME})/tags/list", {"GET": (handlers.tags, "pull")}),
    (
        f"/v2/(?P<name>{protocol.NAME})/manifests/{_REFERENCE}",
        {
            "GET": (handlers.get_manifest, "pull"),
            "HEAD": (handlers.get_manifest, "pull"),
            "PUT": (handlers.put_manifest, "push"),
            "DELETE": (handlers.delete_manifest, "delete"),
        },
    ),
    (
        f"{_BLOB}(?P<digest>{protocol.DIGEST})",
        {
            "GET": (handlers.get_blob, "pull"),
            "HEAD": (handlers.get_blob, "pull"),
            "DELETE": (handlers.delete_blob, "delete"),
        },
    ),
    (f"{_BLOB}uploads/?", {"POST": (handlers.begin_upload, "push")}),
    (
        f"{_BLOB}uploads/{_UPLOAD}",
        {
            "GET": (handlers.upload_status, "push"),
            "PATCH": (handlers.continue_upload, "push"),
            "PUT": (handlers.finish_upload, "push"),
            "DELETE": (handlers.cancel_upload, "push"),
        },
    ),
    (
        f"/v2/(?P<name>{protocol.NAME})/referrers/(?P<digest>{protocol.DIGEST})",
        {"GET": (handlers.referrers, "pull")},
    ),
)
_COMPILED = [(re.compile(pattern), methods) for pattern, methods in ROUTES]


def application(root: str) -> ASGIApp:
    """The registry whose content is the directory `root`, as an ASGI application for any server of such."""
    storage = Storage(root)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await _answer(storage, request)
        except ClientDisconnect:
            return
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        response.headers["X-Content-Type-Options"] = "nosniff"
        await response(scope, receive, send)

    return serve


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _answer(storage: Storage, request: Request) -> Response:
    """What the table's function answers, or the error document of what it raised."""
    path = request.scope["path"]
    for pattern, methods in _COMPILED:
        match = pattern.fullmatch(path)
        if match and len(match.groupdict().get("name", "")) <= 255:
            if request.method not in methods:
                return refusal(Refused(405, "UNSUPPORTED", f"{request.method} is not for {path}"))
            handler, _action = methods[request.method]
            try:
                return await handler(storage, request, **match.groupdict())
            except Refused as error:
                return refusal(error)
            except VelociError as error:
                return refusal(_refused(error))
            except TimeoutError:
                return refusal(Refused(408, "UNKNOWN", "the request's body stalled"))
    if path.startswith("/v2/"):
        return refusal(_unknown(path))
    return refusal(Refused(404, "NOT_FOUND", "this is a container registry; its interface is below /v2/"))


def _unknown(path: str) -> Refused:
    """Say which part of a path below /v2/ is wrong."""
    name = re.split(r"/(?:manifests|blobs|tags|referrers)/", path.removeprefix("/v2/"))[0]
    if re.fullmatch(protocol.NAME, name) is None or len(name) > 255:
        return Refused(400, "NAME_INVALID", "invalid repository name")
    if "/blobs/" in path and "/uploads/" not in path:
        return Refused(400, "DIGEST_INVALID", "invalid digest")
    if "/manifests/" in path:
        return Refused(400, "MANIFEST_INVALID", "invalid tag or digest")
    return Refused(404, "NOT_FOUND", "no such endpoint")


def _refused(error: VelociError) -> Refused:
    if isinstance(error, Missing):
        return Refused(404, error.code, str(error))
    if isinstance(error, InvalidInput):
        return Refused(400, "DIGEST_INVALID", str(error))
    if isinstance(error, Conflict):
        return Refused(409, "BLOB_UPLOAD_INVALID", str(error))
    if isinstance(error, HostError) and error.hint:
        return Refused(507, "UNKNOWN", str(error))
    return Refused(500, "UNKNOWN", str(error))


def refusal(error: Refused) -> Response:
    """The answer that says why not."""
    return Response(
        protocol.error_document(error.code, error.message),
        error.status,
        {**error.headers, "Content-Type": "application/json"},
    )
