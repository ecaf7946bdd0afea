"""What both ends of the distribution protocol agree on, without I/O.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

from veloci.errors import Denied, InvalidInput, NotFound, Unavailable, Unsupported, VelociError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DOCUMENT = 4 << 20  # bytes of a manifest, a token or an error, at most (spec.md#pushing-manifests asks for 4 MiB)
NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
DIGEST = r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"  # what is verified, so what is stored

_RANGE = r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})?(?:/(\d{1,18}|\*))?"
_LINK = r"<([^<>]*)>\s*((?:;[^,<>]*)?)"


def byte_range(text: str) -> tuple[int, int | None, int | None] | None:
    """`bytes=5-`, `bytes 5-9/20` or `5-9` as first byte, last byte, total; None if it is none of these."""
    import re

    match = re.fullmatch(_RANGE, text.strip())
    if not match:
        return None
    first, last, total = match.groups()
    return int(first), int(last) if last else None, int(total) if total and total != "*" else None


def next_page(link: str | None) -> str | None:
    """The target of rel="next" in a Link header (RFC 8288), as it stands there."""
    if not link:
        return None
    import re

    for target, parameters in re.findall(_LINK, link):
        if re.search(r';\s*rel="?next"?\s*(?:;|$)', parameters):
            return str(target)
    return None


def errors(body: bytes) -> list[tuple[str, str]]:
    """The (code, message) pairs of an error document; empty if it is none.

    https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes
    """
    from veloci.spec.document import loads

    try:
        listed = loads(body)["errors"]
        pairs = [(str(item.get("code", "")), str(item.get("message", ""))) for item in listed]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
    return pairs[:8]


def words(body: bytes, reason: str) -> str:
    """What a registry says is wrong, in its own words; `reason` if it says nothing readable. One line."""
    said = [message or code.lower().replace("_", " ") for code, message in errors(body)]
    if not any(said):
        text = body[:200].decode("utf-8", "replace").strip()
        said = [text] if text and not text.startswith(("<", "{")) else [reason]
    return "; ".join(dict.fromkeys(filter(None, said)))[:500].replace("\n", " ")


def failure(status: int, body: bytes, headers: Mapping[str, str], *, where: str, host: str) -> VelociError:
    """The error that an answer with `status` stands for. where: what was asked for."""
    said = words(body, "") or _reason(status)
    if status in (401, 403):
        return Denied(f"{host} denied it: {said}", where=where, hint=f"veloci login {host}")
    if status == 404:
        return NotFound(said, where=where, hint="check the name, the tag and the registry")
    if status == 429 or status >= 500:
        error = Unavailable(f"{host} answered {status}: {said}", where=where, hint="try again later")
        error.retry_after = retry_after(headers.get("Retry-After"))
        return error
    if status == 405 or any(code == "UNSUPPORTED" for code, _ in errors(body)):
        return Unsupported(f"{host} does not support it: {said}", where=where)
    damaged = any(code == "DIGEST_INVALID" for code, _ in errors(body))
    hint = "the copy here is damaged; fetch it again" if damaged else ""
    return InvalidInput(f"{host} answered {status}: {said}", where=where, hint=hint)


def _reason(status: int) -> str:
    """What a status means, by itself."""
    if status == 404:  # which is no error at all where something is looked for
        return "not found"
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "no reason given"


def retry_after(value: str | None) -> float | None:
    """A Retry-After header (RFC 9110, section 10.2.3) in seconds from now; None if it says nothing readable."""
    if not value:
        return None
    if value.isdecimal() and value.isascii():
        return float(value[:9])
    from email.utils import parsedate_to_datetime
    from time import time

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def error_document(code: str, message: str, detail: str = "") -> bytes:
    """The body a registry refuses with."""
    from veloci.spec.document import dumps

    item = {"code": code, "message": message}
    return dumps({"errors": [{**item, "detail": detail} if detail else item]})


def page(items: Iterable[str], *, count: int, last: str) -> tuple[list[str], bool]:
    """Of sorted `items`, up to `count` that come after `last`, and whether there are more."""
    found: list[str] = []
    for item in items:
        if item > last:
            if len(found) == count:
                return found, True
            found.append(item)
    return found, False


def warnings(headers: Iterable[str]) -> list[str]:
    """What Warning headers say: of code 299 and agent `-`, as the specification has them; others mean nothing.

    https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#warnings
    """
    joined = ", ".join(headers)[: 64 << 10]
    if "299" not in joined:
        return []
    import re

    said = re.findall(r'299 - "((?:[^"\\]|\\.){1,1024})"', joined)
    return list(dict.fromkeys(re.sub(r"\\(.)", r"\1", text)[:500] for text in said))[:8]
