"""An image's documents while they are changed: fields that we do not know stay, and bytes that nobody changed, too."""

from __future__ import annotations

from copy import deepcopy

from veloci.errors import InvalidInput
from veloci.spec import digest as digests
from veloci.spec import media
from veloci.spec.document import dumps, loads
from veloci.spec.image import Descriptor, ImageConfig, Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from veloci.spec.digest import Digest


class Draft:
    """A manifest and a config as JSON objects, and changes that keep the two in step.

    Raises InvalidInput for what is no image, or an image that contradicts itself.
    """

    def __init__(self, manifest: bytes, config: bytes, *, name: str) -> None:
        parsed = Manifest.decode(manifest, name=f"manifest of {name}")
        if parsed.config.media_type not in media.CONFIGS:
            raise InvalidInput(f"it is no image but an artifact ({parsed.config.media_type})", where=name)
        count = len(ImageConfig.decode(config, name=f"config of {name}").rootfs.diff_ids)
        if len(parsed.layers) != count:
            raise InvalidInput(f"{len(parsed.layers)} layers, but {count} diff IDs", where=name)
        self._raw = manifest, config
        self.manifest: dict[str, Any] = loads(manifest)
        self.config: dict[str, Any] = loads(config)
        self._before = deepcopy((self.manifest, self.config))
        self.media_type = parsed.media_type

    @property
    def format(self) -> str:
        """Whose the manifest is: "oci" or "docker"."""
        return "docker" if self.media_type == media.DOCKER_MANIFEST else "oci"

    @property
    def layers(self) -> list[Descriptor]:
        """The layers, base first."""
        return [Descriptor.convert(layer) for layer in self.manifest["layers"]]

    @property
    def diff_ids(self) -> list[Digest]:
        """What the layers unpack to."""
        return list(self.config["rootfs"]["diff_ids"] or ())

    @property
    def history(self) -> list[dict[str, Any]]:
        """The steps that made the image, base first."""
        return list(self.config.get("history") or ())

    def put_layers(self, layers: list[tuple[Descriptor, Digest]], history: list[dict[str, Any]]) -> None:
        """Let these be all the layers, each with its diff ID, and the whole history."""
        self.manifest["layers"] = [
            layer.replace(media_type=media.converted(layer.media_type, self.format)).plain() for layer, _ in layers
        ]
        self.config["rootfs"] = {**self.config["rootfs"], "diff_ids": [diff_id for _, diff_id in layers]}
        self.config["history"] = history

    def append(self, layer: Descriptor, diff_id: Digest, step: dict[str, Any] | None) -> None:
        """Put a layer on top, and, if there is one, the history's step that made it."""
        pairs = [*zip(self.layers, self.diff_ids, strict=True), (layer, diff_id)]
        self.put_layers(pairs, self.history + ([step] if step else []))

    def documents(self) -> tuple[Descriptor, bytes, Descriptor, bytes]:
        """The manifest's descriptor and bytes, then the config's; what did not change has the bytes it had."""
        config = self._raw[1] if self.config == self._before[1] else dumps(self.config)
        entry = {**self.manifest["config"], "digest": digests.of(config), "size": len(config)}
        entry.pop("data", None)
        if config != self._raw[1]:
            self.manifest["config"] = entry
        manifest = self._raw[0] if self.manifest == self._before[0] else dumps(self.manifest)
        return (
            Descriptor(media_type=self.media_type, digest=digests.of(manifest), size=len(manifest)),
            manifest,
            Descriptor.convert(self.manifest["config"]),
            config,
        )


def layer_steps(history: list[dict[str, Any]], count: int) -> int:
    """How many of the history's steps, from its start, made the first `count` layers and what came along with them."""
    layers = 0
    for number, step in enumerate(history):
        layers += not step.get("empty_layer")
        if layers > count:
            return number
    return len(history)


def moment() -> str:
    """The time, or SOURCE_DATE_EPOCH, as RFC 3339 writes it. Raises InvalidInput."""
    from datetime import UTC, datetime

    at = epoch()
    now = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return now.isoformat().replace("+00:00", "Z")


def epoch() -> int | None:
    """SOURCE_DATE_EPOCH in seconds since 1970, None if it is not set. Raises InvalidInput."""
    from os import environ

    text = environ.get("SOURCE_DATE_EPOCH")
    if text and not text.isdecimal():
        raise InvalidInput(f"{text!r} is no time", where="SOURCE_DATE_EPOCH", hint="seconds since 1970")
    return int(text) if text else None


def step(created_by: str, comment: str = "", author: str = "", *, empty: bool = False) -> dict[str, Any]:
    """A step of an image's history, now."""
    found: dict[str, Any] = {"created": moment(), "created_by": created_by}
    if comment:
        found["comment"] = comment
    if author:
        found["author"] = author
    if empty:
        found["empty_layer"] = True
    return found
