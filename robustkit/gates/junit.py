"""Gates as JUnit XML: a test case each, which every continuous-integration service shows."""

from __future__ import annotations

from robustkit.gates.judging import Outcome


def text(outcome: Outcome) -> str:
    """Return the XML: one suite, a case a gate, a failure with what was found where a gate was missed."""
    from junitparser import Failure, JUnitXml, TestCase, TestSuite

    suite = TestSuite("robustkit check")
    data = outcome.results["dataset"]
    suite.add_property("robustkit", outcome.results["robustkit_version"])
    suite.add_property("data", f"{data['name']}, {data['split']}, n = {data['n']}, sha256 {data['sha256']}")
    for gate in outcome.gates:
        case = TestCase(f"{gate.required} [{gate.ensemble}, {gate.what}]", f"robustkit.{gate.kind}", 0)
        if gate.passed:
            case.system_out = gate.said
        else:
            case.result = [Failure(gate.said, gate.kind)]
        suite.add_testcase(case)
    if outcome.notes:
        suite.add_property("notes", " ".join(outcome.notes))
    whole = JUnitXml("robustkit")
    whole.add_testsuite(suite)
    written: bytes = whole.tostring()  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="utf-8"?>\n{written.decode("utf-8")}\n'
