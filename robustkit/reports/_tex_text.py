r"""Any text as LaTeX that pdflatex, xelatex, lualatex and tectonic set alike, without a package.

pdflatex sets no Greek, Chinese or emoji outside mathematics: what has a command is written as one; of the rest a
Unicode engine is given the character and pdflatex its base letters or its number, chosen by the engine.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "`": "`{}",
}  # fmt: skip
_LETTERS = {
    "ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L", "ı": "i",
    "£": "pounds", "§": "S", "¶": "P", "©": "copyright", "…": "ldots", "™": "texttrademark", "†": "textdagger",
    "‡": "textdaggerdbl", "•": "textbullet",
}  # fmt: skip
_PLAIN = {
    "–": "--", "—": "---", "‐": "-", "‑": "-", "‘": "`", "’": "'", "“": "``", "”": "''", "\u00a0": "~", "\u2009": r"\,",
    "\u202f": r"\,", "¡": "!`", "¿": "?`",
}  # fmt: skip
_MATHS = {
    "±": r"\pm", "∓": r"\mp", "×": r"\times", "·": r"\cdot", "÷": r"\div", "−": "-", "≤": r"\leq", "≥": r"\geq",
    "≠": r"\neq", "≈": r"\approx", "≪": r"\ll", "≫": r"\gg", "«": r"\ll", "»": r"\gg", "∞": r"\infty", "∈": r"\in",
    "∉": r"\notin", "√": r"\surd", "✓": r"\surd", "∑": r"\sum", "∏": r"\prod", "∂": r"\partial", "∇": r"\nabla",
    "→": r"\rightarrow", "←": r"\leftarrow", "↑": r"\uparrow", "↓": r"\downarrow", "↔": r"\leftrightarrow",
    "⇒": r"\Rightarrow", "⇐": r"\Leftarrow", "⇔": r"\Leftrightarrow", "°": r"^{\circ}", "µ": r"\mu", "ℓ": r"\ell",
    "∥": r"\|", "‖": r"\|", "∪": r"\cup", "∩": r"\cap", "⊂": r"\subset", "∅": r"\emptyset", "∀": r"\forall",
    "∃": r"\exists", "∝": r"\propto", "≡": r"\equiv", "∼": r"\sim", "⟨": r"\langle", "⟩": r"\rangle",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "‰": r"\,^{0}\!/_{00}", "¬": r"\neg",
    "ε": r"\varepsilon", "ϵ": r"\epsilon", "φ": r"\varphi", "ϕ": r"\phi", "ς": r"\varsigma", "ϑ": r"\vartheta",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0304": "=", "\u0307": ".",
    "\u030a": "r", "\u030c": "v", "\u030b": "H", "\u0327": "c", "\u0306": "u", "\u0323": "d", "\u0331": "b",
}  # fmt: skip
_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEZHIKMNOPTYXo", strict=True))  # Greek letters that TeX has as Latin ones
_MINUS = re.compile(r"(?:(?<=^)|(?<=[\s(\[=,/]))-(?=\.?\d)")
_DIFFERENCE = re.compile(r"(?<=\S) - (?=\S)")
_TIMES = re.compile(r"(?<=\d) ?x ?(?=\d)|(?<=\d) x (?=\w)")
_POWER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-]\d+)(?!\w)")


def escape(text: str) -> str:
    """Return a text as LaTeX, on one line; hyphens that are minus signs are minus signs, ``3 x`` is a product."""
    text = " ".join(text.split())
    text = _MINUS.sub("−", text)
    text = _DIFFERENCE.sub(" − ", text)
    text = _TIMES.sub(lambda m: m.group().replace("x", "×"), text) if not re.search(r"\b0x\w", text) else text
    parts = re.split(_POWER, text)  # text, mantissa, exponent, text, ...
    found = [_characters(parts[0])]
    for at in range(1, len(parts), 3):
        found += [power(parts[at], parts[at + 1]), _characters(parts[at + 2])]
    return "".join(found)


def power(mantissa: str, exponent: str) -> str:
    """Return ``4.5`` and ``-05`` as 4.5 times ten to the -5."""
    return rf"${mantissa}\times10^{{{int(exponent)}}}$"


def breakable(latex: str) -> str:
    """Return escaped text in which a line may break after what joins words in names and paths, or in a long one."""
    text = re.sub(r"(?<=[A-Za-z0-9])(/|\\_|\.|=|:)(?=[A-Za-z0-9\\])", r"\1\\allowbreak{}", latex)
    return re.sub(r"(?<![\\A-Za-z0-9])[A-Za-z0-9]{25,}", lambda m: _cut(m.group()), text)


def _cut(word: str) -> str:
    return r"\allowbreak{}".join(word[at : at + 8] for at in range(0, len(word), 8))


def as_set(text: str) -> str:
    """Return a text with what pdflatex sets for the characters that it does not have: the widest that it gets."""
    if text.isascii():
        return text
    return "".join(one if latex else _stand_in(one) for one, latex in _runs(unicodedata.normalize("NFC", text)))


def _characters(text: str) -> str:
    found = [_by_engine(one) if latex is None else latex for one, latex in _runs(unicodedata.normalize("NFC", text))]
    # Two hyphens would be a dash, and what follows them has to stay an option's name.
    return re.sub(r"(?<!-)--(?=\w)", "-{}-", "".join(found)) if "--" in text else "".join(found)


def _runs(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield each character with its LaTeX, and None with as many in a row as only a Unicode engine has."""
    other = ""
    for c in text:
        latex = _character(c)
        if latex is None:
            other += c
            continue
        if other:
            yield other, None
        other = ""
        yield c, latex
    if other:
        yield other, None


def _character(c: str) -> str | None:
    """Return one character as LaTeX, None where only a Unicode engine has it."""
    if c in _SPECIAL:
        return _SPECIAL[c]
    if c.isascii():
        return c if c.isprintable() else ""
    if c in _LETTERS:
        return f"\\{_LETTERS[c]}{{}}"
    if c in _PLAIN or c in _LATIN:
        return _PLAIN.get(c) or _LATIN[c]
    if c in _MATHS:
        return f"${_MATHS[c]}$"
    name = unicodedata.name(c, "")
    if greek := re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", name):
        letter = greek[2].replace("LAMDA", "LAMBDA").lower()
        return rf"$\{letter if greek[1] == 'SMALL' else letter.capitalize()}$"
    if script := re.fullmatch(r"(SUBSCRIPT|SUPERSCRIPT) (\w+)", name):
        digit = unicodedata.normalize("NFKC", c)
        return f"${'_' if script[1] == 'SUBSCRIPT' else '^'}{{{digit}}}$" if digit.isalnum() else None
    base, *marks = list(unicodedata.normalize("NFD", c))
    if len(marks) == 1 and marks[0] in _ACCENTS and base.isascii():
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    return "" if unicodedata.category(c) in ("Cc", "Cf", "Mn", "Cs") else None


def _by_engine(text: str) -> str:
    r"""Return characters as they are where the engine has them (it knows ``\Umathchar``), else what stands for them."""
    return rf"\ifdefined\Umathchar {text}\else {_stand_in(text)}\fi{{}}"


def _stand_in(text: str) -> str:
    plain = [c for c in unicodedata.normalize("NFKD", text) if c.isascii() and c.isalnum()]
    return "".join(plain) if len(plain) >= len(text) else "[" + " ".join(f"U+{ord(c):04X}" for c in text) + "]"
