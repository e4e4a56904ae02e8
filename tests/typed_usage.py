"""What a type checker sees of the public functions; mypy reads this file in the gate, nobody runs it.

Each ``type: ignore`` stands for an error that must be found: strict mypy reports one that is not needed.
"""

from __future__ import annotations

import torch

import robustkit

robustkit.evaluate(defense="adp", attacks=["pgd", "mim"], eps=[0.1, "8/255"], norm="l2", n=100, out="out")
robustkit.audit("model.pt", (torch.zeros(1, 1, 8, 8), torch.zeros(1)), escalate=True, batch_size=64)
robustkit.audit([torch.nn.Linear(2, 2), "b.pt", torch.sigmoid], dataset="mnist")
robustkit.train(defense="adp", epochs=2, settings={"adp.alpha": 1.0})
passed = [gate.passed for gate in robustkit.check("out", minimum=["worst_case@0.1>=0.3"], require="trusted")]
differences: list[float] = [row["difference"] for row in robustkit.compare(["a", "b"])]

results = robustkit.load_results("out")
robust: float = results["worst_case"][0]["robust_accuracy"]
verdict: str = results.worst_case("8/255")["adp"]["verdict"]
results["worst_case"][0]["robust"]  # type: ignore[typeddict-item]
results.worst_case(eps=[0.1])  # type: ignore[arg-type]

robustkit.evaluate(attackz="pgd")  # type: ignore[call-arg]
robustkit.evaluate(n="many")  # type: ignore[arg-type]
robustkit.evaluate(norm="l7")  # type: ignore[arg-type]
robustkit.evaluate("adp")  # type: ignore[call-arg]
robustkit.audit()  # type: ignore[call-arg]
robustkit.check("out", require="trustd")  # type: ignore[arg-type]
robustkit.train(recipe="papr")  # type: ignore[arg-type]
