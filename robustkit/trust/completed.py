"""Nothing crashed."""

from __future__ import annotations

from robustkit.trust import Evidence, Finding, check


@check("completed", leaves="invalid", source="Carlini et al. 2019, arXiv:1902.06705, section 4")
def completed(evidence: Evidence) -> Finding:
    """No batch crashed, and no pixel or output was NaN."""
    share = max(float(s.run.samples.failed.mean()) for s in evidence.counted)
    return Finding(share, 0.0, "the attack crashed on these samples: see the run's warnings, fix the cause")
