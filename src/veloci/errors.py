"""Every failure veloci reports, sorted by what the reader can do about it.

    VelociError
    ├── InvalidInput   fix what you passed; `where` points at it
    ├── NotFound       it is not there
    ├── Conflict       it is there already, or in the wrong state
    ├── Denied         log in, or run with more privilege
    ├── Corrupt        bytes are not what their digest promised: fetch again
    ├── Unavailable    try later; `retry_after` is in seconds
    ├── Unsupported    this kernel or host lacks something
    └── HostError      a system call failed

A layer raises these; it never prints and never exits. Only `cli.main` does.
"""

from __future__ import annotations


class VelociError(Exception):
    """A cause in one line, and a way out if there is one.

    message: lower case, no full stop; names the object ("blob sha256:… not found").
    hint: what to do, as a command when possible.
    where: where in the input ("config.json: $.mounts[2].type", "Dockerfile:3", "--memory").
    exit_status: None lets the command decide (125 for `run`, 1 for the others, as docker);
        set where scripts depend on the number: 126 not executable, 127 not found.
    """

    def __init__(self, message: str, *, hint: str = "", where: str = "", exit_status: int | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.where = where
        self.exit_status = exit_status

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{self.where}: {message}" if self.where else message

    def plain(self) -> dict[str, str | int | None]:
        """It as JSON's builtins, for another process, where `revived` makes it again."""
        return {"class": type(self).__name__, "message": str(self), "hint": self.hint, "exit_status": self.exit_status}


class InvalidInput(VelociError):
    """What was passed breaks a rule."""


class NotFound(VelociError):
    """The named thing does not exist."""


class Conflict(VelociError):
    """The thing exists already, or its state forbids this."""


class Denied(VelociError):
    """Not allowed: credentials or privilege are missing."""


class Corrupt(VelociError):
    """Content does not match its digest or size."""

    def __init__(self, what: str, *, want: str, got: str) -> None:
        super().__init__(f"{what}: expected {want}, got {got}", hint="the copy is damaged; fetch it again")
        self.want, self.got = want, got


class Unavailable(VelociError):
    """The other side cannot answer now."""

    retry_after: float | None = None  # seconds


class Unsupported(VelociError):
    """This kernel or host lacks a feature."""


class HostError(VelociError):
    """A system call failed while doing something that has a name."""

    def __init__(
        self, doing: str, cause: OSError, *, hint: str = "", where: str = "", exit_status: int | None = None
    ) -> None:
        super().__init__(f"{doing}: {cause.strerror}", hint=hint, where=where, exit_status=exit_status)
        self.errno = cause.errno

    @classmethod
    def unforeseen(cls, cause: OSError) -> HostError:
        """What a system call says where nobody had a better name for it than the file that it was about."""
        from os import fsdecode, geteuid

        forbidden = cause.errno in (1, 13) and geteuid() != 0  # EPERM, EACCES
        about = fsdecode(cause.filename) if isinstance(cause.filename, str | bytes) else "the system refuses"
        return cls(about, cause, hint="run it as root, or as the owner of the file" if forbidden else "")


def revived(fields: dict[str, str | int | None]) -> VelociError:
    """The error that another process described by `plain`, of its class if that takes no more than a message."""
    known = {kind.__name__: kind for kind in (InvalidInput, NotFound, Conflict, Denied, Unavailable, Unsupported)}
    status = fields["exit_status"]
    return known.get(str(fields.get("class")), VelociError)(
        str(fields["message"]), hint=str(fields["hint"]), exit_status=None if status is None else int(status)
    )
