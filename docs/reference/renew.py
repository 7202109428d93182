"""Renew the tables of the reference pages from the schemas: `python docs/reference/renew.py`."""

from pathlib import Path

from pydantic import BaseModel

from transhume.deployment.schema import DeploymentSchema
from transhume.located_yaml import renewed
from transhume.monitor.clouds.prices import ScheduleSchema
from transhume.policies.schema import PolicySchema

PAGES: dict[str, type[BaseModel]] = {
    "policies": PolicySchema,
    "deployment": DeploymentSchema,
    "prices": ScheduleSchema,
}


def main() -> None:
    """Rewrite what is between the marks of each page."""
    for name, model in PAGES.items():
        page = Path(__file__).with_name(f"{name}.md")
        page.write_text(renewed(page.read_text("utf-8"), model), "utf-8")


if __name__ == "__main__":
    main()
