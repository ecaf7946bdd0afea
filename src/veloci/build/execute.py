"""Runs a graph: each stage when it is asked for, each step from the cache or on a writable snapshot."""

from __future__ import annotations

from _thread import allocate_lock
from contextlib import contextmanager
from time import monotonic, sleep, time_ns
from typing import TYPE_CHECKING

from veloci.build.cache import Layer, key
from veloci.build.config import Configuration
from veloci.build.context import LazyTree, Tree, held
from veloci.build.graph import SCRATCH, context_name
from veloci.build.instructions import instruction
from veloci.build.parse import parse
from veloci.build.stage import Stage
from veloci.errors import HostError, VelociError
from veloci.layer.stream import Hashed, compressed
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec import platform as platforms
from veloci.spec.document import loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeGuard

    from veloci.build.graph import Graph
    from veloci.build.graph import Stage as Outline
    from veloci.build.instructions import Instruction
    from veloci.build.parts import Options, Parts, Progress, Transfers
    from veloci.content.lease import Lease
    from veloci.spec.digest import Digest
    from veloci.spec.platform import Platform

    Json = dict[str, Any]


class Build:
    """One build, for one platform.

    token: names its snapshots and its work directory. lease: keeps the layers that it counts on. counter: numbers
    that no other build with the token has. prefix: before the names of its steps.
    """

    def __init__(
        self,
        graph: Graph,
        parts: Parts,
        options: Options,
        *,
        platform: Platform,
        token: str,
        lease: Lease,
        counter: Iterator[int],
        prefix: str = "",
    ) -> None:
        self.graph, self.parts, self.options = graph, parts, options
        self.platform, self.token, self.lease = platform, token, lease
        self.work = parts.cache.work(token)
        self._stages: dict[int, Stage] = {}
        self._locks = [allocate_lock() for _ in graph.stages]
        self._counter, self.prefix = counter, prefix
        self.stopped = False
        self.used: dict[str, Layer] = {}  # by key, what this build took from the cache or made
        self.sources: dict[str, Any] = {}

    def target(self) -> Stage:
        """The stage that was asked for, finished; those it needs are built side by side where they can be.

        Raises VelociError with the Dockerfile's line.
        """
        needed = self.graph.needed()
        if self.parts.together and len(needed) > 1:
            # A stage waits only for earlier ones, and those began before it: nobody waits for ever.
            self.parts.together(self._stage, needed)
        return self.stage(self.graph.target)

    def stage(self, number: int) -> Stage:
        """The finished stage; built by the first who asks, the others wait. Raises as `target`."""
        with self._locks[number]:
            if number not in self._stages:
                self._stages[number] = self._built(self.graph.stages[number])
            return self._stages[number]

    def _stage(self, number: int) -> None:
        try:
            self.stage(number)
        except BaseException:
            self.stopped = True  # the other stages begin no more steps
            raise

    def fresh(self, kind: str) -> str:
        """A path in the work directory that nobody has had."""
        return f"{self.work}/{kind}-{next(self._counter)}"

    def _built(self, outline: Outline) -> Stage:
        from veloci.build.steps import Steps

        if isinstance(outline.base, int):
            stage = self.stage(outline.base).fork()
        else:
            total = 1 + sum(step.keyword in ("RUN", "COPY", "ADD", "WORKDIR") for step in outline.steps)
            with located(outline.start):
                stage = self._based(outline, total)
        Steps(self, stage, outline, self._triggers(stage, outline)).do()
        return stage

    def _based(self, outline: Outline, total: int) -> Stage:
        name = str(outline.base)
        platform = platforms.parse(outline.platform) if outline.platform else self.platform
        known = self.graph.arguments
        if name == SCRATCH:
            empty: dict[str, Any] = platform.plain()
            return Stage(Configuration(empty, given=self.options.arguments, known=known, escape=self.graph.escape))
        if (tree := self.parts.contexts.get(context_name(name))) is not None:
            return self._from_tree(tree, self.title(outline, 1, total, f"FROM {name}"), platform)
        with self.step(self.title(outline, 1, total, f"FROM {name}")) as shown:
            image = self.parts.image(name, platform, shown.transfers)
        base = loads(image.config_raw)
        configuration = Configuration(base, given=self.options.arguments, known=known, escape=self.graph.escape)
        return Stage(configuration, list(zip(image.layers, image.diff_ids, strict=True)))

    def _from_tree(self, tree: Tree, title: str, platform: Platform) -> Stage:
        """A stage that begins with the files of a named context."""
        from veloci.build.copy import Target

        def make(shown: Shown) -> Layer:
            with self.writable("") as name:
                with held(self.parts.snapshots.mount(name)) as root:
                    Target(root, owner=(0, 0)).copy(tree, "/", "/", into=True)
                return self.taken(name, title, shown)

        empty: dict[str, Any] = platform.plain()
        known, given = self.graph.arguments, self.options.arguments
        stage = Stage(Configuration(empty, given=given, known=known, escape=self.graph.escape))
        stage.configuration.note(title.partition("] ")[2], empty=False)
        cached = not self.options.no_cache
        stage.add(self.layer(title, lambda _shown: self.key("context", tree.digest(["/"])), make, cached=cached))
        return stage

    def _triggers(self, stage: Stage, outline: Outline) -> list[Instruction]:
        """The base's ONBUILD instructions, to be done first."""
        steps: list[Instruction] = []
        for text in stage.configuration.triggers():
            for line in parse(f"{text}\n".encode(), name=outline.start.where).lines:
                found = instruction(line, name=outline.start.where, escape=self.graph.escape)
                steps.append(found.replace(where=f"{outline.start.where}: ONBUILD"))
        return steps

    def title(self, outline: Outline, number: int, total: int, text: str) -> str:
        """How progress calls a step."""
        return f"[{self.prefix}{outline.title()} {number}/{total}] {text}"

    @contextmanager
    def step(self, title: str) -> Iterator[Shown]:
        """A step that is shown while it goes on."""
        shown = Shown(self.parts.progress, title)
        began = monotonic()
        try:
            yield shown
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            self.parts.progress.failed(shown.number, "canceled" if interrupted else str(error) or type(error).__name__)
            raise
        self.parts.progress.done(shown.number, None if shown.cached else monotonic() - began)

    def layer(self, title: str, key: Callable[[Shown], str], make: Callable[[Shown], Layer], *, cached: bool) -> Layer:
        """The step's layer: from the cache if it is there and its blob too, else from `make`. cached: look there."""
        self._go_on()
        cache = self.parts.cache
        with self.step(title) as shown:
            name = key(shown)
            found = self._cached(name) if cached else None
            if found is None:
                with cache.making(name, self.waiting(shown.number, "another build does this step: waiting for it")):
                    found = self._cached(name) if cached else None  # another one was at it
                    if found is None:
                        found = self.used[name] = make(shown)
                        cache.put(name, found.plain())
                        return found
            shown.cached = True
            self.used[name] = found
        return found

    def _go_on(self) -> None:
        """Raises VelociError when another stage has failed, or the user has had enough."""
        if self.stopped or self.parts.stopped():
            raise VelociError("canceled")

    def waiting(self, number: int, text: str) -> Callable[[], None]:
        """What to call while something else is at it: says so once, in step `number`, and waits a little."""
        said: list[bool] = []

        def wait() -> None:
            if not said:
                said.append(True)
                self.parts.progress.note(number, text)
            self._go_on()
            sleep(0.05)

        return wait

    def _cached(self, name: str) -> Layer | None:
        found = self.parts.cache.layer(name)
        if found is not None and self.parts.store.has(found.descriptor):
            return found
        found = self.parts.elsewhere.layer(name) if self.parts.elsewhere else None
        if found is not None:
            self.parts.cache.put(name, found.plain())
        return found

    def remembered(self, name: str, make: Callable[[], Json]) -> Json:
        """What a COPY reads from a stage, under a key: as it was found before, or as `make` finds it."""
        cache, elsewhere = self.parts.cache, self.parts.elsewhere
        known: Any = cache.get(name) or (elsewhere.source(name) if elsewhere else None)
        found = known if _is_remembered(known) else make()
        cache.put(name, found)
        self.sources[name] = found
        return found

    def unpacked(self, stage: Stage, shown: Shown) -> Digest:
        """The stage's layers as a snapshot. Returns its chain ID."""
        parts = self.parts
        if stage.chain_id:
            self.lease.note(stage.chain_id)
        return parts.snapshots.unpack(parts.store, stage.layers, parallel=parts.parallel, progress=shown.transfers)

    @contextmanager
    def writable(self, parent: Digest) -> Iterator[str]:
        """The key of a fresh writable snapshot upon the layer `parent`; gone at the end."""
        name = f"build-{self.token}-{next(self._counter)}"
        self.parts.snapshots.prepare(name, parent)
        try:
            yield name
        finally:
            self.parts.snapshots.remove(name)

    def taken(self, name: str, title: str, shown: Shown, *, alone: bool = False) -> Layer:
        """What was written in the snapshot `name` as a stored layer; the snapshot becomes the next step's ground.

        alone: it was written upon nothing (--link), and stands on something else later.
        """
        tar = Hashed(self.parts.snapshots.changes(name, epoch=self.options.epoch))
        told = _told(tar, shown.transfers)
        descriptor = self.parts.store.adopt(compressed(told, spread=self.parts.spread), media.LAYER_GZIP)
        chain_id = ""
        if not alone and self.options.epoch is None:  # else the files' times are not the layer's
            chain_id = digests.chain(self.parts.snapshots.parent(name), tar.digest)
            self.lease.note(chain_id)
            self.parts.snapshots.commit(name, tar.digest)
        return Layer(descriptor=descriptor, diff_id=tar.digest, created=self.now(), step=title, chain_id=chain_id)

    def now(self) -> str:
        """The time, RFC 3339 in UTC, or SOURCE_DATE_EPOCH."""
        from datetime import UTC, datetime

        if self.options.epoch is not None:
            return datetime.fromtimestamp(self.options.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        seconds, rest = divmod(time_ns(), 10**9)
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{rest:09}Z"

    def key(self, *parts: Any) -> str:
        """A cache key; the platform and the latest time count for every step."""
        return key(*parts, str(self.platform), self.options.epoch)

    @contextmanager
    def source(self, name: str, before: int, step: Instruction) -> Iterator[tuple[Tree, Digest]]:
        """What `--from=name` reads, and its chain ID; "" reads the context, which has none."""
        if not name:
            yield self.parts.context, ""
            return
        found = self.graph.source(name, before, where=step.where)
        if isinstance(found, str) and (tree := self.parts.contexts.get(context_name(found))) is not None:
            yield tree, ""
            return
        if isinstance(found, int):
            layers = self.stage(found)
        else:
            with self.step(f"FROM {found}") as shown:
                image = self.parts.image(found, self.platform, shown.transfers)
            layers = Stage(Configuration({}, given={}, known={}, escape="\\"))
            layers.layers = list(zip(image.layers, image.diff_ids, strict=True))
        lazy = LazyTree(lambda: self.parts.snapshots.view(self._whole(layers)), name, owners=True)
        lazy.chain_id = layers.chain_id
        try:
            yield lazy, layers.chain_id or SCRATCH
        finally:
            lazy.close()

    def _whole(self, stage: Stage) -> Digest:
        """As `unpacked`, in the middle of a step: said only if there is something to do."""
        if self.parts.snapshots.has(stage.chain_id):
            return stage.chain_id
        with self.step("unpacking layers") as shown:
            return self.unpacked(stage, shown)


class Shown:
    """A step on show. cached: nothing had to be done."""

    def __init__(self, progress: Progress, title: str) -> None:
        self.number = progress.start(title)
        self.transfers = progress.transfers(self.number)
        self.cached = False


def _is_remembered(known: object) -> TypeGuard[Json]:
    if not isinstance(known, dict):
        return False
    return isinstance(known.get("digest"), str) and isinstance(known.get("paths"), list)


def _told(chunks: Iterable[bytes], transfers: Transfers) -> Iterator[bytes]:
    """The layer's bytes, counted as they go."""
    key = "exporting layer"
    transfers.start(key, "bytes")
    for chunk in chunks:
        transfers.advance(key, len(chunk))
        yield chunk
    transfers.done(key, "")


@contextmanager
def located(step: Instruction) -> Iterator[None]:
    """Give the failures inside the step's file and line."""
    try:
        yield
    except VelociError as error:
        error.where = error.where or step.where
        if error.where.startswith("--"):
            error.where = step.where
        raise
    except OSError as error:
        raise HostError(f"{step.keyword}: {error.filename or ''}".rstrip(": "), error, where=step.where) from error
