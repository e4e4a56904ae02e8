"""For the API reference: functions whose keywords are the fields of a configuration say which (a griffe extension).

``@takes(EvaluateConfig)`` gives a function the keywords of that class when it is imported. The reference is made from
the source, where only the configuration stands; here it becomes ``**options``, with a link to the table of them.
"""

from __future__ import annotations

from typing import Any

import griffe


class Keywords(griffe.Extension):
    """Replace the parameter of functions that are decorated with ``takes``."""

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
