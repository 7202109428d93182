"""Labs that modules share, one at a time: a module names what it needs as `LAB`, and takes the fixture `lab`.

Modules with the same `LAB` run one after the other, and the next finds the VMs in the clouds where they began.
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.system.running import gather, redis_in
from transhume.knowledge.server import ServerAddress
from transhume.lab.lab import Lab
from transhume.lab.network import lab_namespaces
from transhume.lab.spec import LabSpec


def lab_of(item: pytest.Item) -> LabSpec | None:
    """Return the lab that a test's module asks for."""
    module = item.getparent(pytest.Module)
    found = getattr(module.obj, "LAB", None) if module is not None else None
    return found if isinstance(found, LabSpec) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring together those whose modules ask for the same lab."""
    first: dict[str, int] = {}
    labs = [lab_of(item) for item in items]
    places = [
        first.setdefault(repr(lab), number) if lab is not None else number
        for number, lab in enumerate(labs)
    ]
    order = sorted(range(len(items)), key=lambda number: (places[number], number))
    items[:] = [items[number] for number in order]


class Labs:
    """The lab that is up, if any."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._up: Lab | None = None

    def get(self, spec: LabSpec) -> Lab:
        """Return a lab as specified: the one that is up, or a new one."""
        if self._up is not None and self._up.state.exists():
            gather(self._up)
            return self._up
        assert lab_namespaces() == (), "a lab is up, and this would remove it: transhume lab down"
        self._up = Lab(self._folders.mktemp("lab") / "state")
        try:
            self._up.up(spec)
        except BaseException:
            self.end()
            raise
        return self._up

    def end(self) -> None:
        """Remove what is up."""
        if self._up is not None:
            self._up.down()
        self._up = None


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    found = Labs(tmp_path_factory)
    try:
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, labs: Labs) -> Iterator[Lab]:
    """The lab of the module."""
    spec = request.module.LAB
    try:
        yield labs.get(spec)
    finally:
        if next_lab(request) != spec:
            labs.end()


def next_lab(request: pytest.FixtureRequest) -> LabSpec | None:
    """Return what the module after this one asks for."""
    items = request.session.items
    ours = [item.getparent(pytest.Module) is request.node for item in items]
    after = len(ours) - ours[::-1].index(True)
    return lab_of(items[after]) if after < len(items) else None


@pytest.fixture
async def redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerAddress]:
    async with redis_in(tmp_path_factory.mktemp("r")) as address:
        yield address
