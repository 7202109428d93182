"""What traffic between two clouds costs: by whose they are and where, and as before where nobody says."""

from datetime import UTC, datetime

import pytest

from transhume.knowledge.model import Cloud, CloudName, EgressTariff, PriceTick

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HERE, NEXT_DOOR, ELSEWHERE, FOREIGN = map(CloudName, ("here", "next-door", "elsewhere", "foreign"))
CLOUDS = {
    HERE: Cloud(name=HERE, provider="one", region="east"),
    NEXT_DOOR: Cloud(name=NEXT_DOOR, provider="one", region="east"),
    ELSEWHERE: Cloud(name=ELSEWHERE, provider="one", region="west"),
    FOREIGN: Cloud(name=FOREIGN, provider="two", region="east"),
}


def tariff(
    clouds: dict[CloudName, Cloud] | None = None,
    *,
    region: float | None = 0.01,
    provider: float | None = 0.02,
) -> EgressTariff:
    tick = PriceTick(
        cloud=HERE,
        at=NOW,
        dollars_per_vcpu_hour=1.0,
        egress_dollars_per_gb=0.09,
        egress_within_region_dollars_per_gb=region,
        egress_within_provider_dollars_per_gb=provider,
    )
    return EgressTariff(clouds=CLOUDS if clouds is None else clouds, prices={HERE: tick})


@pytest.mark.parametrize(
    ("destination", "dollars"),
    [
        pytest.param(HERE, 0.0, id="within the cloud"),
        pytest.param(NEXT_DOOR, 0.01, id="within the region"),
        pytest.param(ELSEWHERE, 0.02, id="within the provider"),
        pytest.param(FOREIGN, 0.09, id="to another provider's region of the same name"),
        pytest.param(CloudName("unheard-of"), 0.09, id="to a cloud that nobody described"),
        pytest.param(None, 0.09, id="to outside"),
    ],
)
def test_a_gigabyte_costs_less_the_nearer_it_stays(
    destination: CloudName | None, dollars: float
) -> None:
    assert tariff().dollars_per_gb(HERE, destination) == dollars
    a_gb_an_hour = 1e9 / 3600
    assert tariff().dollars_per_hour(HERE, destination, a_gb_an_hour) == pytest.approx(dollars)


@pytest.mark.parametrize("destination", [NEXT_DOOR, ELSEWHERE, FOREIGN])
def test_where_nothing_special_is_asked_all_egress_costs_the_same(destination: CloudName) -> None:
    assert tariff(region=None, provider=None).dollars_per_gb(HERE, destination) == 0.09


def test_clouds_of_no_known_provider_or_region_are_not_taken_for_the_same() -> None:
    """What nobody has said is no bargain."""
    unsaid = {name: Cloud(name=name, region="east") for name in (HERE, NEXT_DOOR)}
    assert tariff(unsaid).dollars_per_gb(HERE, NEXT_DOOR) == 0.09
    nowhere = {name: Cloud(name=name, provider="one") for name in (HERE, NEXT_DOOR)}
    assert tariff(nowhere).dollars_per_gb(HERE, NEXT_DOOR) == 0.02


def test_a_cloud_without_a_price_bills_nothing() -> None:
    assert tariff().dollars_per_gb(FOREIGN, HERE) == 0.0
