"""The reference pages say what the schemas say."""

from pathlib import Path

import pytest

from transhume.deployment.schema import DeploymentSchema
from transhume.located_yaml import renewed
from transhume.monitor.clouds.prices import ScheduleSchema
from transhume.policies.schema import PolicySchema

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize(
    ("name", "model"),
    [("policies", PolicySchema), ("deployment", DeploymentSchema), ("prices", ScheduleSchema)],
)
def test_a_page_is_as_the_schema_has_it(name, model):
    page = (REFERENCE / f"{name}.md").read_text("utf-8")
    assert page == renewed(page, model), "run: python docs/reference/renew.py"
