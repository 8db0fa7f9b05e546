"""Archives are OCI image layouts: every blob is stored under its digest, and the same input gives the same bytes."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from localcluster.oci import Entry, Image, Layer, layer_from_tar, streamed_layer, write_archive, write_layer


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return write_layer([Entry("usr/bin/tool", b"#!/bin/sh\n", mode=0o755), Entry("etc/name", b"x")], tmp_path / "layer")


def archive_of(*images: Image, present: tuple[str, ...] = ()) -> dict[str, bytes]:
    output = io.BytesIO()
    write_archive(images, output, present=present)
    output.seek(0)
    with tarfile.open(fileobj=output) as archive:
        return {member.name: (archive.extractfile(member) or io.BytesIO()).read() for member in archive}


def blob(archive: dict[str, bytes], digest: str) -> bytes:
    return archive[f"blobs/sha256/{digest.removeprefix('sha256:')}"]


def test_a_layer_holds_its_entries_and_the_folders_above_them(layer: Layer) -> None:
    with tarfile.open(layer.path) as archive:
        members = {member.name: member for member in archive}
    assert list(members) == ["etc", "etc/name", "usr", "usr/bin", "usr/bin/tool"]
    assert members["usr/bin"].isdir()
    assert members["usr/bin/tool"].mode == 0o755
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}


def test_a_folder_that_is_an_entry_keeps_its_owner_and_mode(tmp_path: Path) -> None:
    entries = [Entry("home/user", mode=0o750, owner=2000), Entry("home/user/file", b"x")]
    with tarfile.open(write_layer(entries, tmp_path / "layer").path) as archive:
        members = [(member.name, member.mode, member.uid) for member in archive]
    assert members == [("home", 0o755, 0), ("home/user", 0o750, 2000), ("home/user/file", 0o644, 0)]


def test_a_link_keeps_its_target(tmp_path: Path) -> None:
    with tarfile.open(write_layer([Entry("bin", link="usr/bin")], tmp_path / "layer").path) as archive:
        member = archive.getmember("bin")
    assert member.issym()
    assert member.linkname == "usr/bin"


def test_a_layers_digest_and_size_are_those_of_its_file(layer: Layer) -> None:
    content = layer.path.read_bytes()
    assert layer.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert layer.size == len(content)
    assert layer_from_tar(layer.path) == layer


def test_the_order_and_source_of_entries_do_not_change_a_layer(tmp_path: Path, layer: Layer) -> None:
    (tmp_path / "tool").write_bytes(b"#!/bin/sh\n")
    entries = [Entry("etc/name", b"x"), Entry("usr/bin/tool", tmp_path / "tool", mode=0o755)]
    assert write_layer(entries, tmp_path / "again").digest == layer.digest


def test_every_descriptor_of_an_archive_leads_to_bytes_of_its_digest_and_size(layer: Layer) -> None:
    image = Image("docker.io/library/tool:1", (layer,), entrypoint=("tool",), user="65532", environment={"A": "b"})
    archive = archive_of(image)
    assert json.loads(archive["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}

    def follow(descriptor: dict[str, Any]) -> bytes:
        content = blob(archive, descriptor["digest"])
        assert len(content) == descriptor["size"]
        assert descriptor["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        return content

    (described,) = json.loads(archive["index.json"])["manifests"]
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/library/tool:1"
    assert described["digest"] == image.digest
    manifest = json.loads(follow(described))
    config = json.loads(follow(manifest["config"]))
    assert config["config"] | {"Labels": None} == {
        "Entrypoint": ["tool"],
        "Cmd": [],
        "User": "65532",
        "Env": ["A=b"],
        "WorkingDir": "/",
        "Labels": None,
    }
    assert [follow(descriptor) for descriptor in manifest["layers"]] == [layer.path.read_bytes()]
    assert config["rootfs"]["diff_ids"] == [layer.digest]


def test_images_that_share_a_layer_carry_it_once(layer: Layer) -> None:
    archive = archive_of(Image("tool:1", (layer,)), Image("tool:2", (layer,), labels={"version": "2"}))
    assert len(json.loads(archive["index.json"])["manifests"]) == 2
    assert (
        len([name for name in archive if name.startswith("blobs/")]) == 5
    )  # a layer, two manifests, two configurations


def test_a_layer_that_the_receiver_has_is_left_out_and_still_named(layer: Layer) -> None:
    image = Image("tool:1", (layer,))
    archive = archive_of(image, present=(layer.digest,))
    assert f"blobs/sha256/{layer.digest.removeprefix('sha256:')}" not in archive
    assert json.loads(blob(archive, image.digest))["layers"][0]["digest"] == layer.digest


def test_the_same_image_gives_the_same_archive(layer: Layer) -> None:
    image = Image("tool:1", (layer,), environment={"B": "2", "A": "1"})
    first, second = io.BytesIO(), io.BytesIO()
    write_archive([image], first)
    write_archive([Image("tool:1", (layer,), environment={"A": "1", "B": "2"})], second)
    assert first.getvalue() == second.getvalue()


def test_a_streamed_layer_is_rewritten_each_time_and_equals_one_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"0123456789" * 300_000)  # more than fits into a pipe

    def entries() -> list[Entry]:
        return [Entry("usr/big", tmp_path / "big"), Entry("etc/name", b"x")]

    streamed = streamed_layer(tmp_path, entries)
    filed = write_layer(entries(), tmp_path / "layer")

    assert (streamed.digest, streamed.size) == (filed.digest, filed.size)
    for _ in range(2):
        archive = archive_of(Image("docker.io/library/tool:v1", (streamed,)))
        assert blob(archive, streamed.digest) == filed.path.read_bytes()
    assert f"blobs/sha256/{streamed.digest[7:]}" not in archive_of(
        Image("docker.io/library/tool:v1", (streamed,)), present=(streamed.digest,)
    )


def test_a_file_of_a_streamed_layer_that_has_gone_is_an_error_and_no_archive(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    streamed = streamed_layer(tmp_path, lambda: [Entry("file", tmp_path / "file")])
    (tmp_path / "file").unlink()

    with pytest.raises(OSError, match=r"unexpected end of data|No such file"):
        archive_of(Image("docker.io/library/tool:v1", (streamed,)))
