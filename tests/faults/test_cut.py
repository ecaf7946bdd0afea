"""Connections cut at random bytes, in either direction: one line, or success after all; and the next try goes on."""

import os
import random
import socket
import threading

import pytest
from peers import veloci

pytestmark = pytest.mark.needs("root", "overlay")
ROUNDS = int(os.environ.get("VELOCI_SOAK", "2"))
SEED = os.environ.get("VELOCI_SEED", "1")


class Cutting:
    """A way to a server on which each connection ends after so many bytes as `most` allows; None: it does not end."""

    def __init__(self, address, pick):
        self.target, self.pick, self.most = address.rpartition(":"), pick, None
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"

    def __enter__(self):
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()
        return self

    def __exit__(self, *_):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for thread in self.threads:
            thread.join(10)

    def _accept(self):
        while True:
            try:
                client = self.listening.accept()[0]
            except OSError:
                return
            server = socket.create_connection((self.target[0], int(self.target[2])))
            left = [None if self.most is None else self.pick.randrange(self.most)]
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._pass, args=(source, sink, left))
                thread.start()
                self.threads.append(thread)

    def _pass(self, source, sink, left):
        try:
            while data := source.recv(1 << 16):
                if left[0] is not None:
                    data = data[: left[0]]
                    left[0] -= len(data)
                sink.sendall(data)
                if left[0] == 0:
                    break
        except OSError:
            pass
        for each in (source, sink):  # the other direction's thread wakes up from it, and closes nothing twice
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        source.close()


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_what_is_cut_is_said_or_made_up_for_and_goes_on_later(pushed, registry, roots, verb):
    pick = random.Random(f"{SEED} {verb}")
    with Cutting(registry, pick) as way:
        for number in range(ROUNDS):
            name = f"{way.address}/app:v0"
            if verb == "push":
                name = f"{way.address}/cut{number}:v0"
                veloci("copy", "-q", f"oci:{pushed.path}:v0", name)
            else:
                veloci("system", "prune", "-af")
            way.most = 1_500_000  # more than a layer has: some get through
            done = veloci(verb, "-q", name, check=False)
            assert len(done.stderr.splitlines()) <= (2 if done.returncode else 0), done.stderr
            assert done.returncode in (0, 1)
            assert veloci("system", "check").endswith(": whole\n")
            way.most = None
            veloci(verb, "-q", name)
            assert veloci("system", "check").endswith(": whole\n")
            assert veloci("image", "validate", f"docker://{name}").endswith(": valid\n")
    veloci("image", "prune", "-f")
    assert os.listdir(roots / "data/content/ingest") == []
