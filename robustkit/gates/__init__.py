"""Requirements of stored numbers, for pipelines that must fail: thresholds, verdicts, a baseline. Never imports torch.

:mod:`robustkit.study.requirements` reads what is required, ``judging`` holds it against ``results.json``, ``baseline``
against what an earlier evaluation got right on the same images; the other modules say the outcome as JUnit XML, SARIF
or Markdown. A number is never measured again here. A new format is a module with ``text(outcome)`` and an entry of
``FORMATS``.
"""
