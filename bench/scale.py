"""What the number of images costs: the same commands with 10 and with 10,000 images in the store, and their ratio.

    bench/scale.py [--images 10000] [--rounds 9]

The images are documents that share one layer, of busybox. Root runs a container of one of them as well.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from veloci.content.names import Names
from veloci.content.store import Store
from veloci.engine.engine import Engine
from veloci.image.image import Image
from veloci.spec import media
from veloci.spec.document import dumps
from veloci.spec.image import REF_NAME

VELOCI = str(Path(sys.executable).with_name("veloci"))


def fill(root, count):
    """Make the store's images by writing their documents; the first is there."""
    store, names = Store(f"{root}/content"), Names(f"{root}/content")
    first = names.get("docker.io/library/app:0")
    image = Image(store, first)
    config, entries = json.loads(image.config_raw), []
    blobs = Path(store.root, "blobs/sha256")
    for number in range(count):
        name = f"docker.io/library/app{number % 100}:{number}"
        raw = dumps({**config, "author": str(number)})
        part = image.manifest.config.replace(digest=_digest(raw), size=len(raw))
        manifest = image.manifest.replace(config=part)
        whole = dumps(manifest.plain())
        made = first.replace(digest=_digest(whole), size=len(whole))
        for digest, data in ((part.digest, raw), (made.digest, whole)):
            (blobs / digest[7:]).write_bytes(data)
        path = Path(store.root, "refs", *name.rpartition(":")[0].split("/"), f":{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dumps(made.plain()))
        entries.append(made.replace(annotations={REF_NAME: name}).plain())
    entries.append(first.replace(annotations={REF_NAME: "docker.io/library/app:0"}).plain())
    Path(store.root, "index.json").write_bytes(dumps({"schemaVersion": 2, "manifests": entries}))


def _digest(data):
    from veloci.spec.digest import of

    return of(data)


def store(place, count):
    """A root with the image app:0 of busybox, and `count` more."""
    tree = place / "tree/bin"
    tree.mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), tree / "busybox")
    os.symlink("busybox", tree / "true")
    subprocess.run(["tar", "-C", place / "tree", "-cf", place / "tree.tar", "."], check=True)
    veloci(place, "import", str(place / "tree.tar"), "app:0")
    assert Engine(f"{place}/data").images.find("app:0").media_type in media.MANIFESTS
    fill(f"{place}/data", count)


def veloci(place, *words):
    environment = {**os.environ, "VELOCI_ROOT": f"{place}/data", "VELOCI_RUN": f"{place}/run"}
    began = time.perf_counter()
    subprocess.run([VELOCI, *words], env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def works(round_):
    """The commands, by what they do."""
    found = {
        "resolve a name": ["inspect", "app3:3"],
        "images -q NAME": ["images", "-q", "app3:3"],
        "tag": ["tag", "app3:3", f"new:{round_}"],
    }
    if os.geteuid() == 0:
        found["run --rm"] = ["run", "--rm", "--network", "none", "app3:3", "true"]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        few, many = Path(directory, "few"), Path(directory, "many")
        for place, count in ((few, 10), (many, asked.images)):
            place.mkdir()
            store(place, count)
        times = {}
        for round_ in range(asked.rounds + 1):  # the first warms up
            for what, words in works(round_).items():
                pair = [veloci(place, *words) for place in (few, many)]
                if round_:
                    times.setdefault(what, []).append(pair)
    print(f"{'medians':<16} {'10 images':>10} {f'{asked.images:,}':>10} {'ratio':>6}")
    for what, pairs in times.items():
        one, other = (statistics.median(each) for each in zip(*pairs, strict=True))
        print(f"{what:<16} {one * 1000:>7.0f} ms {other * 1000:>7.0f} ms {other / one:>6.2f}")


if __name__ == "__main__":
    main()
