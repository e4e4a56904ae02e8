"""Which code a thing on its way names: a file of networks travels with it, of a module both sides must have the same.

Classes and functions are pickled by name, architectures as ``module:factory`` or ``file.py:factory``. Versions say
nothing of code that is not installed, so its source is compared.
"""

from __future__ import annotations

import functools
import importlib
import sys
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from robustkit import models
from robustkit.base import source
from robustkit.base.errors import RunError
from robustkit.models import _files

BY_VERSION = {"robustkit", "torch", "numpy", "ray", "__main__", *sys.stdlib_module_names}  # or refused in other words


@dataclass
class Code:
    """What was named.

    Attributes
    ----------
    files : dict of (str, str) to CodeFile
        Files of networks, by what the sender calls them and by their module: two folders may have one of each name.
    modules : dict of str to str
        SHA-256 of the source of every other module.
    """

    files: dict[tuple[str, str], _files.CodeFile] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)

    def note(self, value: Any) -> None:
        """Note the code that a value names: it is a class or a function, or a record of ours with an architecture."""
        if isinstance(value, type | FunctionType):
            self._module(str(value.__module__))
            return
        ours = type(value).__module__.partition(".")[0] == "robustkit"  # what others call `arch` is theirs to say
        arch = getattr(value, "arch", None) if ours else None
        if isinstance(arch, str) and models.is_code(arch):
            name, _ = models.factory_parts(arch)
            if name.endswith(".py"):
                self._file(_files.module_of(name, arch).__name__, name)
            else:
                self._module(models.imported(name, arch).__name__)

    def _module(self, name: str) -> None:
        if name.startswith(_files.PREFIX):
            self._file(name)
        elif name.partition(".")[0] not in BY_VERSION and (digest := _digest(name)):
            self.modules[name] = digest

    def _file(self, module: str, given: str = "") -> None:
        file = _files.sent(module, given)
        if file is not None:
            self.files[given, module] = file

    def meet(self) -> None:
        """Run the files, and compare the modules with those here; a :class:`RunError` names one that differs."""
        for file in self.files.values():
            _files.receive(file)
        if self.modules and "" not in sys.path:
            sys.path.insert(0, "")  # as where the command runs, whose folder an instance of our own shares
        for name, digest in self.modules.items():
            importlib.import_module(name)
            if _digest(name) != digest:
                raise RunError(
                    f"module '{name}' has another source there than where the command runs; install the same on every "
                    "node, or leave --executor out."
                )


@functools.cache
def _digest(name: str) -> str:
    """Return the SHA-256 of a module's source; empty where there is none to read."""
    path = str(getattr(sys.modules.get(name), "__file__", None))
    return source.of_file(path) if path.endswith(".py") else ""
