from collections.abc import Iterator

import pytest

from unit.puller.filestore import FileStore, serving


@pytest.fixture
def store() -> Iterator[FileStore]:
    with serving() as made:
        yield made
