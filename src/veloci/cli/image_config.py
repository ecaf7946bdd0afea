"""`veloci image config` and `veloci image annotate`."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it
from veloci.cli.surgery import WriteOptions  # noqa: TC001

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.transport.edited import Edited


def config(
    image: str,
    /,
    *,
    user: str | None = None,
    env: tuple[str, ...] = (),
    entrypoint: str | None = None,
    cmd: str | None = None,
    label: tuple[str, ...] = (),
    volume: tuple[str, ...] = (),
    port: tuple[str, ...] = (),
    workdir: str | None = None,
    stop_signal: str | None = None,
    change: tuple[str, ...] = (),
    created: str | None = None,
    author: str | None = None,
    architecture: str | None = None,
    os: str | None = None,
    variant: str | None = None,
    os_version: str | None = None,
    clear: tuple[str, ...] = (),
    no_history: bool = False,
    history_created_by: str | None = None,
    history_comment: str = "",
    history_author: str = "",
    written: WriteOptions,
    registry: RegistryOptions,
) -> int:
    """Change an image's configuration; its layers stay where they are.

    IMAGE is in any place (see veloci copy --help). What is not named stays, fields that we do not know as well.

    -u, --user USER       the user of its processes
    -e, --env KEY=VALUE   set a variable, KEY- removes one; may be repeated
    --entrypoint WORDS    a JSON array, or one word
    --cmd WORDS           a JSON array, or one word
    -l, --label KEY=VALUE  set a label, KEY- removes one; may be repeated
    --volume PATH         a volume, PATH- removes one; may be repeated
    --port PORT[/tcp]     a port that it exposes, PORT- removes one; may be repeated
    -w, --workdir PATH    the working directory
    --stop-signal SIGNAL  what ends it
    -c, --change LINE     a Dockerfile instruction; may be repeated
    --created TIME        when it was made, in RFC 3339
    --author NAME         who made it
    --architecture ARCH   what it runs on: amd64
    --os OS               the operating system
    --variant VARIANT     the processor's variant: v8
    --os-version VERSION  the operating system's version
    --clear FIELD         remove a field: env, label, cmd, history, …; may be repeated
    --no-history          leave no step in the history
    --history-created-by TEXT  the step's command
    --history-comment TEXT     the step's comment
    --history-author NAME      the step's author
    """
    from veloci.cli.surgery import changed
    from veloci.image import settings
    from veloci.image.draft import step

    def work(edited: Edited) -> None:
        document = edited.draft.config
        settings.cleared(document, clear)
        _instructions(document, change)
        settings.set_variables(document, env)
        settings.set_members(document, "Volumes", volume)
        settings.set_members(document, "ExposedPorts", [_port(each) for each in port])
        if label:
            inner = settings.inner(document)
            inner["Labels"] = settings.set_pairs(inner.get("Labels"), label, "--label")
        given = {
            "User": user,
            "WorkingDir": workdir,
            "StopSignal": stop_signal,
            "Entrypoint": None if entrypoint is None else settings.words(entrypoint, "--entrypoint"),
            "Cmd": None if cmd is None else settings.words(cmd, "--cmd"),
        }
        for key, value in given.items():
            if value is not None:
                settings.inner(document)[key] = value
        top = {
            "created": _time(created),
            "author": author,
            "architecture": settings.named(architecture, "--architecture"),
            "os": settings.named(os, "--os"),
            "variant": variant,
        }
        for key, value in {**top, "os.version": os_version}.items():
            if value is not None:
                document[key] = value
        if not no_history:
            words = history_created_by or "veloci image config"
            document["history"] = [
                *edited.draft.history,
                step(words, history_comment, history_author, empty=True),
            ]

    return changed(image, work, written, registry)


def annotate(
    image: str,
    /,
    *annotations: str,
    written: WriteOptions,
    registry: RegistryOptions,
) -> int:
    """Set annotations of an image's manifest, each KEY=VALUE; KEY- removes one."""
    from veloci.cli.surgery import changed
    from veloci.errors import InvalidInput
    from veloci.image.settings import set_pairs

    if not annotations:
        raise InvalidInput("takes IMAGE KEY=VALUE...", where="image annotate")

    def work(edited: Edited) -> None:
        if edited.draft.format == "docker":
            hint = f"veloci image convert --format oci {image}"
            raise InvalidInput("Docker's manifests have no annotations", where=image, hint=hint)
        found = set_pairs(edited.draft.manifest.get("annotations"), annotations, "KEY=VALUE")
        edited.draft.manifest["annotations"] = found
        if not found:
            del edited.draft.manifest["annotations"]

    return changed(image, work, written, registry)


def _instructions(document: dict[str, Any], lines: tuple[str, ...]) -> None:
    """Apply Dockerfile instructions to the configuration there is."""
    if not lines:
        return
    from veloci.engine.image_import import configuration

    document["config"] = configuration(lines, document.get("config") or {})


def _port(text: str) -> str:
    """A port as config.md writes it. Raises InvalidInput."""
    from veloci.errors import InvalidInput

    gone = text.endswith("-")
    number, _, protocol = text.rstrip("-").partition("/")
    if not number.replace("-", "").isdecimal() or protocol not in ("", "tcp", "udp", "sctp"):
        raise InvalidInput(f"{text!r} is no port", where="--port", hint="80, 53/udp")
    return f"{number}/{protocol or 'tcp'}{'-' if gone else ''}"


def _time(text: str | None) -> str | None:
    from veloci.errors import InvalidInput
    from veloci.image.settings import is_time

    if text is not None and not is_time(text):
        raise InvalidInput(f"{text!r} is no time", where="--created", hint="2026-01-31T12:00:00Z")
    return text and text.upper()  # Go reads no small letters
