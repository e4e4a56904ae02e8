"""A self-contained HTML page in the look that all pages share: nothing is loaded from elsewhere."""

from __future__ import annotations

from typing import Any

from robustkit.reports import _format as f
from robustkit.reports._checks import worst_of
from robustkit.reports._labels import budget, budget_text

MARKS = {"trusted": "\N{CHECK MARK}", "unchecked": "~", "suspect": "?", "invalid": "!"}


def page(template: str, **shown: Any) -> str:
    """Return the text of a page from one of the package's templates; every value in it is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robustkit.reports"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": f.percent, "interval": f.interval, "number": f.number, "worst_of": worst_of}
    environment.filters["budget"] = lambda run: budget_text(*budget(run))
    return environment.get_template(template).render(marks=MARKS, **shown)
