"""What was evaluated is what was meant: no number of a model that was run the wrong way is worth trusting."""

from __future__ import annotations

from robustkit.trust import Evidence, Finding, check


@check("sound-set-up", unit="doubts", source="robustkit; Carlini et al. 2019, arXiv:1902.06705, section 4")
def sound_set_up(evidence: Evidence) -> Finding | None:
    """Nothing is in doubt that no attack can find out: class order, preprocessing, accuracy, finite outputs."""
    return Finding(len(evidence.doubts), 0.0, f"the set-up itself is in doubt: {'; '.join(evidence.doubts)}")
