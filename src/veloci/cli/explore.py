"""`veloci explore`: where an image's bytes are."""

from __future__ import annotations

from veloci.cli.sessions import RegistryOptions  # noqa: TC001 -- the options are read from it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.layer.merge import Tree
    from veloci.transport.edited import Edited

BAR, NARROW_BAR = 24, 8  # characters


def explore(
    image: str,
    path: str = "/",
    /,
    *,
    html: str | None = None,
    json: bool = False,
    top: int = 10,
    platform: str | None = None,
    registry: RegistryOptions,
) -> int:
    """Show where an image's bytes are: its layers, what made each, what it adds, changes, removes and wastes.

    IMAGE is in any place, and is not unpacked. Below PATH the largest directories and files are shown, and of the
    whole image the files that lower layers hold in vain; a page's map begins at PATH.

    --html FILE           write a page with a map of the files, that needs nothing but a browser
    --json                print all as JSON
    --top N               so many directories and files (default: 10)
    --platform OS/ARCH    of an index, the image for this platform
    """
    from veloci.cli.output import show
    from veloci.cli.surgery import Way
    from veloci.errors import InvalidInput, NotFound
    from veloci.layer.directories import components
    from veloci.spec.document import dumps
    from veloci.transport.trees import tree

    start = components(path.encode(errors="surrogateescape"))
    if json and start:
        raise InvalidInput("tells all of an image", where="--json", hint=f"leave {path} out")
    with Way(registry).opened(image, platform) as opened:
        whole = tree(opened, hashing=True)
        found = summary(image, opened, whole)
    if not whole.has(start):
        raise NotFound(f"there is no {path}", where=image)
    if html is not None:
        from veloci.cli.copy import write
        from veloci.cli.explore_page import page

        write(html, page(found, whole, start).encode())
    if json:
        show(dumps(found, indent=2).decode() + "\n")
    elif html is None:
        show(text(found, whole, start, top, columns()))
    return 0


def columns() -> int:
    """How wide the terminal is that standard output goes to; 0 if it goes to none."""
    import os

    try:
        return os.get_terminal_size(1).columns
    except OSError:
        return 0


def summary(name: str, image: Edited, whole: Tree) -> dict[str, Any]:
    """What is known of the image and its layers; sizes in bytes."""
    from veloci.cli.image_read import shown

    steps = [step for step in image.draft.history if not step.get("empty_layer")]
    layers = []
    for number, (layer, descriptor) in enumerate(zip(whole.layers, image.draft.layers, strict=True)):
        made = steps[number] if number < len(steps) else {}
        layers.append(
            {
                "number": number + 1,
                "digest": descriptor.digest,
                "command": " ".join(str(made.get("created_by") or made.get("comment") or "").split()),
                "compressed": descriptor.size,
                "size": layer.size,
                "added": len(layer.added),
                "changed": len(layer.changed),
                "removed": len(layer.removed),
                "wasted": layer.wasted,
            }
        )
    size = sum(layer.size for layer in whole.layers)
    seen = sum(file.size for file in whole.files.values())
    return {
        "image": name,
        "size": size,
        "compressed": sum(layer.size for layer in image.draft.layers),
        "files": len(whole.files),
        "visible": seen,
        "wasted": size - seen,
        "efficiency": round(seen / size, 4) if size else 1.0,
        "layers": layers,
        "waste": [{"path": shown(path), "size": lost, "times": times} for path, lost, times in wasted(whole)],
    }


def wasted(whole: Tree) -> list[tuple[bytes, int, int]]:
    """Paths that several layers hold, or that are gone: the bytes lost, and how many layers had it; the most first."""
    held: dict[bytes, list[int]] = {}
    for layer in whole.layers:
        for path, file in layer.files.items():
            if file.kind == "file":
                held.setdefault(path, []).append(file.size)
    found = []
    for path, sizes in held.items():
        now = whole.files.get(path)
        lost = sum(sizes) - (now.size if now and now.kind == "file" else 0)
        if lost > 0:
            found.append((path, lost, len(sizes)))
    return sorted(found, key=lambda each: (-each[1], each[0]))


def totals(whole: Tree) -> dict[bytes, int]:
    """Bytes below every directory and of every file, by path."""
    found: dict[bytes, int] = {}
    for path, file in whole.files.items():
        at = path
        while True:
            found[at] = found.get(at, 0) + file.size
            if not at:
                break
            at = at.rpartition(b"/")[0]
    return found


def text(found: dict[str, Any], whole: Tree, start: bytes, top: int, columns: int) -> str:
    """The summary for a terminal so many columns wide, 0 for none. start: below which path the largest are shown."""
    from veloci.cli.fit import fitted, wrapped
    from veloci.cli.image_read import shown
    from veloci.cli.output import size, visible

    largest = max((layer["size"] for layer in found["layers"]), default=0)
    rows = [
        (
            str(layer["number"]),
            size(layer["size"]),
            bar(layer["size"], largest, NARROW_BAR if 0 < columns < 110 else BAR),
            f"+{layer['added']} ~{layer['changed']} -{layer['removed']}",
            size(layer["wasted"]) if layer["wasted"] else "",
            visible(layer["command"])[: 200 if columns else 60],
        )
        for layer in found["layers"]
    ]
    heading = (
        f"{visible(found['image'])}: {size(found['size'])} in {len(rows)} layers "
        f"({size(found['compressed'])} compressed), {found['files']} files, {size(found['wasted'])} wasted, "
        f"{found['efficiency']:.1%} efficient"
    )
    layers = fitted(("LAYER", "SIZE", "", "FILES", "HIDES", "COMMAND"), rows, columns, needless=(2, 4, 3, 1))
    lines = [wrapped(heading, columns), "\n", layers]
    below = totals(whole)
    for title, directories in (("DIRECTORY", True), ("FILE", False)):
        chosen = [
            (each, count)
            for each, count in below.items()
            if (each == start or each.startswith(start + b"/" if start else b""))
            and _is_directory(whole, each) is directories
        ]
        chosen.sort(key=lambda each: (-each[1], each[0]))
        shares = [
            (size(count), f"{count / max(found['visible'], 1):.1%}", visible(shown(each)))
            for each, count in chosen[:top]
        ]
        lines += ["\n", fitted(("SIZE", "SHARE", title), shares, columns, needless=(1, 0), end=True)]
    if found["waste"]:
        waste = [(size(each["size"]), str(each["times"]), visible(each["path"])) for each in found["waste"][:top]]
        lines += ["\n", fitted(("WASTED", "LAYERS", "FILE"), waste, columns, needless=(1, 0), end=True)]
    return "".join(lines)


def bar(part: int, whole: int, length: int) -> str:
    """A bar as long as its share of `length`."""
    return "█" * round(length * part / whole) if whole else ""


def _is_directory(whole: Tree, path: bytes) -> bool:
    file = whole.files.get(path)
    return file is None or file.kind == "dir"
