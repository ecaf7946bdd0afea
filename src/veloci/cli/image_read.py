"""`veloci image validate | diff | files | stat | blob`: images read in any place, and nothing unpacked."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from veloci.layer.merge import File, Tree

TYPES = {"file": "-", "link": "-", "symlink": "l", "char": "c", "block": "b", "dir": "d", "fifo": "p"}


def validate(image: str, /, *, fast: bool = False, quiet: bool = False, registry: RegistryOptions) -> int:
    """Check all that IMAGE names: documents, digests, diff IDs, layers, platforms. Exit status 1 if anything is wrong.

    --fast                read no layers
    -q, --quiet           print nothing if all is well
    """
    from veloci.cli.main import escaped
    from veloci.cli.surgery import Way
    from veloci.transport.validate import problems

    found = 0
    with Way(registry).source(image) as source:
        for problem in problems(source, layers=not fast):
            found += 1
            print(escaped(problem))
    if not found and not quiet:
        print(f"{image}: valid")
    return 1 if found else 0


def diff(
    image: str, other: str, /, *, json: bool = False, platform: str | None = None, registry: RegistryOptions
) -> int:
    """Show the files that OTHER adds (A), changes (C) and removes (D), compared with IMAGE.

    --json                print one object with the lists added, changed, removed
    --platform OS/ARCH    of an index, the image for this platform
    """
    from veloci.cli.main import escaped
    from veloci.cli.output import show
    from veloci.cli.surgery import Way
    from veloci.spec.document import dumps
    from veloci.transport.trees import compared, tree

    trees: list[Tree] = []
    for each in (image, other):
        with Way(registry).opened(each, platform) as opened:
            trees.append(tree(opened))
    added, changed, removed = ([shown(path) for path in paths] for paths in compared(*trees))
    if json:
        show(dumps({"added": added, "changed": changed, "removed": removed}, indent=2).decode() + "\n")
        return 0
    for path, letter in sorted([(p, "A") for p in added] + [(p, "C") for p in changed] + [(p, "D") for p in removed]):
        print(f"{letter} {escaped(path)}")
    return 0


def files(
    image: str,
    path: str = "/",
    /,
    *,
    layer: int = 0,
    json: bool = False,
    platform: str | None = None,
    registry: RegistryOptions,
) -> int:
    """List the files of an image below PATH, each with the number of the layer that it is from.

    --layer N             what the N-th layer has, from 1, instead of all layers together
    --json                print an array of objects
    --platform OS/ARCH    of an index, the image for this platform
    """
    from veloci.cli.main import escaped
    from veloci.cli.output import show
    from veloci.cli.surgery import Way
    from veloci.errors import InvalidInput, NotFound
    from veloci.layer.directories import components
    from veloci.spec.document import dumps
    from veloci.transport.trees import tree

    with Way(registry).opened(image, platform) as opened:
        whole = tree(opened, hashing=json)
    if layer < 0 or layer > len(whole.layers):
        raise InvalidInput(f"it has {len(whole.layers)} layers", where="--layer")
    listed = whole.layers[layer - 1].files if layer else whole.files
    top = components(path.encode(errors="surrogateescape"))
    chosen = sorted(each for each in listed if not top or each == top or each.startswith(top + b"/"))
    if not chosen and top:
        raise NotFound(f"there is no {path}", where=image)
    if json:
        show(dumps([_object(each, listed[each]) for each in chosen], indent=2).decode() + "\n")
        return 0
    for each in chosen:
        print(escaped(_line(each, listed[each])))
    return 0


def shown(path: bytes) -> str:
    """A path as text, from the root."""
    return "/" + path.decode(errors="backslashreplace")


def _line(path: bytes, file: File) -> str:
    from stat import filemode

    arrow = {"symlink": " -> ", "link": " link to "}.get(file.kind, "")
    target = file.link.decode(errors="backslashreplace") if arrow else ""
    mode = TYPES[file.kind] + filemode(file.mode)[1:]
    when = moment(file.mtime // 1_000_000_000)
    return f"{file.layer + 1:3} {mode} {file.uid}:{file.gid} {file.size:>10} {when} {shown(path)}{arrow}{target}"


def moment(seconds: int) -> str:
    """A time in UTC; of one that no calendar has, the seconds since 1970."""
    from time import gmtime, strftime

    try:
        return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))
    except (OverflowError, OSError, ValueError):
        return f"@{seconds}"


def _object(path: bytes, file: File) -> dict[str, object]:
    found: dict[str, object] = {
        "path": shown(path),
        "type": file.kind,
        "mode": f"{file.mode:04o}",
        "uid": file.uid,
        "gid": file.gid,
        "size": file.size,
        "mtime": file.mtime / 1_000_000_000,
        "layer": file.layer + 1,
    }
    if file.link:
        found["link"] = file.link.decode(errors="backslashreplace")
    if file.content:
        found["sha256"] = file.content
    return found


def stat(image: str, /, *, json: bool = False, platform: str | None = None, registry: RegistryOptions) -> int:
    """Show the steps that made an image, and the layer of each, as `umoci stat` does; nothing but documents is read.

    --json                print an object, for programs
    --platform OS/ARCH    of an index, the image for this platform
    """
    from veloci.cli.output import show, size, table, visible
    from veloci.cli.surgery import Way
    from veloci.spec.document import dumps

    with Way(registry).opened(image, platform) as opened:
        draft = opened.draft
        pairs = list(zip(draft.layers, draft.diff_ids, strict=True))
    steps: list[dict[str, object]] = []
    for step in [*draft.history, *({} for _ in pairs)]:
        if not (step or pairs):
            break
        made = None if step.get("empty_layer") or not pairs else pairs.pop(0)
        found = {"layer": made[0].plain() if made else None, "diff_id": made[1] if made else ""}
        steps.append({**found, **step})
    if json:
        show(dumps({"history": steps}).decode() + "\n")
        return 0
    rows = [_step(step, size, visible) for step in steps]
    show(table(("LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"), rows))
    return 0


def _step(step: dict[str, object], size: Callable[[int], str], visible: Callable[[str], str]) -> tuple[str, ...]:
    layer = step["layer"]
    digest, count = (str(layer["digest"]), size(layer["size"])) if isinstance(layer, dict) else ("<none>", "<none>")
    return (
        digest,
        *(visible(str(step.get(key) or ""))[:60] for key in ("created", "created_by")),
        count,
        visible(str(step.get("comment") or "")),
    )


def blob(image: str, digest: str, /, *, registry: RegistryOptions) -> int:
    """Write a blob of the place that IMAGE names to standard output, checked: of a layer, the bytes as they are kept.

    DIGEST is a layer's or the config's of the image, for an index of any of its images.
    """
    import sys

    from veloci.cli.surgery import Way
    from veloci.layer.stream import Verified
    from veloci.transport.blobs import listed

    sys.stdout.flush()
    with Way(registry).source(image) as source:
        found = listed(source, digest)
        with source.blob(found) as chunks, Verified(chunks, found.digest, found.size) as checked:
            for chunk in checked:
                sys.stdout.buffer.write(chunk)
    return 0
