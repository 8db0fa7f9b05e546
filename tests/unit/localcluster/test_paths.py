"""The paths of a cluster, and that two clusters never share one."""

from pathlib import Path

import pytest

from localcluster.errors import ClusterError
from localcluster.paths import Layout, cache_folder, clusters_folder


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MODELSYNC_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "modelsync"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "modelsync"
    monkeypatch.setenv("MODELSYNC_CACHE", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen"


def test_the_state_is_in_the_cache_unless_the_environment_overrides_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODELSYNC_CACHE", str(tmp_path))
    monkeypatch.delenv("MODELSYNC_STATE", raising=False)
    assert clusters_folder() == tmp_path / "clusters"
    monkeypatch.setenv("MODELSYNC_STATE", str(tmp_path / "state"))
    assert Layout.named("one").state == tmp_path / "state" / "one"


def test_clusters_of_one_name_and_two_state_folders_have_two_identities(tmp_path: Path) -> None:
    first, second = Layout("default", tmp_path / "a"), Layout("default", tmp_path / "b")
    assert first.identity != second.identity
    assert first.network_namespace != second.network_namespace
    assert first.runtime != second.runtime


def test_a_socket_fits_into_the_107_bytes_that_a_socket_path_may_have(tmp_path: Path) -> None:
    longest = Layout("n" * 20, tmp_path / ("deep/" * 30))
    assert len(f"{longest.containerd_socket}.ttrpc") <= 107


@pytest.mark.parametrize("name", ["", "Upper", "-a", "a-", "a/b", "..", "n" * 21])
def test_a_name_that_is_not_a_short_label_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="use 1 to 20 lower-case letters"):
        Layout.named(name)
