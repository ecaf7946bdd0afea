"""What an image says of itself, as a runtime's annotations: labels, and what the specification derives from the rest.

https://github.com/opencontainers/image-spec/blob/v1.1.1/conversion.md#annotation-fields
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from veloci.spec.image import ImageConfig

# Runtimes obey these: properties of systemd's unit, a file of CRIU's options, crun's own switches.
OBEYED = ("org.systemd.property.", "org.criu.config", "run.oci.")


def annotated(image: ImageConfig) -> tuple[dict[str, str], list[str]]:
    """The annotations, a label before what is derived; and the labels left out, which a runtime would obey."""
    derived = {
        "os": image.os,
        "architecture": image.architecture,
        "variant": image.variant,
        "os.version": image.os_version,
        "os.features": ",".join(image.os_features),
        "author": image.author,
        "created": image.created,
        "stopSignal": image.config.stop_signal,
        "exposedPorts": ",".join(sorted(image.config.exposed_ports)),
    }
    found = {f"org.opencontainers.image.{key}": value for key, value in derived.items() if value}
    labels = image.config.labels
    kept = {key: value for key, value in labels.items() if key and not key.startswith(OBEYED)}
    return found | kept, sorted(labels.keys() - kept.keys())
