"""The guarantee against thrash, against whatever prices, traffic, notices and failures can do together.

No VM makes an elective move within its cool-down but the one that takes a plan back, once; no more of them are
made than the budget has, none costs more than staying put by what is known, and without a notice no move is
called mandatory. `make thrash` plays ten thousand rounds of the same game.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.effort import examples
from tests.property.restless_world import CLOUDS, PAIRS, RestlessWorld
from tests.property.thrash import play, tight_world

A_CLOUD = st.sampled_from(CLOUDS)


class Restless(RuleBasedStateMachine):
    """The adversary's moves; after each of them the loop has a round."""

    def __init__(self) -> None:
        super().__init__()
        self.world = RestlessWorld()

    @rule(
        cloud=A_CLOUD,
        dollars=st.sampled_from([0.0, 0.01, 0.05, 0.5, 5.0]),
        egress=st.sampled_from([0.0, 0.02, 0.5]),
    )
    def change_a_price(self, cloud: str, dollars: float, egress: float) -> None:
        self.world.set_price(cloud, dollars, egress)

    @rule(pair=st.sampled_from(PAIRS), rate=st.sampled_from([0.0, 1e3, 1e6, 5e7]))
    def change_traffic(self, pair: tuple[str, str], rate: float) -> None:
        self.world.set_traffic(pair, rate)

    @precondition(lambda self: len(self.world.notices) < len(CLOUDS) - 1)
    @rule(cloud=A_CLOUD, seconds=st.sampled_from([5.0, 60.0, 600.0]))
    def revoke(self, cloud: str, seconds: float) -> None:
        self.world.revoke(cloud, seconds)

    @rule(cloud=A_CLOUD)
    def withdraw(self, cloud: str) -> None:
        self.world.withdraw(cloud)

    @rule(seconds=st.sampled_from([1.0, 30.0, 130.0, 900.0, 3599.0, 7200.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(failing=st.booleans())
    def let_moves_fail(self, failing: bool) -> None:
        self.world.failing = failing

    @invariant()
    def the_guarantee_stands(self) -> None:
        self.world.round()


TestRestless = Restless.TestCase
TestRestless.settings = settings(
    max_examples=examples(6),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_in_a_long_game_moves_are_made_and_the_guarantee_stands() -> None:
    """Without moves, nothing would have been tried."""
    world = play(rounds=examples(100), seed=4)

    assert sum(move.done for move in world.moves) >= 5


def test_the_guarantee_stands_where_vms_can_only_swap_by_way_of_a_third_cloud() -> None:
    """A VM that is parked on its way has made one move, not two."""
    world = play(rounds=examples(80), seed=3, world=tight_world())

    assert world.parked >= 1
