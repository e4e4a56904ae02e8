"""In which line of a TOML file each key and each value of a list stands, which the standard reader does not say.

Never imports torch.
"""

from __future__ import annotations

import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Path = tuple[str | int, ...]  # keys, and places in lists, from the outermost
STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""+' r"|'''.*?'''+" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'", re.DOTALL
)  # what opens with three quotes may close with up to five
BARE = re.compile(r"[A-Za-z0-9_-]+")
PLAIN = re.compile(r"[^,\]}\r\n#]+")
BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


def parse(text: str) -> dict[str, Any]:
    """Return what a TOML text holds; ``ValueError`` says where it is none."""
    content: dict[str, Any] = tomllib.loads(text)
    return content


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every key and of every value of a list in a TOML text that :func:`parse` accepts.

    A table's line is that of its header, or of its first key where it has none.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    """Walks over a valid text once; what is wrong with an invalid one is for the reader to say."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.lines: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._more():
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        several = self.text.startswith("[[", self.at)
        self.at += 1 + several
        start = self.at
        named = self._key()
        path = self._resolved(named[:-1]) + named[-1:]
        if several:
            path += (sum(len(known) == len(path) + 1 and known[:-1] == path for known in self.lines),)
        self._note(path, start)
        self._more()
        self.at += 1 + several
        return path

    def _resolved(self, keys: Path) -> Path:
        """Return a path in which the name of a list of tables stands for its last one."""
        path: Path = ()
        for key in keys:
            path += (key,)
            places = [known[-1] for known in self.lines if known[:-1] == path and isinstance(known[-1], int)]
            path += (max(places),) if places else ()
        return path

    def _pair(self, table: Path) -> None:
        start = self.at
        path = table + self._key()
        self._note(path, start)
        self._more()
        self.at += 1  # the equals sign
        self._value(path)

    def _key(self) -> Path:
        parts: list[str | int] = []
        while True:
            self._more()
            match = STRING.match(self.text, self.at) or BARE.match(self.text, self.at)
            if match is None:
                raise ValueError(f"no key at {self.at}")
            parts.append(next(iter(parse(f"{match[0]} = 0"))))
            self.at = match.end()
            self._more()
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _value(self, path: Path) -> None:
        self._more()
        opened = self.text[self.at]
        if opened not in "[{":
            match = STRING.match(self.text, self.at) or PLAIN.match(self.text, self.at)
            self.at = match.end() if match else len(self.text)
            return
        self.at += 1
        count = 0
        while self._more(",") and self.text[self.at] not in "]}":
            if opened == "{":
                self._pair(path)
            else:
                self._note((*path, count), self.at)
                self._value((*path, count))
            count += 1
        self.at += 1

    def _more(self, also: str = "") -> bool:
        """Go on to the next thing, over blanks and comments; return whether there is one."""
        while True:
            match = BLANK.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if not also or not self.text.startswith(also, self.at):
                return self.at < len(self.text)
            self.at += len(also)

    def _note(self, path: Path, at: int) -> None:
        line = self.text.count("\n", 0, at) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)
