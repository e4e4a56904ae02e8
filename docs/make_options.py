"""Make ``docs/options.md``, ``docs/options.schema.json`` and the package's schema of studies.

``python docs/make_options.py`` writes all three.

``tests/study/test_config.py`` holds both current.
"""

from __future__ import annotations

import json
from pathlib import Path

from robustkit.base.configuration import json_schema, table
from robustkit.cli import COMMANDS
from robustkit.study.config import EvaluateConfig
from robustkit.study.schema import FILE, study_schema

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


def studies() -> str:
    """Return the JSON Schema of a study file."""
    return json.dumps(study_schema({name: config for name, (config, _) in COMMANDS.items()}), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(studies(), "utf-8")
    (HERE / "options.md").write_text(page(), "utf-8")
    (HERE / "options.schema.json").write_text(schema(), "utf-8")
