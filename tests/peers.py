"""What tests of images share: small images made without veloci, registries and dockerds of their own."""

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar(files):
    """A tar of {name: bytes}; a name with its mode is (name, mode)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def busybox():
    """The layers of an image that runs: a shell, and a second layer with a text."""
    shell = Path("/bin/busybox").read_bytes()
    return [tar({"bin/busybox": shell, "bin/sh": shell}), tar({"etc/text": b"hello\n"})]


class Built:
    """An OCI layout made by hand: `path`, `manifest`, `config`, `layers` as they are in it."""

    def __init__(self, path, tars=None, *, name="v0", architecture=None, compress=True):
        self.path = Path(path)
        self.tars = tars if tars is not None else [tar({"a": b"one" * 1000}), tar({"b": os.urandom(3000)})]
        machine = architecture or {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        config = {
            "architecture": machine,
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(t) for t in self.tars]},
            "history": [{"created_by": f"layer {n}"} for n in range(len(self.tars))],
        }
        self.layers = [gzip.compress(t, mtime=0) if compress else t for t in self.tars]
        kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if compress else "")
        self.config = json.dumps(config).encode()
        self.document = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self._entry(self.config, "application/vnd.oci.image.config.v1+json"),
            "layers": [self._entry(layer, kind) for layer in self.layers],
        }
        self.manifest = json.dumps(self.document, separators=(",", ":")).encode()
        self.platform = {"architecture": machine, "os": "linux"}
        self.write([(self.manifest, self.document["mediaType"], name)])

    def write(self, entries):
        """(Re)write the layout with index entries (raw, media type, name)."""
        blobs = self.path / "blobs/sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for blob in (self.manifest, self.config, *self.layers, *(raw for raw, _, _ in entries)):
            (blobs / digest(blob)[7:]).write_bytes(blob)
        (self.path / "oci-layout").write_bytes(b'{"imageLayoutVersion": "1.0.0"}')
        index = [
            {**self._entry(raw, kind), "annotations": {"org.opencontainers.image.ref.name": name}}
            for raw, kind, name in entries
        ]
        text = json.dumps({"schemaVersion": 2, "manifests": index}, separators=(",", ":"))
        (self.path / "index.json").write_text(text)

    def _entry(self, data, kind):
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}


class Serving:
    """`veloci registry serve` on a free port, for the length of a block: gives its address and process."""

    def __init__(self, root, listen="127.0.0.1:0"):
        self.root, self.listen = root, listen

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "veloci", "registry", "serve", "--root", str(self.root), "--listen", self.listen],
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith(f"registry: http://{self.listen[:-1]}"), line
        return line.split()[1].rstrip(",").removeprefix("http://"), self.process

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        try:
            assert self.process.wait(20) == 0
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


class Scripted:
    """An HTTP server that answers as a test's function says: `answer(request)` gets the handler.

    `seen` is a list of (method, path, Authorization header). certificate: a file; then it speaks TLS, and wants
    clients' certificates signed by `authority`, a file, if that is given.
    """

    def __init__(self, answer, certificate=None, *, host="127.0.0.1", authority=None):
        self.seen = seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                # A TLS greeting has no end of line to wait for.
                plain = not isinstance(self.connection, ssl.SSLSocket)
                if plain and self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
                    self.close_connection = True
                    return
                super().handle_one_request()

            def reply(self, status=200, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if "Content_Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def cut(self):
                self.close_connection = True

            def _any(self):
                seen.append((self.command, self.path, self.headers.get("Authorization")))
                length = int(self.headers.get("Content-Length") or 0)
                try:
                    self.body = self.rfile.read(length)
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def __getattr__(self, name):
                if name.startswith("do_"):
                    return self._any
                raise AttributeError(name)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server((host, 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if authority:
                context.load_verify_locations(authority)
                context.verify_mode = ssl.CERT_REQUIRED
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"{host}:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Dockerd:
    """A docker daemon with its own roots and socket, and no network; gives the words that begin a command."""

    def __init__(self, root, *options):
        self.root, self.options = Path(root), options

    def __enter__(self):
        self.root.mkdir(parents=True, exist_ok=True)
        at = f"unix://{self.root}/docker.sock"
        self.log = (self.root / "log").open("wb")
        self.process = subprocess.Popen(
            (
                f"dockerd --data-root {self.root}/data --exec-root {self.root}/exec --pidfile {self.root}/pid"
                f" -H {at} --iptables=false --ip-masq=false --ip-forward=false --bridge=none"
            ).split()
            + list(self.options),
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.command = ["docker", "-H", at]
        for _ in range(100):
            if subprocess.run([*self.command, "version"], capture_output=True, check=False).returncode == 0:
                return self.command
            time.sleep(0.2)
        self.__exit__()
        raise AssertionError((self.root / "log").read_text()[-2000:])

    def __exit__(self, *_):
        os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([m for m in mounts if m.startswith(str(self.root))]):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(self.root, ignore_errors=True)


class Containerd:
    """A containerd with its own roots, for the length of a block: gives the words that begin a command of ctr.

    config: more of its configuration file. `socket`: where it answers.
    """

    def __init__(self, root, config):
        self.root, self.config = Path(root), config

    def __enter__(self):
        self.short = Path(tempfile.mkdtemp(prefix="vctr"))  # a socket's name may not be long
        self.socket = self.short / "sock"
        (self.root / "config.toml").write_text(
            f'version = 2\nroot = "{self.root}/data"\nstate = "{self.short}/state"\n{self.config}'
            f'[grpc]\naddress = "{self.socket}"\n[ttrpc]\naddress = "{self.short}/ttrpc"\n'
        )
        self.start()
        return ["ctr", "--address", str(self.socket)]

    def start(self):
        """Start it, again; containers live on meanwhile."""
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["containerd", "--config", self.root / "config.toml"], stdout=log, stderr=log
            )
        for _ in range(100):
            if run("ctr", "--address", self.socket, "version", check=False).returncode == 0:
                return
            time.sleep(0.1)
        self.__exit__()
        raise AssertionError((self.root / "log").read_text()[-2000:])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()

    def __exit__(self, *_):
        self.stop()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([m for m in mounts if m.startswith((str(self.root), str(self.short)))]):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(self.short, ignore_errors=True)


def waits(lock, code):
    """Whether Python's `code` waits, once it has printed a line, while `lock` is held, and then ends well.

    lock: what ends when its `with` block does.
    """
    with lock:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        process.stdout.readline()
        try:
            process.wait(0.5)
            waited = False
        except subprocess.TimeoutExpired:
            waited = True
    rest, _ = process.communicate(timeout=20)
    return waited and (process.returncode, rest) == (0, b"")


@contextlib.contextmanager
def own_network():
    """This thread, and what it starts, is in a network namespace of its own for a while; only `lo` is there, up."""
    from veloci.kernel.process import CLONE_NEWNET, setns, unshare

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        unshare(CLONE_NEWNET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        setns(home, CLONE_NEWNET)
        os.close(home)


def run(*command, check=True, **options):
    """A command's standard output as text; with check=False the whole CompletedProcess."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=120, **options
    )
    if not check:
        return done
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def veloci(*words, **options):
    """Run the command `veloci`."""
    return run(sys.executable, "-m", "veloci", *words, **options)


def inside(*words, check=True, cwd=None):
    """As `veloci`, in this process: several times as fast, for commands that start nothing."""
    from veloci.cli.main import main

    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    home = contextlib.chdir(cwd) if cwd else contextlib.nullcontext()
    with home, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in words])
    done = subprocess.CompletedProcess(words, status, out.buffer.getvalue().decode(), err.getvalue())
    if not check:
        return done
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout
