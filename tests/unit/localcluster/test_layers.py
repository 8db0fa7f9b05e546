"""A layer is built only when its inputs are new."""

import os
from pathlib import Path

import pytest

from localcluster.layers import images_folder, layer
from localcluster.oci import Entry, Layer, write_layer


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSYNC_CACHE", str(tmp_path))


class Maker:
    def __init__(self) -> None:
        self.made = 0

    def __call__(self, path: Path) -> Layer:
        self.made += 1
        return write_layer([Entry("number", str(self.made).encode())], path)


def test_a_layer_is_made_once_for_the_same_inputs() -> None:
    make = Maker()
    first = layer("source", "inputs", make)
    assert layer("source", "inputs", make) == first
    assert make.made == 1
    assert first.path.stat().st_size == first.size


def test_other_inputs_make_another_layer() -> None:
    make = Maker()
    assert layer("source", "inputs", make).digest != layer("source", "changed", make).digest


def test_a_layer_whose_making_failed_is_made_again() -> None:
    def fail(path: Path) -> Layer:
        path.write_bytes(b"half a layer")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        layer("source", "inputs", fail)
    assert layer("source", "inputs", Maker()).size > 0
    assert list(images_folder().rglob(".making-*")) == []


def test_the_layers_of_a_kind_that_were_not_used_for_longest_are_removed() -> None:
    make = Maker()
    for number in range(4):
        os.utime(layer("source", f"inputs {number}", make).path.parent, (number, number))
    layer("other", "inputs", make)
    layer("source", "inputs 0", make)  # used again, so it is no longer the oldest
    layer("source", "inputs 4", make)
    made = make.made
    for number in (0, 2, 3, 4):
        layer("source", f"inputs {number}", make)
    layer("other", "inputs", make)
    assert make.made == made
    layer("source", "inputs 1", make)
    assert make.made == made + 1
