"""`veloci explore --html`: a page with a map of an image's files, whole in one file.

A squarified treemap (Bruls, Huizing, van Wijk 2000), drawn in the browser from data in the page. Nothing is
fetched, and no name in the image can become markup or script.
"""

from __future__ import annotations

import os
from html import escape

from veloci.spec.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.layer.merge import Layer, Tree

MOST = 40_000  # entries in the page; smaller files of a directory are then one
NAMED = 200  # files of a layer, of each kind, that are named
PAGE = "explore.html"  # beside this file


def page(found: dict[str, Any], whole: Tree, start: bytes = b"") -> str:
    """The page. found: what `explore.summary` gives. start: the path where the map begins."""
    from veloci.cli.output import size

    # Within a script element only `<` could end it; JSON may have it escaped.
    data = dumps(nodes(whole)).decode().replace("<", "\\u003c")
    heading = (
        f"{size(found['size'])} in {len(found['layers'])} layers, {size(found['compressed'])} compressed; "
        f"{found['files']} files, {size(found['wasted'])} wasted, {found['efficiency']:.1%} efficient"
    )
    parts = {
        "image": _html(found["image"]),
        "heading": heading,
        "layers": _layers(found, whole),
        "waste": _waste(found),
        "start": escape(dumps([_name(part) for part in start.split(b"/") if part]).decode()),
        "data": data,
    }
    with open(os.path.join(os.path.dirname(__file__), PAGE), encoding="utf-8") as file:
        pieces = file.read().split("{")
    whole_page = pieces[0]
    for piece in pieces[1:]:
        name, brace, rest = piece.partition("}")
        whole_page += parts[name] + rest if brace and name in parts else "{" + piece
    return whole_page


def nodes(whole: Tree) -> list[Any]:
    """The tree for the map: [name, size, layer, children]; layer 0 and children None are no file's."""
    from veloci.cli.explore import totals

    below = totals(whole)
    least = _least(whole)

    def node(path: bytes, name: str) -> list[Any]:
        children, small, count = [], 0, 0
        for child in whole.below(path):
            total = below.get(child, 0)
            if total <= least:
                small += total
                count += 1
            else:
                children.append(node(child, _name(child.rpartition(b"/")[2])))
        if small:
            children.append([f"{count} small ones", small, 0, None])
        children.sort(key=lambda each: -each[1])
        file = whole.files.get(path)
        is_file = file is not None and file.kind != "dir"
        return [name, below.get(path, 0), file.layer + 1 if file and is_file else 0, None if is_file else children]

    return node(b"", "")


def _name(part: bytes) -> str:
    return part.decode(errors="backslashreplace")


def _least(whole: Tree) -> int:
    """The size up to which files go together, so that the page stays small; 0 leaves out empty ones alone."""
    sizes = sorted((file.size for file in whole.files.values()), reverse=True)
    return sizes[MOST] if len(sizes) > MOST else 0


def _layers(found: dict[str, Any], whole: Tree) -> str:
    largest = max((layer["size"] for layer in found["layers"]), default=0) or 1
    seen = [0] * len(whole.layers)  # bytes of each layer that no layer above hides
    for file in whole.files.values():
        seen[file.layer] += file.size
    return "".join(
        _layer(layer, content, seen[number], largest)
        for number, (layer, content) in enumerate(zip(found["layers"], whole.layers, strict=True))
    )


def _layer(layer: dict[str, Any], content: Layer, seen: int, largest: int) -> str:
    from veloci.cli.output import size

    number, hidden = layer["number"], layer["size"] - seen
    parts = "".join(
        f'<i data-layer="{number}" style="width:{100 * part / largest:.1f}%"></i>' for part in (seen, hidden)
    )
    return (
        f'<tr><td><button class="layer" data-row="{number}" aria-pressed="false">'
        f'<span class="swatch" data-layer="{number}"></span>{number}</button></td>'
        f'<td class="n">{size(layer["size"])}</td>'
        f'<td><div class="bar" title="{size(seen)} to be seen, {size(hidden)} hidden by layers above">{parts}'
        f'</div></td><td class="n">+{layer["added"]} ~{layer["changed"]} −{layer["removed"]}</td>'
        f'<td class="n">{size(layer["wasted"]) if layer["wasted"] else ""}</td>'
        f'<td class="c">{_html(layer["command"])}{_changes(content)}</td></tr>'
    )


def _changes(content: Layer) -> str:
    """The files that a layer changes and removes, and the largest that it adds, to be unfolded."""
    from veloci.cli.image_read import shown
    from veloci.cli.output import size

    kinds = (("changed", content.changed), ("removed", content.removed), ("added", content.added))
    lists = ""
    for kind, paths in kinds:
        sizes = {path: content.files[path].size if path in content.files else 0 for path in paths}
        ordered = sorted(paths, key=lambda path: (-sizes[path], path))
        lines = [
            f"<li>{_html(shown(path))}{' ' + size(sizes[path]) if sizes[path] else ''}</li>" for path in ordered[:NAMED]
        ]
        if len(paths) > NAMED:
            lines.append(f"<li>… and {len(paths) - NAMED} more</li>")
        if lines:
            lists += f"<details><summary>{len(paths)} {kind}</summary><ul>{''.join(lines)}</ul></details>"
    return f"<div>{lists}</div>" if lists else ""


def _waste(found: dict[str, Any]) -> str:
    from veloci.cli.output import size

    if not found["waste"]:
        return ""
    rows = "".join(
        f'<tr><td class="n">{size(each["size"])}</td><td class="n">{each["times"]}</td>'
        f'<td class="c">{_html(each["path"])}</td></tr>'
        for each in found["waste"][:50]
    )
    head = '<tr><th class="n">wasted</th><th class="n">layers</th><th>file that lower layers hold in vain</th></tr>'
    return f"<table>{head}{rows}</table>"


def _html(text: str) -> str:
    return escape("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text))
