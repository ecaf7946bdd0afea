"""`veloci volume`: docker's commands for volumes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from veloci.engine.volumes import Volume, Volumes

_LIST = "table {{.Driver}}\t{{.Name}}"
_FILTERS = ("dangling", "driver", "label", "name")


def create(
    name: str = "",
    /,
    *,
    driver: str = "local",
    label: tuple[str, ...] = (),
    opt: tuple[str, ...] = (),
) -> None:
    """Create a volume and print its name; without NAME it gets one of 64 hexadecimal digits.

    -d, --driver NAME    local is the only one
    --label KEY=VALUE    a label; may be repeated
    -o, --opt KEY=VALUE  type=none, o=bind and device=/DIR make it another name of a directory; may be repeated
    """
    from veloci.bundle.values import annotation
    from veloci.engine.engine import Engine
    from veloci.engine.lasting import keep_volume
    from veloci.errors import Unsupported

    if driver != "local":
        raise Unsupported(f"no volume driver {driver!r}", where="--driver", hint="--driver local")
    labels = dict(annotation(text, "--label") for text in label)
    options = dict(annotation(text, "--opt") for text in opt)
    engine = Engine()
    volume = engine.volumes.create(name, labels=labels, options=options).name
    keep_volume(engine, volume)
    print(volume)


def ls(*, filter: tuple[str, ...] = (), format: str | None = None, quiet: bool = False) -> None:
    """List volumes.

    -f, --filter KEY=VALUE  only those with this name, label or driver, or dangling=true; may be repeated
    --format TEMPLATE       a Go template, `table TEMPLATE` or json
    -q, --quiet             names only
    """
    from veloci.cli.output import formatted, show

    volumes = _volumes()
    chosen = _filtered(volumes, filter, _FILTERS)
    nothing = dict.fromkeys(("Availability", "Group", "Links", "Size", "Status"), "N/A")  # of docker's clusters
    items = [
        {
            **nothing,
            "Driver": "local",
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
            "Label": _label(volume),
            "Mountpoint": volumes.place(volume),
            "Name": volume.name,
            "Scope": "local",
        }
        for volume in chosen
    ]
    if format == "json":
        items = [{key: value for key, value in item.items() if key != "Label"} for item in items]
    if quiet and format is None:
        format = "{{.Name}}"
    show(formatted(items, format, _LIST, headings={"Name": "VOLUME NAME"}))


def inspect(volume: str, /, *volumes: str, format: str | None = None) -> int:
    """Show everything about volumes, as JSON.

    -f, --format TEMPLATE  a Go template, or json
    """
    from veloci.cli.objects import inspected

    return inspected((volume, *volumes), _volumes().described, format)


def rm(volume: str, /, *volumes: str, force: bool = False) -> int:
    """Remove volumes that no container has.

    -f, --force  say nothing of a volume that does not exist
    """
    from veloci.cli.objects import removed
    from veloci.errors import NotFound

    store = _volumes()

    def remove(name: str) -> None:
        try:
            store.remove(name)
        except NotFound:
            if not force:  # else it is named as if it had been there, as docker does
                raise

    return removed((volume, *volumes), remove, force=False)


def prune(*, all: bool = False, filter: tuple[str, ...] = (), force: bool = False) -> int:
    """Remove the anonymous volumes that no container has.

    -a, --all               those with a name, too
    --filter label=KEY[=VALUE]  only those with this label, label!=KEY without it; may be repeated
    -f, --force             do not ask
    """
    from veloci.cli.output import size
    from veloci.cli.prune import agreed

    store = _volumes()
    wanted = {volume.name for volume in _filtered(store, filter, ("label", "label!"))}
    which = "all" if all else "anonymous"
    warning = f"WARNING! This will remove {which} local volumes not used by at least one container."
    if not agreed(warning, force=force):
        return 0
    gone, freed = store.prune(lambda volume: volume.name in wanted and (all or volume.anonymous))
    if gone:
        print("Deleted Volumes:\n" + "\n".join(gone) + "\n")
    print(f"Total reclaimed space: {size(freed)}")
    return 0


def _label(volume: Volume) -> Callable[[str], str]:
    """The method of a template: `{{.Label "tier"}}`."""
    return lambda name: volume.labels.get(name, "")


def _volumes() -> Volumes:
    from veloci.engine.engine import Engine

    return Engine().volumes


def _filtered(volumes: Volumes, filters: Iterable[str], known: tuple[str, ...]) -> list[Volume]:
    """Those that match: one of the values given for a key (labels: all), and every key."""
    from veloci.errors import InvalidInput

    wanted: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if key not in known or not equals:
            raise InvalidInput(
                f"invalid filter {text!r}",
                where="--filter",
                hint="KEY=VALUE; a key is " + ", ".join(known),
                exit_status=None if equals else 125,  # docker's, when a flag's grammar is wrong
            )
        wanted.setdefault(key, []).append(value)
    return [
        volume
        for volume in volumes.all()
        if all(
            (all if key.startswith("label") else any)(_matches(volumes, volume, key, value) for value in values)
            for key, values in wanted.items()
        )
    ]


def _matches(volumes: Volumes, volume: Volume, key: str, value: str) -> bool:
    if key == "dangling":
        return (value.lower() in ("true", "1")) == (not volumes.users(volume.name))
    if key == "driver":
        return value == "local"
    if key == "name":
        return value in volume.name
    name, equals, text = value.partition("=")
    has = name in volume.labels and (not equals or volume.labels[name] == text)
    return has != (key == "label!")
