"""What tests of the registry client share: a blob, repositories, servers that want tokens, certificates."""

import json
import subprocess
from contextlib import nullcontext

from peers import digest

from veloci.layer.stream import Verified
from veloci.registry.client import Repository
from veloci.registry.session import Session
from veloci.spec import media
from veloci.spec.image import Descriptor
from veloci.spec.reference import Reference

DATA = bytes(range(256)) * 4096  # 1 MiB
BLOB = Descriptor(media_type=media.LAYER_GZIP, digest=digest(DATA), size=len(DATA))
MANIFEST = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % media.INDEX.encode()


def repository(address, name="app:v0", **options):
    return Repository(Reference.parse(f"{address}/{name}"), session=Session(wait=0.01, **options))


def whole(repository, blob=BLOB, start=0):
    with repository.blob(blob, start) as chunks:
        return b"".join(chunks)


def verified(repository):
    with repository.blob(BLOB) as chunks, Verified(chunks, BLOB.digest, BLOB.size):
        pass


def opened(data=DATA):
    """What `upload` opens: the bytes from an offset on, in pieces."""
    return lambda at: nullcontext([data[i : i + 100_000] for i in range(at, len(data), 100_000)])


def v2(answer):
    """A script that answers /v2/ and lets `answer` do the rest."""

    def script(request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        return answer(request)

    return script


def serves(request):
    """Answer for a registry whose every repository has an index at every tag, and the blob."""
    if request.path == "/v2/":
        return request.reply(200, b"{}")
    if "/manifests/" in request.path:
        return request.reply(200, MANIFEST, Content_Type=media.INDEX)
    return request.reply(200, DATA)


def tokens(request, *, right=None, realm="http://{host}/token", token="tok", **more):
    """Answer for a registry that wants a token, which it gives to whoever says `right`, to all if that is None."""
    host = request.headers["Host"]
    if request.path.startswith("/token"):
        if right and request.headers.get("Authorization") != right:
            return request.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}')
        return request.reply(200, json.dumps({"token": token, "expires_in": 300, **more}).encode())
    if request.headers.get("Authorization") != f"Bearer {token}":
        challenge = f'Bearer realm="{realm.format(host=host)}",service="reg",scope="repository:app:pull"'
        return request.reply(401, b"{}", WWW_Authenticate=challenge)
    return serves(request)


def certified(directory, name, *, authority=None, purpose="serverAuth"):
    """A certificate for 127.0.0.1 signed by `authority` (itself if None): the paths of it and its key."""
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    extensions = (
        f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={purpose}" if authority else "basicConstraints=critical,CA:TRUE"
    )
    (directory / "extensions").write_text(extensions)
    request = directory / f"{name}.csr"
    run = lambda text: subprocess.run(text.split(), check=True, capture_output=True)  # noqa: E731
    run(f"openssl req -newkey rsa:2048 -nodes -keyout {key} -out {request} -subj /CN={name}")
    signer = f"-CA {authority[0]} -CAkey {authority[1]} -CAcreateserial" if authority else f"-signkey {key}"
    run(f"openssl x509 -req -days 2 -in {request} {signer} -out {cert} -extfile {directory}/extensions")
    return cert, key
