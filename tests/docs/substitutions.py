"""What is changed in a command or a block of a page so that it runs in seconds, and what is not run, and why.

A page's commands run one after the other in a folder of its own, which holds what they name: checkpoints, a pool,
files of images and models, stored evaluations (``tests/docs/world.py``). Changed are

* sizes: ``SMALL`` for each command, where the page does not ask for something that depends on it, ``SHORT`` and
  ``DETECTING``;
* datasets that have to be downloaded: ``digits`` takes their place, which is in scikit-learn;
* single words of commands, by ``WORDS``; pieces of a page's text, by ``PIECES``.

``NOT_RUN`` says what does not run at all: a pattern and a reason. ``COUNTS`` is how many commands and blocks that is;
it stands here so that adding one is a decision that somebody sees.
"""

from __future__ import annotations

import re
import shlex

LEAVES_HERE = "another program's, or another machine's"
HOURS = "minutes to hours: a measurement, or a paper's table"
CLUSTER = "a cluster"
INSTALLS = "installs something"
OF_SOMEBODY = "a file that nobody else has"
TESTED = "the tests themselves, or the gate"

NOT_RUN = (
    (r"^\S*pip install|^python3 -m venv|\.venv && ", INSTALLS),
    (r"^(ray|torchrun|export RAY)\b|--executor (192\.|auto)|executor = \"auto\"", CLUSTER),
    (r"^(git|ls|source|export)\b", LEAVES_HERE),
    (r"^python -m robustkit.commands.listing >", TESTED),
    (r"attacks nudge|list nudge", TESTED),
    (r"^(OMP_NUM_THREADS=\d )?(python|bash) (benchmarks/|tests/mutants)", HOURS),
    (r"^(OMP_NUM_THREADS=\d )?robustkit (reproduce|bench --self-test)", HOURS),
    (r"robustkit search (?!list|random )", HOURS),
    (r"^(\.venv/bin/)?(python -m )?(pytest|nox)\b|^bash \.ci", TESTED),
    (r"--surrogate train", HOURS),
    (
        r"--corruption-dir|resnet20-12fca82f|test_1017_lossless|(mnist|cifar)_cnn_a_adv|npz:hard"
        r"|--preset adp-table2:cifar10",
        OF_SOMEBODY,
    ),
)
COUNTS = {CLUSTER: 7, OF_SOMEBODY: 9, LEAVES_HERE: 4, INSTALLS: 8, HOURS: 71, TESTED: 8}

TRAINING = {"--arch": "lenet", "--members": "2", "--epochs": "1", "--speed": "off"}
EVALUATION = {
    "--n": "6", "--trust": "off", "--format": "csv", "--workers": "1", "--eps": "0.5", "--suites": "attacks",
    "--no-reference": "", "--speed": "off",
}  # fmt: skip
SMALL: dict[str, dict[str, str]] = {
    "evaluate": {**EVALUATION, **TRAINING},
    "audit": EVALUATION,
    "train": TRAINING,
    "search": {"--members": "2", "--epochs": "1", "--workers": "1", "--set": "random.width=4"},
    "run": {
        "--n": "6",
        "--trust": "off",
        "--epochs": "1",
        "--workers": "1",
        "--members": "2",
        "--no-reference": "",
        "--format": "csv",
        "--speed": "off",
    },
}
# Options that may be given as well, and what is then not added.
EXCLUDES = {
    "--checkpoint": ("--arch", "--members", "--epochs"),
    "--pool": (*TRAINING, "--eps", "--no-reference", "--suites"),
    "--corruptions": ("--suites",),
    "--surrogate": ("--suites",),
    "--ood": ("--suites",),
    "--min": ("--eps", "--trust", "--no-reference"),
    "--require": ("--eps", "--trust", "--no-reference"),
    "--escalate": ("--trust",),
    "--no-reference": ("--no-reference",),
    "--preset": ("--eps", "--no-reference"),
}
DOWNLOADED = re.compile(r"^(mnist|fashionmnist|cifar10|cifar100|svhn|notmnist)$")
PROVEN = "--certify-n"  # few samples where the suites certified or smoothing are named
NUMBERS = ("--n", "--members", "--epochs", "--search-epochs", PROVEN)  # replaced where a page names one
SHORT = ("pgd", "mim")  # run by default; two steps of each, where a command does not say how many
DETECTING = {"steps": 5, "search_steps": 1}  # of the suite detection's own attacks
WORDS = {
    "near:fashionmnist,far:imagefolder:PATH": "near:npz:images.npz,far:imagefolder:photos",
    "near:notmnist": "near:npz:third.npz",
    "adp-table2": "adp-table2:mnist:jsma",
    "adp-table2:mnist:jsma,cw": "adp-table2:mnist:jsma",
    "npz:D.npz": "npz:images.npz",
    "torchvision-name": "lenet",
    "imagefolder:D": "imagefolder:photos",
    "256:224": "10:8",
    "resnet20": "lenet",
    "random.candidates=12": "random.candidates=2",
    "pgd.steps=50": "pgd.steps=2",
    "pgd.restarts=5": "pgd.restarts=2",
    "worst_case@8/255>=0.30": "worst_case@0.1>=0.30",
    "8/255": "0.1",
    "eleven/candidates/nB_0": "eleven/candidates/random-0",
}
# Commands that may end with something else than 0: what they say, and the code.
EXITS = {
    "--min": (0, 1),
    "--require": (0, 1),
}
# Of pages: what is replaced, and, of Python, what a page takes to be there.
FEW = (
    'n=6, eps=[0.1, 0.15], suites="attacks", formats="csv", arch="lenet", members=2, epochs=1, speed="off", '
    'trust="off", reference=False, out="out"'
)
AUDITED = 'eps=0.5, suites="attacks", trust="off", reference=False, formats="csv", out="audit", force=True)'
PIECES: dict[str, tuple[tuple[str, str], ...]] = {
    "docs/python.md": (
        ('eps=[0.1, 0.15], out="out"', FEW),
        (
            'dataset="digits", out="my-ensemble"',
            'dataset="digits", arch="lenet", epochs=1, speed="off", out="my-ensemble", force=True',
        ),
        ('"model_b.pth"], (x, y))', f'"model_b.pth"], (x, y), {AUDITED}'),
        ("net(2 * x - 1), loader)", f"net(2 * x - 1), loader, {AUDITED}"),
        ("@8/255>=", "@0.1>="),
    ),
    "docs/audit.md": (
        ("model = ...", "model = net"),
        (
            '"cifar10", data_dir="D", attacks="pgd,apgd-ce", escalate=True)',
            f'"digits", n=6, attacks="pgd,apgd-ce", {AUDITED}',
        ),
        ("(x, y))", f"(x, y), {AUDITED}"),
        ("loader)", f"loader, {AUDITED}"),
    ),
    "docs/tutorials/audit-in-ci.md": (("--eps 0.02,0.05", "--eps=0.02,0.05"), (" --escalate --out", " --out")),
    "docs/tutorials/add-a-defence.md": (("epochs=5, n=100", "epochs=1, n=6"), ("escalate=True", 'trust="off"')),
    "docs/tutorials/table-of-a-paper.md": (
        ('"0-2"', '"0-1"'),
        ("epochs = 5", "epochs = 1"),
        ("n = 100", 'n = 6\ntrust = "off"'),
        ('["pgd", "apgd-ce"]', '["pgd"]'),
        ('"0.05,0.1"', '"0.1"'),
    ),
    "docs/ensembles.md": (
        ('"adp", "gal", "dverge", "trs", "sdde", "gncl", "dice"', '"gal"'),
        (', "advt-pgd", "adp+advt-pgd", "igat+advt-pgd", "barre"', ""),
        ('"0-2"', '"0-1"'),
        ("epochs = 12", "epochs = 1"),
        ("n = 100", "n = 6"),
        ('trust = "quick"', 'trust = "off"'),
        ("attacks,transfer,detection,ood,calibration,corruptions", "attacks"),
    ),
    "docs/tutorials/grid-on-ray.md": (
        ('executor = "ray"', 'executor = "local"'),  # Ray's own tests are in tests/evaluation
        ('"small-resnet"', '"networks:perceptron"'),
        ("epochs = 2", "epochs = 1"),
        ("n = 50", "n = 6"),
    ),
    "docs/certify.md": (
        ("net.py:net", "nets.py:build"),
        ("--eps 2/255 --suites", "--eps 2/255 --n=2 --suites"),
    ),
    "docs/evaluate.md": (
        ("compare A B", "compare A OUT"),
        ("--eps 5,10", "--eps=5,10"),
        ("--eps linf=0.1,l2=0.5,l1=2", "--attacks pgd,fmn --set fmn.steps=5 --eps=linf=0.1,l2=0.5,l1=2"),
        ("--eps linf=", "--eps=linf="),
    ),
    "docs/trust.md": (("runs/adp", "DIR"),),
    "docs/studies.md": (
        ('"small-resnet"', '"networks:perceptron"'),
        ('"0-4"', '"0-1"'),
        ('"2/255,8/255"', '"8/255"'),
        ("steps = 50", "steps = 2"),
        ('["pgd", "mim"]', '["pgd"]\nsuites = "attacks"'),
    ),
}
COMMON = """
import numpy as np, pandas, torch, robustkit
ensemble = model = net = model_a = robustkit.load_ensemble("DIR")
x = torch.from_numpy(np.load("images.npz")["x_test"][:8]).permute(0, 3, 1, 2).float() / 255
y = torch.from_numpy(np.load("images.npz")["y_test"][:8]).long()
target = (y + 1) % 10
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
"""
BEFORE = {
    "docs/diversity.md": """
predictions = np.random.default_rng(0).integers(0, 10, (3, 40))
y = np.random.default_rng(1).integers(0, 10, 40)
grams = np.random.default_rng(2).normal(size=(2, 4, 8, 5))
batches = [part @ part.swapaxes(1, 2) for part in grams]
""",
    "docs/gpu.md": "from accelerator import pretend_cuda\nfrom robustkit import attacks\n",
}


def reason(text: str) -> str:
    """Return why a command or block is not run; empty where it is."""
    return next((why for pattern, why in NOT_RUN if re.search(pattern, text)), "")


def codes(text: str) -> tuple[int, ...]:
    """Return the exit codes that a command may end with."""
    return next((found for said, found in EXITS.items() if said in text), (0,))


def text_of(page: str, text: str) -> str:
    """Return a command, a block or a file of a page with the page's substitutions."""
    for old, new in PIECES.get(page, ()):
        text = text.replace(old, new)
    return text


def sets(text: str, shell: dict[str, str]) -> bool:
    """Note a variable that a line of a shell sets; return whether it does."""
    found = re.match(r'(\w+)="([^"]*)"$', text)
    if found:
        shell[f"${found[1]}"] = found[2]
    return bool(found)


def small(command: str, shell: dict[str, str]) -> list[str]:
    """Return the words of a ``robustkit`` command behind its name, with small sizes.

    Raises
    ------
    ValueError
        Where the command is none of robustkit's.
    """
    for variable, value in shell.items():
        command = command.replace(variable, value)
    words = shlex.split(command.removeprefix("$ "), comments=True)
    while "=" in words[0]:
        del words[0]
    program, name, *rest = words
    if not program.endswith("robustkit"):
        raise ValueError(command)
    rest = [WORDS.get(word, word) for word in rest]
    if name == "corrupt":
        rest = [DOWNLOADED.sub("digits", word) for word in rest]
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    added = dict(SMALL.get(name, {})) if rest[:1] != ["list"] else {}
    if re.search("certified|smoothing", command):
        added[PROVEN] = "2"
    for word in rest:  # what is given as --eps=0.1 stays as it is
        if "=" in word:
            added.pop(word.partition("=")[0], None)
    for option in given:
        for other in EXCLUDES.get(option, ()):
            added.pop(other, None)
    out: list[str] = []
    at = 0
    while at < len(rest):
        word, following = rest[at], rest[at + 1] if at + 1 < len(rest) else ""
        if word == "--data-dir":
            at += 2
        elif word == "--dataset" and DOWNLOADED.match(following):
            out += [word, "digits"]
            at += 2
        elif word in added and word not in (*NUMBERS, "--eps", "--set"):
            added.pop(word)
            out.append(word)
            at += 1
        elif word in NUMBERS or (word == "--eps" and "--eps" in added):
            out += [word, added.pop(word, following)]
            at += 2
        else:
            out.append(word)
            at += 1
    words = [*out, *(part for item in added.items() for part in item if part)]
    return [name, *words, *(shortened(words) if name in ("evaluate", "audit") else ())]


def shortened(words: list[str]) -> list[str]:
    """Return what makes the attacks of an evaluation's words short; nothing where their length matters, or none run."""
    given = dict(zip(words, words[1:], strict=False))
    if {"--pool", "--preset", "--escalate", "--backend"} & {*words} or given.get("--norm") == "l0":
        return []
    suites = given.get("--suites", "attacks").split(",")
    if not {"attacks", "transfer", "detection", "all"} & {*suites}:
        return []
    named = given.get("--attacks", ",".join(SHORT)).split(",")
    said = " ".join(words)
    settings = [f"{one}.steps=2" for one in SHORT if one in named and f"{one}.steps" not in said]
    return [word for setting in settings for word in ("--set", setting)]
