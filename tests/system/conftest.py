"""Labs that modules share, one at a time: a module names what it needs as `LAB`, and takes the fixture `lab`.

Modules with the same `LAB` run one after the other, and the next finds the VMs in the clouds where they began.
Where several processes share the work (`make system`), each takes whole modules and must be isolated: see
`tools/isolated-python`.
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
    """Bring together those whose modules ask for the same lab; what takes a lab, which is long, comes first."""
    first: dict[str, int] = {}
    labs = [lab_of(item) for item in items]
    places = [
        first.setdefault(repr(lab), number) if lab is not None else number
        for number, lab in enumerate(labs)
    ]
    short = ["lab" not in getattr(item, "fixturenames", ()) for item in items]
    order = sorted(range(len(items)), key=lambda n: (short[n] and labs[n] is None, places[n], n))
    items[:] = [items[number] for number in order]


_NEXT_LAB = pytest.StashKey[LabSpec | None]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Note the lab that this process needs next: only here is it known which test that will be."""
    item.session.stash[_NEXT_LAB] = lab_of(nextitem) if nextitem is not None else None


class Labs:
    """The lab that is up, if any."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._up: Lab | None = None

    def get(self, spec: LabSpec) -> Lab:
        """Return a lab as specified: the one that is up, or a new one."""
        if self._up is not None and self._up.state.exists() and self._up.spec == spec:
            gather(self._up)
            return self._up
        self.end()
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
        if request.session.stash.get(_NEXT_LAB, None) != spec:
            labs.end()


@pytest.fixture
async def redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerAddress]:
    async with redis_in(tmp_path_factory.mktemp("r")) as address:
        yield address
