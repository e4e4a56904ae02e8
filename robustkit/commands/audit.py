"""``robustkit audit``. Never imports torch by itself."""

from __future__ import annotations

from robustkit.base.names import SUITES
from robustkit.commands._printed import answer
from robustkit.gates import running
from robustkit.study.config import AuditCommand
from robustkit.study.options_run import GATES


def audit(config: AuditCommand) -> None:
    """Evaluate model files that somebody else made: find out how to run them, attack them, say what was not tested.

    Example: robustkit audit model.th --dataset cifar10 --data-dir D
    """
    from robustkit.pipeline import request

    request.check(config, SUITES)
    running.prepare(config)
    keywords = {key: value for key, value in config.keywords().items() if key not in GATES}
    answer(config, config.out, lambda api, reporter: api.audit(**keywords, reporter=reporter))
