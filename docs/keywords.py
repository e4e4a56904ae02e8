"""For the API reference: keywords that are the fields of a configuration, and roles (a griffe extension).

``@takes(EvaluateConfig)`` gives a function the keywords of that class when it is imported. The reference is made from
the source, where only the configuration stands; here it becomes ``**options``, with a link to the table of them. A role
of Sphinx, as in ``:func:`name` ``, becomes the name.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Keywords(griffe.Extension):
    """Replace the parameter of functions that are decorated with ``takes``, and Sphinx's roles everywhere."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Look at one object, when griffe has read it."""
        if obj.docstring:
            obj.docstring.value = re.sub(r":\w+:`[~.]*([^`]+)`", r"`\1`", obj.docstring.value)

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Look at one function, when griffe has read it."""
        taken = [str(one.value) for one in func.decorators if str(one.value).startswith("takes(")]
        if not taken:
            return
        command = {"self_test": "bench"}.get(func.name, func.name)
        func.parameters = griffe.Parameters(griffe.Parameter("options", kind=griffe.ParameterKind.var_keyword))
        if func.docstring:
            said, section, rest = func.docstring.value.partition("\n\nReturns\n")
            link = f"Keywords: those of [`robustkit {command}`](../options.md#robustkit-{command})."
            func.docstring.value = f"{said}\n\n{link}{section}{rest}"
