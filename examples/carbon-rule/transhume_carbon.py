"""A rule of a user's own: VMs are rather where electricity is clean, and never where it's dirtier than a limit.

    rules:
      - python:
          name: carbon
          grams_per_kwh: {campus: 40, rented-us: 380, rented-asia: 720}
          most_grams_per_kwh: 600
          dollars_per_kilogram: 0.20

A cloud of which nobody says how clean it is counts as the dirtiest.
"""

from collections.abc import Mapping

from transhume.policies.extension import Verdict, View

KILOWATTS_PER_VCPU = 0.012


class CarbonRule:
    """Weighs each cloud by the carbon dioxide that a VM's processors would cause there."""

    def __init__(self, parameters: Mapping[str, object]) -> None:
        """Take what the policy file says; a ValueError here is a mistake in that file."""
        grams = parameters.get("grams_per_kwh")
        if not isinstance(grams, Mapping) or not grams:
            raise ValueError("grams_per_kwh is missing; write it as {campus: 40, rented: 380}")
        self.grams = {str(cloud): _number(cloud, amount) for cloud, amount in grams.items()}
        self.most = _number("most_grams_per_kwh", parameters.get("most_grams_per_kwh", 1e9))
        self.price = _number("dollars_per_kilogram", parameters.get("dollars_per_kilogram", 0.10))

    def judge(self, view: View) -> Verdict:
        """Forbid what is dirtier than the limit, and weigh the rest."""
        forbidden, dollars = {}, {}
        for cloud in view.snapshot.clouds:
            grams = self.grams.get(cloud, max(self.grams.values()))
            for vm in view.vms:
                if grams > self.most:
                    forbidden[vm.name, cloud] = f"{grams:g} g/kWh are more than {self.most:g}"
                kilowatts = vm.needs.vcpus * KILOWATTS_PER_VCPU
                dollars[vm.name, cloud] = kilowatts * grams / 1000 * self.price
        return Verdict(forbidden=forbidden, dollars_per_hour=dollars)


def _number(name: object, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name} is {value!r}; write a number that isn't negative")
    return float(value)
