"""What a build works with: what its user asks, and the parts of the engine that it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from veloci.build.cache_mounts import CacheMounts
from veloci.build.download import Downloads
from veloci.spec.document import Document, Json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from veloci.build.cache import Cache, Layer
    from veloci.build.context import Tree
    from veloci.build.run_mounts import View
    from veloci.content.store import Store
    from veloci.image.image import Image
    from veloci.snapshot import Snapshots
    from veloci.spec.platform import Platform


class Transfers(Protocol):
    """Who is told of the bytes that a step moves; as transport.place.Progress."""

    def start(self, key: str, text: str, total: int | None = None) -> None:
        """Work on `total` bytes begins, or enters another stage."""

    def advance(self, key: str, count: int) -> None:
        """`count` more bytes are done."""

    def done(self, key: str, text: str) -> None:
        """It ended; `text` says how, "" with how many bytes."""


class Progress(Protocol):
    """Where a build says what it does. Steps are known by the number that `start` gives. Any thread may call."""

    def start(self, title: str) -> int:
        """A step begins."""

    def output(self, number: int, data: bytes) -> None:
        """What its program printed."""

    def transfers(self, number: int) -> Transfers:
        """Who is told of its bytes."""

    def note(self, number: int, text: str) -> None:
        """A word about it."""

    def done(self, number: int, seconds: float | None) -> None:
        """It is ready; None: it was cached."""

    def failed(self, number: int, message: str) -> None:
        """It failed."""


class Options(Document):
    """What the user asks of a build beside the Dockerfile.

    epoch: seconds since 1970; no time in the image is later. network: of RUN, unless it says its own.
    secrets: --secret's values by id. agent: the socket of the default SSH agent, for git. fresh: stages in
    which every step is done again. allow: network.host and security.insecure.
    """

    arguments: dict[str, str] = {}
    no_cache: bool = False
    network: str = "default"
    epoch: int | None = None
    secrets: dict[str, bytes] = {}
    fresh: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    agent: str = ""
    hosts: tuple[tuple[str, str], ...] = ()  # address and name, for /etc/hosts
    shm_size: int = 64 << 20  # bytes
    ulimits: tuple[Json, ...] = ()  # as config.json's rlimits
    cgroup_parent: str = ""


class Elsewhere(Protocol):
    """Build caches in other places."""

    def layer(self, name: str) -> Layer | None:
        """The layer under a key, its blob in the store now."""

    def source(self, name: str) -> Any:
        """What a COPY from a stage reads, under its key."""


class RunStep(Protocol):
    """Runs one process to its end in a writable snapshot."""

    def __call__(
        self,
        key: str,
        config: dict[str, Any],
        *,
        bundle: str,
        output: Callable[[bytes], None],
        network: str,
        views: Sequence[View],
    ) -> int:
        """key: the snapshot's. bundle: a directory to be made. network: bridge, host or none. Gives the exit status.

        views: what the process mounts before, in a mount namespace of its own.
        """


class Parts:
    """What a build works with."""

    def __init__(
        self,
        *,
        store: Store,
        snapshots: Snapshots,
        cache: Cache,
        context: Tree,
        image: Callable[[str, Platform | None, Transfers], Image],
        run_step: RunStep,
        agent: Callable[[str, str], AbstractContextManager[None] | None],
        stopped: Callable[[], bool],
        contexts: Mapping[str, Tree] | None = None,
        elsewhere: Elsewhere | None = None,
        progress: Progress,
        parallel: Callable[..., Iterable[Any]] = map,
        together: Callable[[Callable[[int], object], Iterable[int]], None] | None = None,
        spread: Callable[..., Iterable[bytes]] = map,
        private: str,
    ) -> None:
        """Each is used by name.

        parallel: a map for layers. spread: one for a layer's chunks.
        image: an image of that name and platform, from its registry if need be. together: calls a function with
        each number, by threads; when one fails the others end soon. private: a directory on a tmpfs.
        stopped: whether no more is to be done.
        agent: lets a new socket at a path pass on to the SSH agent of an id, None if there is none.
        contexts: trees by the names under which stages and images are looked for. elsewhere: caches to look into.
        """
        self.store, self.snapshots, self.cache, self.context = store, snapshots, cache, context
        self.image, self.run_step, self.progress = image, run_step, progress
        self.stopped = stopped
        self.contexts, self.elsewhere = contexts or {}, elsewhere
        self.agent, self.mounts, self.downloads = agent, CacheMounts(cache.root), Downloads(cache.root)
        self.parallel, self.spread, self.private, self.together = parallel, spread, private, together
