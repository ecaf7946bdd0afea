"""Every part of veloci over one pair of directories, each made when it is first used."""

from __future__ import annotations

from veloci import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from veloci.content.names import Names
    from veloci.content.store import Store
    from veloci.engine.builds import Builds
    from veloci.engine.container import Container, Finished
    from veloci.engine.containers import Containers
    from veloci.engine.images import Images
    from veloci.engine.run_options import RunOptions
    from veloci.engine.volumes import Volumes
    from veloci.network.networks import Networks
    from veloci.snapshot import Snapshots

# attribute: module, class or function, its directory below the data directory ("" takes the engine itself)
_PARTS = {
    "store": ("veloci.content.store", "Store", "content"),
    "names": ("veloci.content.names", "Names", "content"),
    "snapshots": ("veloci.snapshot", "Snapshots", "snapshots"),
    "volumes": ("veloci.engine.volumes", "Volumes", ""),
    "networks": ("veloci.engine.networks", "told", ""),
    "images": ("veloci.engine.images", "Images", ""),
    "containers": ("veloci.engine.containers", "Containers", ""),
    "builds": ("veloci.engine.builds", "Builds", ""),
}


class Engine:
    """The verbs' one object: `Engine().images.pull("debian")`, `Engine().run("debian", "true")`.

    root: what lasts, default paths.data(). run: what a reboot may lose, default paths.run().
    forks: whether this process is a short-lived command of ours with one thread, from which a container's
        monitor may be forked; any other program's monitors start in an interpreter of their own.
    """

    store: Store
    names: Names
    snapshots: Snapshots
    volumes: Volumes
    networks: Networks
    images: Images
    containers: Containers
    builds: Builds

    def __init__(self, root: str | None = None, run: str | None = None, *, forks: bool = False) -> None:
        self.root = root or paths.data()
        self.run_root = run or paths.run()
        self.forks = forks
        self.warnings: list[str] = []  # what a verb did or met that its caller should know; the command line prints it

    def warn(self, *texts: str) -> None:
        """Add to the warnings what they do not say yet."""
        self.warnings += [text for text in texts if text not in self.warnings]

    def run(
        self, image: str, command: Sequence[str] = (), options: RunOptions | None = None, *, input: bytes = b""
    ) -> Finished:
        """Run `command` (or the image's own) in a new container to its end. Returns how it ended and what it wrote.

        The image is pulled if it is missing. options: what `veloci run` takes, `RunOptions(rm=True, memory="64m")`.
        input: its standard input. A command that fails is no error: `.check()` makes it one.
        Raises NotFound, InvalidInput, Unsupported, Conflict, Denied, HostError; and VelociError with exit_status
        127 or 126 for a command that is not there or cannot be executed.
        """
        from veloci.engine.container import run
        from veloci.engine.run_options import RunOptions

        return run(self, image, command, options or RunOptions(), input)

    def create(self, image: str, command: Sequence[str] = (), options: RunOptions | None = None) -> Container:
        """A new container of an image, in which nothing runs yet. Raises what `run` raises."""
        from veloci.engine.lasting import keep

        container = self._made(image, command, options)
        keep(self, container.id)
        return container

    def start(self, image: str, command: Sequence[str] = (), options: RunOptions | None = None) -> Container:
        """Run `command` (or the image's own) in a new container, and leave it running. Raises what `run` raises."""
        from veloci.engine.lasting import keep

        container, passing = self._made(image, command, options), options is not None and options.rm
        try:
            container.start()
        except BaseException:
            if passing:
                container.remove(force=True)
            raise
        if not passing:
            keep(self, container.id)
        return container

    def _made(self, image: str, command: Sequence[str], options: RunOptions | None) -> Container:
        from veloci.engine.container import Container

        return Container(self, self.containers.create(image, command, options))

    def container(self, word: str) -> Container:
        """The container with this name, ID or beginning of an ID. Raises NotFound, Conflict."""
        from veloci.engine.container import Container

        return Container(self, self.containers.records.find(word))

    def __getattr__(self, name: str) -> Any:
        """Make a part at its first use."""
        if name not in _PARTS:
            raise AttributeError(f"Engine has no attribute {name!r}")
        import sys

        module, kind, directory = _PARTS[name]
        __import__(module)
        part = getattr(sys.modules[module], kind)(f"{self.root}/{directory}" if directory else self)
        setattr(self, name, part)
        return part
