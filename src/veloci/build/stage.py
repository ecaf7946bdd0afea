"""A stage as it grows: its configuration and its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veloci.build.config import Configuration
from veloci.spec import digest as digests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from veloci.build.cache import Layer
    from veloci.spec.digest import Digest
    from veloci.spec.image import Descriptor


class Stage:
    """layers: (descriptor, diff ID), base first. created: when each layer of this build was made."""

    def __init__(self, configuration: Configuration, layers: Sequence[tuple[Descriptor, Digest]] = ()) -> None:
        self.configuration = configuration
        self.layers = list(layers)
        self.created: list[str] = []

    @property
    def chain_id(self) -> Digest:
        """What is below the next layer; "" is nothing."""
        chain = ""
        for _, diff_id in self.layers:
            chain = digests.chain(chain, diff_id)
        return chain

    def add(self, layer: Layer) -> None:
        """Put a layer on top."""
        self.layers.append((layer.descriptor, layer.diff_id))
        self.created.append(layer.created)

    def fork(self) -> Stage:
        """The beginning of a stage that stands on this one: its arguments too."""
        mine = self.configuration
        base: dict[str, Any] = {**mine.head, "config": dict(mine.config), "history": list(mine.history)}
        fresh = Configuration(base, given=mine.given, known=mine.known, escape=mine.escape)
        fresh.first = mine.first
        fresh.arguments = dict(mine.arguments)
        stage = Stage(fresh, self.layers)
        stage.created = list(self.created)
        return stage

    def document(self, fallback: str) -> dict[str, Any]:
        """The image's configuration. fallback: the time of a build without any layer."""
        diff_ids = [diff_id for _, diff_id in self.layers]
        return self.configuration.document(self.created, diff_ids, fallback=fallback)
