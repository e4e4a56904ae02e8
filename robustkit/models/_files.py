"""Files of networks (``path/to/file.py:factory``): run as modules, and sent to processes that have no such file."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from robustkit.base.errors import UserError

PREFIX = "_robustkit_arch_"
_SENT: dict[str, CodeFile] = {}  # files that came from another process, by what the sender calls them


@dataclass(frozen=True)
class CodeFile:
    """A file of networks on its way.

    Attributes
    ----------
    given : str
        What the sender calls it, as ``--arch`` names it; its bare name where only a class of it travels.
    module : str
        Name of the module that it is run as.
    source : str
        What is in it.
    """

    given: str
    module: str
    source: str


def here(given: str) -> bool:
    """Return whether there is such a file, or one of that name was sent."""
    return given in _SENT or Path(given).is_file()


def source(given: str) -> str:
    """Return what is in a file, or was in the one of that name that was sent."""
    return _SENT[given].source if given in _SENT else Path(given).read_text(encoding="utf-8")


def module_of(given: str, arch: str) -> ModuleType:
    """Run a file as a module of its own, once per process; its folder is importable, as it is for a script.

    A :class:`UserError` says why it cannot be run; ``arch`` is what that is said of.
    """
    if given in _SENT:
        return sys.modules[_SENT[given].module]
    path = Path(given).resolve()
    name = f"{PREFIX}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"architecture '{arch}': '{path}' cannot be imported as Python; give a file that ends in .py.")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, so that dataclasses and pickles in it find their module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = " ".join(str(error).split())[:300]
        # Cause: the file itself raises an error when it is run.
        raise UserError(
            f"architecture '{arch}': running '{path}' failed ({type(error).__name__}: {reason}); mend the file."
        ) from error
    return module


def sent(module: str, given: str | None = None) -> CodeFile | None:
    """Return the file of a module as it travels; None where it came from the other side.

    Without ``given`` it has its bare name, so that nobody learns the folder that it is in.
    """
    if any(file.module == module for file in _SENT.values()):
        return None
    path = Path(str(sys.modules[module].__file__))
    return CodeFile(given or path.name, module, path.read_text(encoding="utf-8"))


def receive(file: CodeFile) -> None:
    """Run a file that was sent, once per process; what it raises is raised."""
    _SENT[file.given] = file
    if file.module in sys.modules:
        return
    module = ModuleType(file.module)
    sys.modules[file.module] = module
    try:
        exec(compile(file.source, Path(file.given).name, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[file.module]
        raise
