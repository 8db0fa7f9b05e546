import json
import os
from pathlib import Path

import pytest

from modelsync.puller.digests import Algorithm
from modelsync.puller.errors import NoSpaceError, PublishedChangedError, TargetUnusableError
from modelsync.puller.file_names import MARKER
from modelsync.puller.lease import Lease
from modelsync.puller.manifest import Manifest, digest_of
from modelsync.puller.staging import Staging, link_or_copy, storage_error
from modelsync.puller.target import find_published, read_marker, usable_target
from modelsync.puller.work_folder import Partial
from unit.puller.filestore import entry_of

FILES = {"config.json": b"{}", "weights/part.bin": b"x" * 1000, "weights/same.bin": b"x" * 1000, "empty": b""}


def manifest() -> Manifest:
    entries = tuple(entry_of(path, content) for path, content in sorted(FILES.items()))
    return Manifest(digest_of(entries, Algorithm.MD5), Algorithm.MD5, entries)


def staged(target: Path) -> Staging:
    staging = Staging(target)
    assert staging.try_lock()
    for path, content in FILES.items():
        staged_file = staging.object_path(entry_of(path, content))
        if not staged_file.exists():
            staged_file.write_bytes(content)
            staged_file.chmod(0o444)
    return staging


def publish(target: Path) -> None:
    staging = staged(target)
    assert staging.publish(manifest(), artifact_id="QQ==") == 2002
    staging.unlock()


def test_a_published_folder_holds_the_files_and_proves_its_digest(tmp_path: Path) -> None:
    target = tmp_path / "model"
    publish(target)
    found = {
        os.path.relpath(os.path.join(at, name), target): (Path(at) / name).read_bytes()
        for at, _, names in os.walk(target)
        for name in names
        if name != MARKER
    }
    assert found == FILES
    published = find_published(target, digest=manifest().digest)
    assert published is not None
    assert published.size == 2002
    published.check_content()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_everybody_may_read_what_is_published_and_nobody_is_meant_to_write(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        publish(tmp_path / "model")
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "model").rglob("*")}
    assert modes == {
        MARKER: "0o444",
        "config.json": "0o444",
        "empty": "0o444",
        "weights": "0o755",
        "part.bin": "0o444",
        "same.bin": "0o444",
    }
    assert oct((tmp_path / "model").stat().st_mode & 0o777) == "0o755"


def test_a_kill_before_the_last_step_leaves_nothing_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    staging = staged(target)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            staging.publish(manifest(), artifact_id="QQ==")
    staging.unlock()
    assert not target.exists()
    publish(target)
    assert find_published(target, digest=None) is not None


def test_an_empty_folder_may_be_published_over(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    assert find_published(target, digest=None) is None
    publish(target)
    assert find_published(target, digest=None) is not None


def test_what_somebody_puts_there_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "model"
    staging = staged(target)
    target.mkdir()
    (target / "theirs").write_text("precious")
    with pytest.raises(TargetUnusableError, match="meanwhile"):
        staging.publish(manifest(), artifact_id="QQ==")
    assert [path.name for path in target.iterdir()] == ["theirs"]


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(TargetUnusableError, match="not empty and was not published"):
        find_published(tmp_path / "model", digest=None)


def test_a_folder_with_another_version_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    with pytest.raises(TargetUnusableError, match="contains another version") as caught:
        find_published(tmp_path / "model", digest="0" * 32)
    assert caught.value.exit_code == 2


def change_marker(target: Path, **fields: object) -> None:
    marker = target / MARKER
    document = json.loads(marker.read_text()) | fields
    marker.unlink()
    marker.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": "0" * 32},
        {"files": []},
        {"files": [["config.json", "mZFLkyvTelC5g8XnyQrpOw==", "MD5"]]},
        {"files": None},
        {"format": 2},
        {"algorithm": "SHA1"},
        {"files": [["../../etc/passwd", "mZFLkyvTelC5g8XnyQrpOw==", "MD5", 2]]},
    ],
)
def test_a_marker_that_does_not_prove_itself_is_none(tmp_path: Path, fields: dict[str, object]) -> None:
    publish(tmp_path / "model")
    change_marker(tmp_path / "model", **fields)
    assert read_marker(tmp_path / "model") is None
    with pytest.raises(TargetUnusableError):
        find_published(tmp_path / "model", digest=None)


def test_a_file_that_lost_bytes_or_is_gone_is_seen_without_reading(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    published = read_marker(tmp_path / "model")
    assert published is not None
    os.truncate(tmp_path / "model/weights/part.bin", 999)
    with pytest.raises(PublishedChangedError, match=r"has 999 bytes, expected 1000") as caught:
        published.check_sizes()
    assert caught.value.file == "weights/part.bin"
    (tmp_path / "model/weights/part.bin").unlink()
    with pytest.raises(PublishedChangedError, match=r"weights/part\.bin is missing"):
        published.check_sizes()
    (tmp_path / "model/weights/part.bin").symlink_to("/etc/passwd")
    with pytest.raises(PublishedChangedError, match="no longer a regular file"):
        published.check_sizes()


def test_a_changed_byte_and_a_stranger_are_seen_by_reading(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    published = read_marker(tmp_path / "model")
    assert published is not None
    (tmp_path / "model/modeling.py").write_text("import os")
    with pytest.raises(PublishedChangedError, match=r"modeling\.py does not belong"):
        published.check_content()
    (tmp_path / "model/config.json").chmod(0o644)
    (tmp_path / "model/config.json").write_bytes(b"[]")
    published.check_sizes()
    with pytest.raises(PublishedChangedError, match=r"config\.json has different content"):
        published.check_content()


def test_a_file_with_another_time_is_read_again(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    published = read_marker(tmp_path / "model")
    assert published is not None
    os.utime(tmp_path / "model/config.json", (1, 1))
    published.check()
    (tmp_path / "model/config.json").chmod(0o644)
    (tmp_path / "model/config.json").write_bytes(b"[]")
    with pytest.raises(PublishedChangedError, match=r"config\.json has different content"):
        published.check()


def test_a_folder_that_an_older_modelsync_published_counts(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    marker = tmp_path / "model" / MARKER
    document = json.loads(marker.read_text())
    del document["times"]
    marker.unlink()
    marker.write_text(json.dumps(document))
    published = find_published(tmp_path / "model", digest=manifest().digest)
    assert published is not None
    published.check()


def test_a_folder_that_goes_away_on_a_server_at_this_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(*args: object) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Lease, "try_take", stale)
        assert not Staging(tmp_path / "model").try_lock()
    assert Staging(tmp_path / "model").try_lock()


def test_a_mount_point_is_refused_with_the_folder_to_pass_instead() -> None:
    with pytest.raises(TargetUnusableError, match=r"/proc is a mount point.* /proc/model"):
        usable_target(Path("/proc"))


def test_places_that_cannot_be_replaced_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for folder, why in {
        tmp_path / "file": "is a file",
        tmp_path / "link": "symbolic link",
        tmp_path: "working directory",
        Path("."): "working directory",
        Path(".."): "working directory",
        Path("/"): "working directory",
        tmp_path / "file" / "x": "cannot be created",
    }.items():
        with pytest.raises(TargetUnusableError, match=why):
            usable_target(folder)


def test_a_target_is_named_by_its_real_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    assert usable_target(Path("link/a/model")) == tmp_path / "real/a/model"
    assert (tmp_path / "real/a").is_dir()


def test_one_puller_at_a_time_owns_a_target(tmp_path: Path) -> None:
    first, second = Staging(tmp_path / "model"), Staging(tmp_path / "model")
    assert first.try_lock()
    assert not second.try_lock()
    first.unlock()
    assert second.try_lock()
    second.unlock()
    assert list(tmp_path.iterdir()) == []


def test_what_was_fetched_outlives_the_lock(tmp_path: Path) -> None:
    staged(tmp_path / "model").unlock()
    again = Staging(tmp_path / "model")
    assert again.try_lock()
    assert again.object_path(entry_of("config.json", b"{}")).read_bytes() == b"{}"
    again.unlock()


def test_files_of_published_neighbours_are_offered(tmp_path: Path) -> None:
    publish(tmp_path / "v1")
    (tmp_path / "not-a-model").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "v1")
    offered = list(Staging(tmp_path / "v2").neighbours())
    assert {neighbour.path for neighbour in offered} == {tmp_path / "v1" / path for path in FILES}


def test_only_ones_own_read_only_file_is_linked(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    source.chmod(0o644)
    link_or_copy(source, tmp_path / "copy")
    source.write_bytes(b"xyz")
    assert (tmp_path / "copy").read_bytes() == b"abc"
    source.chmod(0o444)
    link_or_copy(source, tmp_path / "link")
    assert (tmp_path / "link").samefile(source)


def test_where_links_are_not_to_be_had_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    publish(tmp_path / "model")
    published = read_marker(tmp_path / "model")
    assert published is not None
    published.check_content()


def test_ranges_of_a_partial_file_survive_and_nonsense_is_dropped(tmp_path: Path) -> None:
    partial = Partial(tmp_path / "object", tmp_path)
    partial.open()
    partial.write(b"x" * 100, 0)
    partial.save_ranges([(0, 40), (60, 100)])
    partial.close()
    again = Partial(tmp_path / "object", tmp_path)
    again.open()
    assert again.load_ranges() == [(0, 40), (60, 100)]
    for nonsense in ("", "[", "[[0, 101]]", "[[-1, 5]]", "[[5, 1]]", "[1]", "{}", '[["a", "b"]]'):
        (tmp_path / "object.ranges.part").write_text(nonsense)
        assert again.load_ranges() == [], nonsense
    again.close()


@pytest.mark.parametrize("number", [27, 28, 122])
def test_a_full_volume_a_quota_and_a_size_limit_are_no_space(number: int) -> None:
    error = storage_error(OSError(number, os.strerror(number)), "x cannot be written", "x")
    assert isinstance(error, NoSpaceError)
    assert (error.file, error.exit_code) == ("x", 3)
    assert os.strerror(number) in str(error)
