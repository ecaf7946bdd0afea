"""What a monitor is told of the container that it makes."""

from __future__ import annotations

from veloci.monitor.logs import MAX_FILES, MAX_SIZE
from veloci.monitor.policy import Restart
from veloci.spec.document import Document, Json


class Task(Document):
    """Of the container's directories, `data` lasts and `run` may be lost at a reboot."""

    id: str
    data: str
    run: str
    run_root: str  # the engine's run directory, where runtimes keep their states
    networks: str  # where networks are kept
    runtime: str = "veloci"
    config: Json = None  # config.json
    joined: Json = None  # a namespace's kind (network, pid, ipc) -> ID of the container whose it is
    lease: Json = None  # the network's lease; None: no network of ours
    uses: tuple[Json, ...] = ()  # what is told of at its start and end: type (network, volume), id, attributes
    stdin: bool = False  # whether the container's standard input stays open
    stdin_once: bool = True  # it ends with the client that had it
    rows: int = 0  # of its terminal; 0: not known
    columns: int = 0
    restart: Restart = Restart()
    log: bool = True
    log_size: int = MAX_SIZE  # bytes of one file
    log_files: int = MAX_FILES
    log_attributes: Json = None  # what stands with every entry
    health: Json = None  # a Healthcheck in docker's shape, with the image's Shell beside
