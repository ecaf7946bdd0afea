"""What the registry does for each route: a request to storage calls, their results to an answer."""

from __future__ import annotations

import os
from asyncio import timeout, to_thread
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from veloci.errors import InvalidInput
from veloci.layer.stream import CHUNK
from veloci.registry import protocol
from veloci.registry.server.manifests import Accepted
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from veloci.registry.server.storage import Storage, Upload
    from veloci.spec.digest import Digest

PAGE = 1000  # tags or names in one answer, at most
STALL = 60.0  # seconds a client may be silent in the middle of a body


class Refused(Exception):
    """An answer that is an error: status, the specification's code, a message."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


async def ping(_storage: Storage, _request: Request) -> Response:
    """Say that this is a registry (end-1)."""
    return Response(b"{}", headers={"Content-Type": "application/json"})


async def catalog(storage: Storage, request: Request) -> Response:
    """List the repositories, a page at a time."""
    names = await to_thread(storage.names)
    return _listing(request, "/v2/_catalog", {}, "repositories", names)


async def tags(storage: Storage, request: Request, name: str) -> Response:
    """List a repository's tags, a page at a time (end-8)."""
    found = await to_thread(storage.tags, name)
    return _listing(request, f"/v2/{name}/tags/list", {"name": name}, "tags", found)


def _listing(request: Request, path: str, head: dict[str, str], key: str, items: list[str]) -> Response:
    asked = request.query_params.get("n", str(PAGE))
    if not (asked.isascii() and asked.isdecimal()):
        raise Refused(400, "PAGINATION_NUMBER_INVALID", f"n must be a number, not {asked[:20]!r}")
    count = min(int(asked[:10]), PAGE)
    found, more = protocol.page(items, count=count, last=request.query_params.get("last", ""))
    headers = {"Content-Type": "application/json"}
    if more and found:
        headers["Link"] = f'<{path}?{urlencode({"n": count, "last": found[-1]})}>; rel="next"'
    return Response(dumps({**head, key: found}), headers=headers)


async def get_manifest(storage: Storage, request: Request, name: str, reference: str) -> Response:
    """Give a manifest by tag or digest (end-3)."""
    digest, media_type, raw = await to_thread(storage.manifest, name, reference)
    headers = {"Docker-Content-Digest": digest, "Content-Type": media_type, "ETag": f'"{digest}"'}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(len(raw))
    return Response(b"" if request.method == "HEAD" else raw, headers=headers)


async def put_manifest(storage: Storage, request: Request, name: str, reference: str) -> Response:
    """Take a manifest whose parts are all there (end-7)."""
    raw = await _document(request)
    digest = digests.of(raw)
    tag: str | None = reference
    if ":" in reference:
        hasher = digests.hasher(reference)
        hasher.update(raw)
        digest = f"{hasher.name}:{hasher.hexdigest()}"
        tag = None
        if digest != reference:
            raise Refused(400, "DIGEST_INVALID", f"the manifest's digest is {digest}, not {reference}")
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip() or _declared(raw)
    try:
        accepted = Accepted(raw, media_type, digest)
    except InvalidInput as error:
        raise Refused(400, "MANIFEST_INVALID", str(error)) from None
    await to_thread(_require, storage, name, accepted)
    await to_thread(storage.put_manifest, name, digest, media_type, raw, tag)
    headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
    if accepted.subject:
        await to_thread(storage.add_referrer, name, accepted.subject, accepted.descriptor)
        headers["OCI-Subject"] = accepted.subject
    return Response(status_code=201, headers=headers)


def _declared(raw: bytes) -> str:
    from veloci.spec.document import loads

    try:
        return str(loads(raw)["mediaType"])
    except (ValueError, TypeError, KeyError):
        return ""


def _require(storage: Storage, name: str, accepted: Accepted) -> None:
    """Refuse a manifest some part of which the repository lacks."""
    for digest in accepted.blobs:
        if not os.path.exists(f"{storage.repository(name)}/_blobs/{digest.replace(':', '/')}"):
            raise Refused(404, "MANIFEST_BLOB_UNKNOWN", f"blob {digest} is unknown: upload it first")
    for digest in accepted.manifests:
        if not storage.has_manifest(name, digest):
            raise Refused(404, "MANIFEST_BLOB_UNKNOWN", f"manifest {digest} is unknown: upload it first")


async def delete_manifest(storage: Storage, _request: Request, name: str, reference: str) -> Response:
    """Forget a tag, or a manifest and every tag of it (end-9)."""
    if ":" not in reference:
        await to_thread(storage.remove_tag, name, reference)
        return Response(status_code=202)
    digest, media_type, raw = await to_thread(storage.manifest, name, reference)
    subject = Accepted(raw, media_type, digest).subject
    await to_thread(storage.remove_manifest, name, digest, subject)
    return Response(status_code=202)


async def get_blob(storage: Storage, request: Request, name: str, digest: Digest) -> Response:
    """Give a blob, or a range of it (end-2)."""
    path = await to_thread(storage.blob, name, digest)
    size = os.stat(path).st_size
    headers = {
        "Docker-Content-Digest": digest,
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000, immutable",
        "ETag": f'"{digest}"',
    }
    first, last, status = _wanted(request.headers.get("Range"), size)
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last + 1 - first)
    if request.method == "HEAD":
        return Response(status_code=200, headers={**headers, "Content-Length": str(size)})
    return StreamingResponse(_chunks(path, first, last + 1), status, headers)


def _wanted(header: str | None, size: int) -> tuple[int, int, int]:
    """First and last byte and the status of an answer to a Range header (RFC 9110, section 14)."""
    if not header or "," in header or not header.startswith("bytes="):
        return 0, size - 1, 200
    asked = header.removeprefix("bytes=").strip()
    if asked.startswith("-") and asked[1:].isdecimal():
        first, last = max(0, size - int(asked[1:19])), size - 1
    else:
        found = protocol.byte_range(asked)
        if found is None:
            return 0, size - 1, 200
        first, last = found[0], min(size - 1 if found[1] is None else found[1], size - 1)
    if first > last:
        raise Refused(416, "UNKNOWN", "the range is not in the blob", {"Content-Range": f"bytes */{size}"})
    return first, last, 206


async def _chunks(path: str, start: int, end: int) -> AsyncIterator[bytes]:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while start < end and (chunk := await to_thread(os.pread, file, min(CHUNK, end - start), start)):
            start += len(chunk)
            yield chunk
    finally:
        os.close(file)


async def delete_blob(storage: Storage, _request: Request, name: str, digest: Digest) -> Response:
    """Take a blob from a repository (end-10)."""
    await to_thread(storage.remove_blob, name, digest)
    return Response(status_code=202)


async def begin_upload(storage: Storage, request: Request, name: str) -> Response:
    """Begin an upload, or make it needless: a mount, or all in one request (end-4a, 4b, 11)."""
    query = request.query_params
    digest, source = query.get("mount"), query.get("from")
    if digest and source and _named(digest, source) and await to_thread(storage.mount, name, digest, source):
        return _created(name, digest)
    upload = storage.begin(name)
    if whole := query.get("digest"):
        return await finish_upload(storage, request, name, upload, whole)
    return _accepted(name, upload, 0)


def _named(digest: str, name: str) -> bool:
    import re

    return bool(re.fullmatch(protocol.DIGEST, digest) and re.fullmatch(protocol.NAME, name)) and len(name) <= 255


async def upload_status(storage: Storage, _request: Request, name: str, upload: str) -> Response:
    """Say how much of an upload is here (end-13)."""
    with storage.upload(name, upload) as open_upload:
        open_upload.pause()
        return _accepted(name, upload, open_upload.size, 204)


async def continue_upload(storage: Storage, request: Request, name: str, upload: str) -> Response:
    """Take the next part of a blob (end-5)."""
    with storage.upload(name, upload) as open_upload:
        try:
            await _received(request, name, upload, open_upload)
        finally:
            open_upload.pause()
        return _accepted(name, upload, open_upload.size)


async def finish_upload(
    storage: Storage, request: Request, name: str, upload: str, digest: Digest | None = None
) -> Response:
    """Take the last part of a blob, and check it (end-6)."""
    digest = digest or request.query_params.get("digest", "")
    if not _named(digest, name):
        raise Refused(400, "DIGEST_INVALID", f"{digest[:200]!r} is no digest that can be verified")
    with storage.upload(name, upload) as open_upload:
        await _received(request, name, upload, open_upload)
        await to_thread(open_upload.finish, digest)
    return _created(name, digest)


async def cancel_upload(storage: Storage, _request: Request, name: str, upload: str) -> Response:
    """Drop an upload."""
    with storage.upload(name, upload) as open_upload:
        open_upload.cancel()
    return Response(status_code=204)


async def _received(request: Request, name: str, upload: str, to: Upload) -> None:
    """Write the request's body to the upload's end, in pieces of about CHUNK bytes."""
    place = request.headers.get("Content-Range")
    if place:
        found = protocol.byte_range(place)
        if found is None or found[0] != to.size:
            headers = dict(_accepted(name, upload, to.size).headers)
            headers.pop("content-length", None)
            raise Refused(416, "BLOB_UPLOAD_INVALID", f"the next byte is {to.size}, not {place[:60]}", headers)
    parts: list[bytes] = []
    have = 0
    try:
        async for chunk in _body(request):
            parts.append(chunk)
            have += len(chunk)
            if have >= CHUNK:
                await to_thread(to.write, b"".join(parts))
                parts, have = [], 0
    finally:  # what came before the client left is kept: it goes on from there
        if have:
            to.write(b"".join(parts))


async def _body(request: Request) -> AsyncIterator[bytes]:
    """The request's body, as long as it comes. Raises TimeoutError when it stalls."""
    stream = request.stream()
    while True:
        try:
            async with timeout(STALL):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        yield chunk


async def _document(request: Request) -> bytes:
    data = bytearray()
    async for chunk in _body(request):
        data += chunk
        if len(data) > protocol.DOCUMENT:
            raise Refused(413, "SIZE_INVALID", f"a manifest has at most {protocol.DOCUMENT} bytes")
    return bytes(data)


async def referrers(storage: Storage, request: Request, name: str, digest: Digest) -> Response:
    """List the manifests whose subject is `digest` (end-12)."""
    found = await to_thread(storage.referrers, name, digest)
    headers = {"Content-Type": media.INDEX}
    kind = request.query_params.get("artifactType")
    if kind:
        found = [item for item in found if item.artifact_type == kind]
        headers["OCI-Filters-Applied"] = "artifactType"
    manifests = [item.plain() for item in found]
    return Response(dumps({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": manifests}), headers=headers)


def _accepted(name: str, upload: str, size: int, status: int = 202) -> Response:
    headers = {
        "Location": f"/v2/{name}/blobs/uploads/{upload}",
        "Range": f"0-{max(0, size - 1)}",
        "Docker-Upload-UUID": upload,
    }
    return Response(status_code=status, headers=headers)


def _created(name: str, digest: Digest) -> Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return Response(status_code=201, headers=headers)
