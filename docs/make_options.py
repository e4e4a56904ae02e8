"""Make ``docs/options.md`` and ``docs/options.schema.json``: ``python docs/make_options.py``.

``tests/study/test_config.py`` holds both current.
"""

from __future__ import annotations

import json
from pathlib import Path

from robustkit.base.configuration import json_schema, table
from robustkit.cli import COMMANDS
from robustkit.study.config import EvaluateConfig

HERE = Path(__file__).parent
HEAD = """# Options

Made by `python docs/make_options.py` of the fields in `robustkit/study/`, from which come the commands' options, the
keywords of the functions in Python and their docstrings, too; a test holds it current. The keys of
[options.schema.json](options.schema.json) are those of `robustkit evaluate`.
"""


def page() -> str:
    """Return the page: a section a command, a table a group."""
    parts = [HEAD]
    for name, (config, _) in COMMANDS.items():
        parts.append(f"## robustkit {name}\n\n{table(config)}\n")
    return "\n".join(parts)


def schema() -> str:
    """Return the JSON Schema of an evaluation."""
    return json.dumps(json_schema(EvaluateConfig), indent=1) + "\n"


if __name__ == "__main__":
    (HERE / "options.md").write_text(page(), "utf-8")
    (HERE / "options.schema.json").write_text(schema(), "utf-8")
