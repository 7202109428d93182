"""The HTML report of a comparison of policies: the tables of the terminal, and how cost and moves grew.

One file that needs nothing but a browser. The same comparison gives the same text.
"""

from transhume import __version__
from transhume.cli.views.curves import draw_curves
from transhume.cli.views.replay import columns_of, dollars, notes
from transhume.quantities import format_bytes, format_duration, format_rate
from transhume.replaying import Comparison


def render_replay(found: Comparison, *, title: str, source: str) -> str:
    """Return the report as HTML.

    Args:
        found: what is told.
        title: of the page.
        source: where the facts are from, for a person.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("transhume.cli", "views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        bytes=format_bytes, duration=format_duration, rate=format_rate, dollars=_dollars
    )
    runs = found.runs
    rules = dict.fromkeys(rule for run in runs for rule in run.violation_seconds)
    return environment.get_template("replay.html.j2").render(
        found=found,
        title=title,
        source=source,
        version=__version__,
        causes=columns_of(found),
        amount=dollars,
        rules=list(rules),
        notes=list(notes(found)),
        cost=draw_curves(
            [(run.name, [point.dollars for point in run.points]) for run in runs], _dollars
        ),
        moves=draw_curves(
            [(run.name, [float(point.moves) for point in run.points]) for run in runs],
            lambda count: f"{count:,.0f}" if count % 1 == 0 else "",
        ),
    )


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if abs(amount) < 100 else f"${amount:,.0f}"
