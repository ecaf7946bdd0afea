"""What the commands checkpoint and restore are told."""

from __future__ import annotations

from veloci.errors import InvalidInput
from veloci.runtime.criu.rpc import CGROUP_MODES
from veloci.spec.document import Document

CLONE_NEWNET = 0x40000000


class Images(Document):
    """What both take.

    --image-path DIR            where the images are; `checkpoint` in the current directory by default
    --work-path DIR             where CRIU writes its log; with the images by default
    --tcp-established           with open TCP connections
    --ext-unix-sk               with unix sockets whose other end is outside
    --shell-job                 with a session or a terminal that begins outside
    --file-locks                with file locks
    --manage-cgroups-mode MODE  what becomes of control groups: soft (as by default), full, strict or ignore
    --empty-ns KIND             make the namespace, but leave it empty: network (which always is)
    --auto-dedup                free memory images that a later one replaces
    --lazy-pages                fetch memory when it is first used, from a page server
    """

    image_path: str = ""
    work_path: str = ""
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    manage_cgroups_mode: str = ""
    empty_ns: tuple[str, ...] = ()
    auto_dedup: bool = False
    lazy_pages: bool = False

    def request(self) -> dict[str, object]:
        """The fields of criu_opts that say the same. Raises InvalidInput."""
        if self.manage_cgroups_mode not in CGROUP_MODES:
            raise InvalidInput("invalid manage-cgroups-mode value", where="--manage-cgroups-mode")
        for kind in self.empty_ns:
            if kind != "network":
                raise InvalidInput(f'namespace "{kind}" is not supported', where="--empty-ns")
        return {
            "tcp_established": self.tcp_established,
            "ext_unix_sk": self.ext_unix_sk,
            "shell_job": self.shell_job,
            "file_locks": self.file_locks,
            "manage_cgroups": True,
            "manage_cgroups_mode": CGROUP_MODES[self.manage_cgroups_mode],
            "empty_ns": CLONE_NEWNET,  # what is in it is its maker's to restore: hooks, or the engine
            "auto_dedup": self.auto_dedup,
            "lazy_pages": self.lazy_pages,
        }

    @property
    def directory(self) -> str:
        """Where the images are."""
        return self.image_path or "checkpoint"
