"""Builds through the engine: a context and a Dockerfile to a named image."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from functools import partial

from veloci.build import context
from veloci.build.cache import Cache, remove
from veloci.build.execute import Build, Options, Parts
from veloci.build.graph import graph
from veloci.build.ignore import Ignore
from veloci.build.parse import parse
from veloci.engine.build_agent import Agents
from veloci.engine.build_step import Running, step
from veloci.errors import InvalidInput, NotFound
from veloci.image.assemble import assemble
from veloci.image.image import Image
from veloci.spec import platform as platforms
from veloci.spec.document import Document
from veloci.spec.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from veloci.build.execute import Progress, Transfers
    from veloci.build.graph import Graph
    from veloci.engine.engine import Engine
    from veloci.spec.image import Descriptor


class Request(Document):
    """What `build` is asked for.

    file: the Dockerfile's path; "" is Dockerfile in the context. tags: names of the result. pull: take the bases
    from their registry even if they are here. epoch: SOURCE_DATE_EPOCH. format: oci or docker. ssh: sockets of
    agents by id. fresh: stages whose steps are all done again. allow: network.host, security.insecure.
    """

    context: str
    file: str = ""
    tags: tuple[str, ...] = ()
    arguments: dict[str, str] = {}
    labels: dict[str, str] = {}
    secrets: dict[str, bytes] = {}
    target: str = ""
    platform: str = ""
    network: str = "default"
    no_cache: bool = False
    pull: bool = False
    epoch: int | None = None
    format: str = "oci"
    ssh: dict[str, str] = {}
    fresh: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


class Builds:
    """Builds on an engine's store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def build(self, request: Request, progress: Progress, *, warn: Callable[[str], None]) -> Image:
        """Build, store and name an image. Returns it.

        warn: told what is odd but no failure. Raises VelociError; a mistake in the Dockerfile has file and line.
        """
        tags = [Reference.parse(tag).with_default_tag() for tag in request.tags]
        platform = platforms.parse(request.platform) if request.platform else platforms.host()
        outline, ignore = self._read(request, platform)
        if outline.unused:
            warn(f"one or more build arguments {list(outline.unused)} were not consumed")
        engine = self._engine
        cache = Cache(f"{engine.root}/build")
        with (
            context.opened(request.context, ignore) as tree,
            cache.active(self._forget) as token,
            closing(engine.snapshots.lease()) as lease,
            ExitStack() as stack,
        ):
            stack.callback(remove, f"{engine.run_root}/build/{token}")
            parts = self._parts(request, cache, tree, progress)
            build = Build(outline, parts, _options(request), platform=platform, token=token, lease=lease)
            descriptor = self._finish(build, request, tags)
        return Image(engine.store, descriptor)

    def _read(self, request: Request, platform: platforms.Platform) -> tuple[Graph, Ignore]:
        path = request.file or os.path.join(request.context, "Dockerfile")
        name = os.path.relpath(path, request.context) if os.path.isdir(request.context) else path
        name = path if name.startswith("..") else name
        try:
            with open(path, "rb") as file:
                raw = file.read()
        except FileNotFoundError:
            if not os.path.isdir(request.context):
                raise NotFound(f"build context {request.context!r} not found") from None
            raise NotFound(f"{path} not found", hint="name the Dockerfile by -f FILE") from None
        except IsADirectoryError:
            raise InvalidInput(f"{path} is a directory", hint="name the Dockerfile by -f FILE") from None
        outline = graph(
            parse(raw, name=name),
            target=request.target,
            arguments=request.arguments,
            platform=platform,
            host=platforms.host(),
        )
        outline.needed()
        return outline, _ignore(path, request.context)

    def _parts(self, request: Request, cache: Cache, tree: context.Tree, progress: Progress) -> Parts:
        from veloci.engine.tasks import ahead, parallel

        engine = self._engine

        def image(name: str, platform: platforms.Platform | None, transfers: Transfers) -> Image:
            pull = "always" if request.pull else "missing"
            return engine.images.get(name, pull=pull, platform=platform, progress=transfers)

        running = Running()

        return Parts(
            store=engine.store,
            snapshots=engine.snapshots,
            cache=cache,
            context=tree,
            image=image,
            run_step=partial(step, engine, running=running),
            agent=Agents(request.ssh).listening,
            progress=progress,
            parallel=parallel,
            together=partial(_together, running),
            ahead=ahead,
            private=f"{engine.run_root}/build",
        )

    def _finish(self, build: Build, request: Request, tags: list[Reference]) -> Descriptor:
        engine = self._engine
        stage = build.target()
        document = stage.document(build.now())
        if request.labels:
            document["config"]["Labels"] = (document["config"].get("Labels") or {}) | request.labels
        with build.step("exporting to image") as shown:
            layers = [descriptor for descriptor, _ in stage.layers]
            descriptor = assemble(engine.store, document, layers, format=request.format)
            build.parts.progress.note(shown.number, f"writing image {Image(engine.store, descriptor).id} done")
            for tag in tags or (None,):
                engine.images.name(tag, descriptor)
                if tag is not None:
                    build.parts.progress.note(shown.number, f"naming to {tag} done")
        return descriptor

    def sweep(self) -> None:
        """Remove what builds left that were killed; the next build would do it too."""
        Cache(f"{self._engine.root}/build").sweep(self._forget)

    def _forget(self, token: str) -> None:
        """Remove what a build that was killed has left."""
        for key in self._engine.snapshots.keys():  # noqa: SIM118 -- no dictionary
            if key.startswith(f"build-{token}-"):
                self._engine.snapshots.remove(key)
        remove(f"{self._engine.run_root}/build/{token}")


def _options(request: Request) -> Options:
    return Options(
        arguments=request.arguments,
        no_cache=request.no_cache,
        network=request.network,
        epoch=request.epoch,
        secrets=request.secrets,
        fresh=request.fresh,
        allow=request.allow,
        agent=request.ssh.get("default", ""),
    )


def _ignore(dockerfile: str, directory: str) -> Ignore:
    """The rules of `<Dockerfile>.dockerignore`, else of the context's .dockerignore."""
    for path in (f"{dockerfile}.dockerignore", os.path.join(directory, ".dockerignore")):
        try:
            with open(path, "rb") as file:
                return Ignore.read(file.read(), name=os.path.basename(path))
        except (FileNotFoundError, NotADirectoryError):
            continue
    return Ignore()


def _together(running: Running, function: Callable[[int], object], numbers: Iterable[int]) -> None:
    """Call `function` with each of `numbers`, up to four at once. The first failure ends what the others run."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(4, "stage") as pool:
        futures = [pool.submit(function, number) for number in numbers]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            running.stop()
            raise
        finally:
            for future in futures:
                future.cancel()
