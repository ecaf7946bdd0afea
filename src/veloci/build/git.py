"""Git repositories that ADD and a build's context read, by the host's git.

`ADDRESS[#REF[:DIRECTORY]]`, as https://docs.docker.com/build/concepts/context/#git-repositories says. No
hook of the repository runs, no configuration of the host's users or of the system counts, and only the
http, https, git and ssh protocols are spoken: a submodule cannot read the host's files.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from veloci.errors import InvalidInput, NotFound, Unavailable, Unsupported
from veloci.spec.document import Document

if TYPE_CHECKING:
    from collections.abc import Callable

_FORBIDDEN = ("-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "advice.detachedHead=false")


class Repository(Document):
    """A repository's address, the ref to take ("" is its HEAD) and the directory in it."""

    url: str
    ref: str = ""
    directory: str = ""


def repository(text: str) -> Repository | None:
    """What `text` names, if it is a repository: git@…, git://…, ssh://…, or https://….git with or without #…."""
    url, _, fragment = text.partition("#")
    scheme = url.partition("://")[0] if "://" in url else ""
    known = scheme in ("git", "ssh") or (scheme in ("http", "https") and url.rstrip("/").endswith(".git"))
    short = not scheme and url.partition("@")[0] == "git" and ":" in url
    if not (known or short):
        return None
    ref, _, directory = fragment.partition(":")
    return Repository(url=url, ref=ref, directory=directory)


class Git:
    """One repository, looked at and checked out."""

    def __init__(self, wanted: Repository, *, agent: str = "") -> None:
        """agent: the socket of an SSH agent. Raises InvalidInput for a ref or an address that looks like an option."""
        if wanted.ref.startswith("-") or wanted.url.startswith("-"):
            raise InvalidInput(f"invalid Git reference {wanted.ref or wanted.url!r}")
        self.wanted, self._agent = wanted, agent
        self._commit = ""

    @property
    def commit(self) -> str:
        """The commit that the ref stands for, asked of the server once. Raises NotFound, Unavailable, Unsupported."""
        if not self._commit:
            self._commit = self._looked_up()
        return self._commit

    def _looked_up(self) -> str:
        ref = self.wanted.ref
        if len(ref) == 40 and not ref.strip("0123456789abcdef"):
            return ref
        names = [ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"] if ref else ["HEAD"]
        lines = self._run("ls-remote", "--", self.wanted.url).splitlines()
        pairs = (line.partition("\t") for line in lines)
        found = {name: commit for commit, _, name in pairs}
        for name in reversed(names):  # a tag's commit before the tag
            if name in found:
                return found[name]
        raise NotFound(f"{self.wanted.url} has no ref {ref!r}", hint="a branch, a tag, or a whole commit ID")

    def checkout(self, place: str, *, keep: bool, told: Callable[[str], None]) -> None:
        """Put the commit's files into the empty directory `place`, submodules too. keep: .git stays there."""
        commit, url = self.commit, self.wanted.url
        self._run("init", "-q", "--", place)
        self._run("remote", "add", "--", "origin", url, directory=place)
        told(f"fetching {url} at {commit[:12]}")
        try:
            self._run("fetch", "-q", "--depth=1", "--no-tags", "origin", commit, directory=place)
        except Unavailable:  # a server that gives named commits alone
            self._run("fetch", "-q", "origin", directory=place)
        self._run("checkout", "-q", "-f", "--detach", commit, directory=place)
        if os.path.exists(f"{place}/.gitmodules"):
            self._run("submodule", "-q", "update", "--init", "--recursive", "--depth=1", directory=place)
        if not keep:
            _without_git(place)

    def _run(self, *words: str, directory: str = "") -> str:
        import subprocess

        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": os.environ.get("HOME", "/"),  # known_hosts
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
            **({"SSH_AUTH_SOCK": self._agent} if self._agent else {}),
            **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
        }
        try:
            done = subprocess.run(
                ["git", *_FORBIDDEN, *words],
                cwd=directory or "/",
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                umask=0o022,
                check=False,
            )
        except FileNotFoundError:
            raise Unsupported("there is no git on this host", hint="apt install git") from None
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith(("fatal:", "error:"))]
            why = (said or done.stderr.splitlines() or ["it says nothing"])[0]
            raise Unavailable(f"git {words[0]} {self.wanted.url}: {why.removeprefix('fatal: ')}")
        return done.stdout


def _without_git(place: str) -> None:
    """Remove .git, and those of submodules."""
    from veloci.layer.tree import remove_tree

    for directory, names, files in os.walk(place):
        if ".git" in names or ".git" in files:
            file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                remove_tree(file, b".git")
            finally:
                os.close(file)
            names[:] = [name for name in names if name != ".git"]
