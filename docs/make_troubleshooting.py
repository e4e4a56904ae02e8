"""Make ``docs/troubleshooting.md``: ``python docs/make_troubleshooting.py``.

The page lists every sentence that robustkit can end with, found in its source by ``docs/sentences.py``; a test in
``tests/test_docs.py`` holds it current. It names no lines and no numbers, so that it changes where a sentence does.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sentences import Sentence, Sentences
from spoken import ROOT
from wording import CLOSE, OPEN

PAGE = ROOT / "docs" / "troubleshooting.md"
HEAD = """# Troubleshooting

Every sentence that robustkit can end with, what it comes from and what to do about it. Search this page for words of
the sentence that you got, without what is your own in it: names, numbers and paths stand here in CAPITALS.

A command prints one sentence behind `robustkit:` and ends with exit code 2 where what it was given cannot be used, and
with 1 where something failed while running; then the same command resumes. In Python the first are `UserError` (a
`ValueError`), the second `RunError` (a `RuntimeError`). 130 means interrupted: the same command goes on from the last
finished cell. Anything else, a traceback above all, is a fault of robustkit; please report it.

Each has its *Cause*, or *When* it is said, or *Where*: what robustkit was about to do. Made from the source by
`python docs/make_troubleshooting.py`: a cause is a comment `# Cause: ...` above the statement, the other two are what
the docstrings say.
"""
# What the user was doing, by where the sentence is made; the longest beginning counts.
DOING = {
    "Typing a command or calling a function": (
        "base.chances", "base.configuration", "base.errors", "base.option", "base.options", "base.registry", "api",
        "commands", "study", "pipeline.request", "suites",
    ),
    "Choosing data": ("data", "ood"),
    "Reading a model file": ("auditing",),
    "Finding the architecture of a model": ("auditing.fitting", "auditing._infer", "auditing._explain", "models"),
    "Running somebody else's model": (
        "auditing.adapting", "auditing.behaviour", "auditing.detecting", "auditing.fingerprint", "auditing.in_memory",
        "auditing.independent", "auditing.running", "auditing._batches",
    ),
    "Choosing attacks": ("attacks", "backends"),
    "Training": ("training", "defenses", "functional"),
    "Checkpoints, ensembles and pools": ("ensembles",),
    "Corrupting images": ("corruptions",),
    "Running and resuming": (
        "evaluation", "pipeline", "records", "trust", "base.files", "base.devices", "base.parallel",
        "suites.pools", "suites._diversity_results",
    ),
    "Reading results and reports": ("reports",),
    "Repeating a paper": ("reproduce",),
}  # fmt: skip


def doing(module: str) -> str:
    """Return what the user was doing when a module spoke; a package without a place here has its docstring's words."""
    name = module.removeprefix("robustkit.")
    known = [
        (len(start), title) for title, starts in DOING.items() for start in starts if f"{name}.".startswith(f"{start}.")
    ]
    return max(known)[1] if known else title(f"robustkit.{name.partition('.')[0]}")


def title(module: str) -> str:
    """Return the first sentence of a module's docstring."""
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or module
    return prose(re.split(r"[.:;](?:\s|$)", " ".join(said.split()))[0])


def prose(text: str) -> str:
    """Turn the markup of docstrings into that of Markdown."""
    text = re.sub(r":\w+:`~?\.?([^`]+)`", lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    return text.replace("``", "`").replace("<", "\\<")


def plain(text: str) -> str:
    """Return a sentence as the page shows it."""
    return re.sub(r"\.{4,}", "...", text.replace(OPEN, "").replace(CLOSE, ""))


def code(text: str) -> str:
    """Return text as Markdown's code, whatever backticks are in it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


# How docstrings begin that say what a function does, and how they say when it raises.
DOES = re.compile(
    r"(Adapt|Answer|Apply|Ask|Attack|Begin|Bring|Build|Check|Choose|Compare|Construct|Copy|Craft|Decide|Divide|Draw|Find|"
    r"Fold|Give|Go|Join|Keep|Load|Make|Name|Open|Put|Raise|Read|Refuse|Parse|Bound|Render|Return|Run|Say|Score|Sample|Split|Take|Test|Train|"
    r"Turn|Wait|Write|Yield)\b"
)
WHEN = re.compile(r":class:`(?:\w+\.)*(?:User|Run)Error` (if|where|unless) (.+?)(?:$|\.(?: |$)|; )")


def cause(sentence: Sentence) -> str:
    """Return the line that says what a sentence comes from, or where robustkit says it."""
    if sentence.cause:
        return f"Cause: {prose(sentence.cause).rstrip('.')}."
    if sentence.when.startswith(("If ", "Where ", "When ")):
        return f"When: {prose(sentence.when.partition(' ')[2]).rstrip('.')}."
    if when := WHEN.search(sentence.met):
        return f"When: {'not so: ' if when[1] == 'unless' else ''}{prose(when[2])}."
    text = re.split(r"(?:; |, and )?a :class:`\w+`|\. |; ", sentence.met)[0].rstrip(".,; ")
    if not text or text == "Raise":  # the sentence and the heading say it
        return ""
    for verb, said in (("Return", "Find"), ("Yield", "Go through")):
        text = re.sub(rf"^{verb}\b", said, text)
    return f"Where: robustkit is to {prose(_lower(text))}." if DOES.match(text) else f"Where: {prose(text)}."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def entry(sentence: Sentence, remedies: list[str]) -> list[str]:
    """Return the lines of one sentence: what is wrong, the cause, the remedies that it may name."""
    exits = " (exit code 1)" if sentence.code == 1 else ""
    kept = list(dict.fromkeys(plain(text).strip() for text in remedies if text))
    said = " Or: ".join(f"{text[:1].upper()}{text[1:]}" for text in kept)
    none = "Run the same command again: what finished is kept." if sentence.code == 1 else "Change what it names."
    lines = [f"- {code(plain(sentence.wrong))}{exits}", f"  - {cause(sentence)}", f"  - Remedy: {prose(said or none)}"]
    return [line for line in lines if line.strip("- ")]


def page(sentences: list[Sentence] | None = None) -> str:
    """Return the page: what the user was doing, then who spoke, then the sentences."""
    groups: dict[str, dict[str, list[Sentence]]] = {name: {} for name in DOING}
    for sentence in Sentences().all() if sentences is None else sentences:
        groups.setdefault(doing(sentence.module), {}).setdefault(sentence.module, []).append(sentence)
    groups = {name: modules for name, modules in groups.items() if modules}
    lines = [HEAD, *(f"- [{name}](#{anchor(name)})" for name in groups)]
    for name, modules in groups.items():
        lines += ["", f"## {name}"]
        for module in sorted(modules):
            lines += ["", f"### {title(module)}", ""]
            first: dict[str, Sentence] = {}
            for sentence in modules[module]:
                first.setdefault(sentence.wrong, sentence)
            for wrong, sentence in first.items():
                lines += entry(sentence, [other.remedy for other in modules[module] if other.wrong == wrong])
    return "\n".join(lines) + "\n"


def anchor(name: str) -> str:
    """Return a heading's name in a link, as GitHub makes it."""
    return re.sub(r"[^a-z0-9 -]", "", name.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
