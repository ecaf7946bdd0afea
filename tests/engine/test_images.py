"""Images by name and ID: made of a tar, named, described, removed, and brought from a registry."""

import bz2
import gzip
import io
import lzma
import os
import tarfile

import pytest
import zstandard
from peers import Built, Scripted, Serving, digest, tar

from veloci.engine.engine import Engine
from veloci.engine.record import Record, Records
from veloci.errors import Conflict, InvalidInput, NotFound
from veloci.spec.reference import Reference

FILES = tar({"etc/text": b"hello\n" * 1000})


@pytest.fixture
def engine(tmp_path):
    return Engine(str(tmp_path / "data"), str(tmp_path / "run"))


@pytest.fixture
def rootfs(tmp_path):
    path = tmp_path / "rootfs.tar"
    path.write_bytes(FILES)
    return str(path)


def imported(engine, rootfs, name, **options):
    return engine.images.import_(rootfs, Reference.parse(name) if name else None, **options)


def blobs(engine):
    return set(engine.store.digests())


def contained(engine, image, *, id="c" * 64):
    """A container of the image, that does not run."""
    records = Records(engine.root, engine.run_root)
    os.makedirs(records.data(id))
    records.save(Record(id=id, name="web", image="app:v0", image_id=image.id, chain_id=image.chain_id, created=1))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_a_tar_packed_in_any_way_is_the_same_image(engine, tmp_path, monkeypatch, pack):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    (tmp_path / "rootfs").write_bytes(pack(FILES))
    image = imported(engine, str(tmp_path / "rootfs"), "app:v0", message="it is made")
    assert image.diff_ids == (digest(FILES),)
    assert image.config.created == "2023-11-14T22:13:20Z"
    (tmp_path / "plain").write_bytes(FILES)
    assert imported(engine, str(tmp_path / "plain"), "app:v1", message="it is made").id == image.id


def test_changes_configure_an_imported_image(engine, rootfs):
    changes = ["ENV A=1 B=$A", 'CMD ["sh","-c","true"]', "WORKDIR /srv", "EXPOSE 80", "LABEL x=y", "USER 7"]
    config = imported(engine, rootfs, "app:v0", changes=changes).config.config
    assert config.env == ("A=1", "B=")
    assert config.cmd == ("sh", "-c", "true")
    assert (config.working_dir, config.user, config.labels) == ("/srv", "7", {"x": "y"})
    assert config.exposed_ports == {"80/tcp": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN true", "--change: RUN is not a valid change command"),
        ("ENV", "--change:1: ENV requires at least one argument"),
        ("NONSENSE x", "--change: NONSENSE is not a valid change command"),
    ],
)
def test_a_bad_change_is_refused_before_anything_is_read(engine, rootfs, change, message):
    with pytest.raises(InvalidInput) as caught:
        imported(engine, rootfs, "app:v0", changes=[change])
    assert str(caught.value).startswith(message)
    assert blobs(engine) == set()


@pytest.mark.parametrize(
    "data",
    [b"", b"no tar at all, but text " * 100, bytes(1024), FILES[:700], gzip.compress(FILES)[:-20]],
    ids=["empty", "text", "zeros", "cut", "cut gzip"],
)
def test_what_is_no_tar_is_refused_and_leaves_nothing(engine, tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(InvalidInput) as caught:
        imported(engine, str(path), "app:v0")
    assert str(caught.value).startswith(f"{path}: not a root file system's tar: ")
    assert engine.images.all() == []
    assert blobs(engine) == set()


def test_a_large_file_passes_in_pieces(engine, tmp_path):
    path = tmp_path / "large.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 24 << 20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    image = imported(engine, str(path), "large:1")
    assert image.diff_ids == (digest(path.read_bytes()),)


def test_an_image_is_found_by_name_id_beginning_and_digest(engine, rootfs):
    image = imported(engine, rootfs, "127.0.0.1:5000/team/app:v0")
    manifest = image.descriptor.digest
    for name in (
        "127.0.0.1:5000/team/app:v0",
        image.id,
        image.id[7:],
        image.id[7:19],
        image.id[:20],
        f"127.0.0.1:5000/team/app@{manifest}",
    ):
        assert engine.images.resolve(name).id == image.id, name


def test_what_is_not_there_is_said_with_the_way_to_it(engine, rootfs):
    imported(engine, rootfs, "app:v0")
    with pytest.raises(NotFound, match=r"^no such image: nope:latest$") as caught:
        engine.images.resolve("nope")
    assert caught.value.hint == "veloci pull nope:latest"
    with pytest.raises(NotFound, match=r"^no such image: other@sha256"):
        engine.images.resolve(f"other@{engine.images.all()[0].descriptor.digest}")
    with pytest.raises(InvalidInput, match="Upper"):
        engine.images.resolve("Upper")


def test_the_beginning_of_several_ids_is_ambiguous(engine, tmp_path):
    seen = {}
    for number in range(600):  # four hexadecimal digits: two of 600 agree almost surely
        path = tmp_path / "one.tar"
        path.write_bytes(tar({"n": str(number).encode()}))
        image = imported(engine, str(path), "")
        start = image.id[7:11]
        if start in seen:
            break
        seen[start] = image
    else:
        pytest.skip("no two of 600 IDs agree in their first four digits")
    with pytest.raises(Conflict, match=f"multiple images have IDs that start with {start}"):
        engine.images.resolve(start)


def test_a_tag_that_moves_leaves_its_image_without_a_name(engine, rootfs):
    first = imported(engine, rootfs, "app:v0", message="one")
    second = imported(engine, rootfs, "app:v0", message="two")
    listed = {each.id: [name.familiar() for name in each.names] for each in engine.images.all()}
    assert listed == {second.id: ["app:v0"], first.id: []}
    engine.images.tag(first.id, "old")
    listed = {each.id: [name.familiar() for name in each.names] for each in engine.images.all()}
    assert listed == {second.id: ["app:v0"], first.id: ["old:latest"]}


def test_a_tag_has_no_digest(engine, rootfs):
    image = imported(engine, rootfs, "app:v0")
    with pytest.raises(InvalidInput, match="refusing to create a tag with a digest reference"):
        engine.images.tag("app:v0", f"other@{image.descriptor.digest}")


def test_the_last_name_takes_the_image_with_it(engine, rootfs):
    image = imported(engine, rootfs, "app:v0")
    engine.images.tag("app:v0", "app:v1")
    assert engine.images.remove("app:v0") == [("Untagged", "app:v0")]
    assert engine.images.resolve("app:v1").id == image.id
    assert engine.images.remove("app:v1") == [("Untagged", "app:v1"), ("Deleted", image.id)]
    assert engine.images.all() == []


def test_removing_frees_what_no_other_image_needs(tmp_path, rootfs):
    def engine():
        return Engine(str(tmp_path / "data"), str(tmp_path / "run"))

    first = engine()
    with first.store.leased():
        one = imported(first, rootfs, "app:v0", message="one")
        two = imported(first, rootfs, "app:v1", message="two")
    assert one.layers == two.layers
    assert len(blobs(first)) == 5  # two manifests, two configs, one layer
    engine().images.remove("app:v0")
    assert blobs(first) == {two.descriptor.digest, two.id, two.layers[0].digest}
    engine().images.remove("app:v1")
    assert blobs(first) == set()


def test_an_image_of_several_repositories_is_not_removed_by_its_id(engine, rootfs):
    image = imported(engine, rootfs, "app:v0")
    engine.images.tag("app:v0", "other:v0")
    short = image.id[7:19]
    with pytest.raises(Conflict) as caught:
        engine.images.remove(short)
    assert (
        str(caught.value) == f"unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    )
    assert engine.images.remove(short, force=True) == [
        ("Untagged", "app:v0"),
        ("Untagged", "other:v0"),
        ("Deleted", image.id),
    ]


def test_a_container_keeps_its_image(engine, rootfs):
    image = imported(engine, rootfs, "app:v0")
    contained(engine, image)
    with pytest.raises(Conflict) as caught:
        engine.images.remove("app:v0")
    assert str(caught.value) == (
        f"unable to remove repository reference 'app:v0' (must be forced) - container {'c' * 12} "
        f"is using its referenced image {image.id[7:19]}"
    )
    assert caught.value.hint == f"veloci rm {'c' * 12}"
    assert engine.images.remove("app:v0", force=True)[0] == ("Untagged", "app:v0")


def test_history_tells_sizes_of_layers_and_ids_of_the_top(engine, tmp_path):
    built = Built(tmp_path / "layout")
    [(name, image)] = [(n, engine.images.resolve(n)) for n in loaded(engine, tmp_path / "layout")]
    steps = engine.images.history(name)
    assert [(step["Id"], step["CreatedBy"], step["Size"]) for step in steps] == [
        (image.id, "layer 1", len(built.tars[1])),
        ("<missing>", "layer 0", len(built.tars[0])),
    ]


def loaded(engine, path):
    from veloci.transport.archives import load

    return [name for name, _ in load(engine.store, engine.names, str(path))]


def test_inspect_is_shaped_as_dockers(engine, tmp_path):
    built = Built(tmp_path / "layout", name="app:v0")
    loaded(engine, tmp_path / "layout")
    found = engine.images.inspect("app:v0")
    assert found["Id"] == digest(built.config)
    assert found["RepoTags"] == ["app:v0"]
    assert found["RepoDigests"] == []
    assert found["RootFS"] == {"Type": "layers", "Layers": [digest(each) for each in built.tars]}
    assert found["Config"]["Env"] == ["PATH=/bin"]
    assert found["Config"]["Labels"] is None
    assert found["Size"] == sum(map(len, built.tars))


def test_get_pulls_what_is_missing_and_push_sends_it(engine, rootfs, tmp_path):
    with Serving(tmp_path / "registry") as (address, _process):
        name = f"{address}/app:v0"
        image = imported(engine, rootfs, name)
        assert engine.images.push(name).digest == image.descriptor.digest
        other = Engine(str(tmp_path / "other"), str(tmp_path / "run2"))
        with pytest.raises(NotFound, match=r"^no such image: "):
            other.images.get(name, pull="never")
        assert other.images.get(name).id == image.id
        assert other.images.get(name, pull="always").id == image.id
    assert other.images.get(name, pull="missing").id == image.id  # no registry any more
    with pytest.raises(InvalidInput, match=r"^--pull: invalid pull option: 'often'$"):
        other.images.get(name, pull="often")


@pytest.mark.needs("root", "overlay")
def test_layers_are_unpacked_once(engine, rootfs):
    image = imported(engine, rootfs, "app:v0")
    assert engine.images.unpacked(image) == image.chain_id
    assert engine.snapshots.has(image.chain_id)
    assert engine.images.unpacked(image) == image.chain_id
    assert engine.images.inspect("app:v0")["GraphDriver"]["Data"]["UpperDir"].startswith(engine.root)


def test_what_is_saved_is_loaded_with_the_names_it_was_called_by(engine, rootfs, tmp_path):
    image = imported(engine, rootfs, "app:v0")
    engine.images.tag("app:v0", "other:v0")
    engine.images.save(["app:v0", image.id[7:19], "other:v0"], str(tmp_path / "both.tar"))
    other = Engine(str(tmp_path / "other"), str(tmp_path / "run2"))
    assert [(str(name.familiar()), each.id) for name, each in other.images.load(str(tmp_path / "both.tar"))] == [
        ("app:v0", image.id),
        ("other:v0", image.id),
    ]


def test_an_image_loaded_without_a_name_stays(engine, rootfs, tmp_path):
    image = imported(engine, rootfs, "app:v0")
    engine.images.save([image.id], str(tmp_path / "nameless.tar"))
    other = Engine(str(tmp_path / "other"), str(tmp_path / "run2"))
    assert [(name, each.id) for name, each in other.images.load(str(tmp_path / "nameless.tar"))] == [(None, image.id)]
    assert other.images.resolve(image.id).id == image.id
    assert [each.names for each in other.images.all()] == [[]]


def test_a_platform_is_a_text_or_a_value(engine, rootfs):
    imported(engine, rootfs, "app:v0")
    with pytest.raises(NotFound, match="not for linux/s390x"):
        engine.images.get("app:v0", "never", "linux/s390x")


def test_what_a_registry_warns_of_reaches_the_engines_caller(engine, tmp_path):
    built = Built(tmp_path / "layout")

    def warns(request):
        if "/manifests/" in request.path:
            kind = "application/vnd.oci.image.manifest.v1+json"
            return request.reply(200, built.manifest, Content_Type=kind, Warning='299 - "moves on Monday"')
        return request.reply(404 if "/blobs/" in request.path else 200, b"{}")

    with Scripted(warns) as server:
        with pytest.raises(NotFound):
            engine.images.pull(f"{server.address}/app:v0")
        assert engine.warnings == [f"{server.address} says: moves on Monday"]
