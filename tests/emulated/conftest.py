"""The machines that the tests to be run have asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulated.machines import Machines, Task, Workshop


@pytest.fixture(scope="session")
def machines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machines]:
    parameters = (getattr(item, "callspec", None) for item in request.session.items)
    values = [value for each in parameters if each for value in each.params.values()]
    workshop = Workshop(tmp_path_factory.mktemp("workshop"))
    found = Machines([value for value in values if isinstance(value, Task)], workshop)
    yield found
    found.close()
