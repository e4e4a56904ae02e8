"""What was found out about other people's models before they were evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustkit.records.schema_suites import AuditResult
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest, suite


@suite("audit", title="What was found out about the model")
class Audit:
    """Facts of the files and findings of :mod:`robustkit.auditing`, carried into the report; nothing is run here."""

    @staticmethod
    def ask(request: SuiteRequest) -> Mapping[str, Any]:
        """Return what is known of each member."""
        return {"members": [dict(member) for member in request.options["audit"]]}

    @staticmethod
    def run(job: Job) -> list[str]:
        """Return the concerns as warnings."""
        return [
            f"{member['ensemble']}, member {member['member']}: {found['what']}: {found['value']} ({found['evidence']})"
            for member in job.request["members"]
            for found in member["findings"]
            if found["concern"]
        ]

    @staticmethod
    def results(study: Study, store: Store) -> list[AuditResult]:
        """Return what is known of each member."""
        members: list[AuditResult] = study.suite_requests["audit"]["members"]
        return members
