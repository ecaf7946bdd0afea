"""Two pulls of one layer: it comes once; when the first is killed, the second takes over and goes on."""

import os
import subprocess
import time

import pytest
from box import VELOCI, until
from peers import Built, Scripted, digest, tar
from peers import inside as veloci

pytestmark = pytest.mark.needs("root", "overlay")
HALF = 3 << 20  # bytes
KEPT = 2 << 20  # bytes of it that are surely written, whatever is still on its way


class Halting:
    """A registry that sends half of a layer, and the rest when it is told to `go`; `ranges`: from where it was asked for."""

    def __init__(self, built):
        self.built, self.ranges, self.go = built, [], False
        self.layer = digest(built.layers[0])
        self.blobs = {digest(data): data for data in (built.manifest, built.config, built.layers[0])}

    def __call__(self, request):
        if request.path == "/v2/":
            return request.reply(200, b"{}")
        name = request.path.rpartition("/")[2]
        data = self.built.manifest if name == "v0" else self.blobs[name]
        if name != self.layer:
            kind = self.built.document["mediaType"] if data is self.built.manifest else "application/octet-stream"
            return request.reply(200, data, Content_Type=kind, Docker_Content_Digest=digest(data))
        asked = request.headers.get("Range")
        start = int(asked[6:].partition("-")[0]) if asked else 0
        self.ranges.append(start)
        request.send_response(206 if asked else 200)
        request.send_header("Content-Length", str(len(data) - start))
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        if not start:
            request.wfile.write(data[:HALF])
            until(lambda: self.go)
            start = HALF
        request.wfile.write(data[start:])
        return None


@pytest.mark.parametrize("killed", [False, True], ids=["both end", "the first is killed"])
def test_a_layer_that_two_pull_comes_once(roots, tmp_path, killed):
    registry = Halting(Built(tmp_path / "layout", [tar({"f": os.urandom(2 * HALF)})], compress=False))
    partial = roots / "data/content/ingest" / registry.layer.replace(":", "-")
    processes = []
    with Scripted(registry) as server:

        def pull():
            words = [VELOCI, "pull", "-q", f"{server.address}/app:v0"]
            processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            return processes[-1]

        try:
            first = pull()
            until(lambda: (partial.exists() and partial.stat().st_size >= KEPT) or first.poll() is not None)
            second = pull()
            time.sleep(0.5)
            assert registry.ranges == [0]  # the second waits
            if killed:
                first.kill()
            else:
                registry.go = True
            done = [process.communicate(timeout=30)[1] for process in (first, second)]
        finally:
            registry.go = True
            for process in processes:
                process.kill()
                process.communicate()
    assert (first.returncode, second.returncode) == (-9 if killed else 0, 0), done
    assert len(registry.ranges) == (2 if killed else 1)
    assert not killed or registry.ranges[1] >= KEPT  # from where the first stopped
    veloci("image", "prune", "-f")
    assert veloci("system", "check").endswith(": whole\n")
