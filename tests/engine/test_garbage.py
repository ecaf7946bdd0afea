"""What a collection removes, and what it never does."""

import os
import subprocess
import sys
from fcntl import LOCK_SH

import pytest
from peers import Built, digest, tar

from veloci.content.lease import Locked
from veloci.engine.engine import Engine
from veloci.engine.garbage import collect, needed
from veloci.spec import media
from veloci.spec.document import dumps
from veloci.transport import layout
from veloci.transport.copy import copy
from veloci.transport.store import StorePlace


def stored(engine, built):
    """The image of a layout in the engine's store, without a name."""
    with engine.store.leased():
        return copy(layout.folder(str(built.path)), StorePlace(engine.store, engine.names, None))


def images(tmp_path, *names):
    engine = Engine(str(tmp_path / "data"), str(tmp_path / "run"))
    layouts = [Built(tmp_path / name, [tar({name: os.urandom(2000)})]) for name in names]
    return engine, layouts, [stored(engine, built) for built in layouts]


def test_an_index_keeps_what_all_its_images_hold(tmp_path):
    engine, layouts, (one, two, _three) = images(tmp_path, "one", "two", "three")
    index = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [one.plain(), two.plain()]}
    with engine.store.leased():
        both = engine.store.put(dumps(index), media.INDEX)
    engine.names.set("docker.io/library/both:1", both)
    third = sum(map(len, (layouts[2].manifest, layouts[2].config, *layouts[2].layers)))
    assert collect(engine) == third
    kept = {digest(raw) for built in layouts[:2] for raw in (built.manifest, built.config, *built.layers)}
    assert set(engine.store.digests()) == kept | {both.digest}
    assert needed(engine).blobs == kept | {both.digest}
    assert collect(engine) == 0


def test_what_a_running_command_has_written_stays_and_what_a_dead_one_has_goes(tmp_path):
    engine = Engine(str(tmp_path / "data"), str(tmp_path / "run"))
    code = (
        "import sys, time\nfrom veloci.content.store import Store\n"
        f"print(Store({engine.store.root!r}).put(sys.argv[1].encode(), 'text/plain').digest, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code]
    live, dead = (
        subprocess.Popen([*command, word], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for word in ("live", "dead")
    )
    try:
        written = [process.stdout.readline().strip() for process in (live, dead)]
        dead.kill()
        dead.wait()
        collect(engine)
        assert list(engine.store.digests()) == written[:1]
    finally:
        for process in (live, dead):
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
    collect(engine)
    assert list(engine.store.digests()) == []


def test_an_image_with_a_missing_part_keeps_the_others(tmp_path):
    engine, (built,), (one,) = images(tmp_path, "one")
    engine.names.set("docker.io/library/one:1", one)
    engine.store.remove(digest(built.config))
    assert collect(engine) == 0
    assert set(engine.store.digests()) == {digest(built.manifest), digest(built.layers[0])}


def test_a_collection_waits_for_who_notes_what_it_needs(tmp_path):
    engine, _layouts, _images = images(tmp_path, "one")
    code = (
        "from veloci.engine.engine import Engine; from veloci.engine.garbage import collect; print(flush=True)\n"
        f"collect(Engine({engine.root!r}, {engine.run_root!r}))"
    )
    with Locked(engine.store.root, LOCK_SH):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.7)
        assert list(engine.store.digests()) != []
    process.communicate(timeout=20)
    assert list(engine.store.digests()) == []


@pytest.mark.needs("root", "overlay")
def test_what_is_named_while_blobs_are_collected_keeps_its_layers(tmp_path, monkeypatch):
    engine, (built,), (one,) = images(tmp_path, "one")
    tar_ = built.tars[0]
    chain_id = engine.snapshots.apply("", digest(tar_), [tar_])
    stale = engine.names.is_stale

    def late():
        """Between the collection of blobs and that of layers."""
        stored(engine, built)
        engine.names.set("docker.io/library/one:1", one)
        return stale()

    monkeypatch.setattr(engine.names, "is_stale", late)
    collect(engine)
    assert engine.snapshots.has(chain_id)
