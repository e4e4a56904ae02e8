"""One cluster of Ray for all tests of a process that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ray_cluster import RayNodes


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[RayNodes]:
    """A head without CPUs and two nodes of one each; a test that kills a node adds it first."""
    pytest.importorskip("ray")
    with RayNodes(client=True) as found:
        found.add()
        found.add()
        yield found
