"""Files of networks (``path/to/file.py:factory``): run as modules, and sent to processes that have no such file."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from robustkit.base.errors import RunError, UserError

PREFIX = "_robustkit_arch_"
_SENT: dict[str, str] = {}  # the module of a file that was sent, by what the sender's --arch calls the file
_CAME: dict[str, bytes] = {}  # what was in each file that was sent, by its module
_READ: dict[str, bytes] = {}  # what was in a file of this machine when its module was made


@dataclass(frozen=True)
class CodeFile:
    """A file of networks on its way.

    Attributes
    ----------
    given : str
        What the sender calls it, as ``--arch`` names it; empty where only a class of it travels.
    name : str
        Its bare name.
    module : str
        Name of the module that it is run as.
    source : bytes
        What is in it, in whatever encoding it says.
    """

    given: str
    name: str
    module: str
    source: bytes


def here(given: str) -> bool:
    """Return whether there is such a file, or one of that name was sent."""
    return given in _SENT or Path(given).is_file()


def source(given: str) -> bytes:
    """Return what is in a file, or was when its module was made or sent."""
    name = _name_of(given)
    return _CAME.get(name) or _READ.get(name) or Path(given).read_bytes()


def _name_of(given: str) -> str:
    resolved = str(Path(given).resolve()).encode()
    return _SENT.get(given) or f"{PREFIX}{hashlib.sha256(resolved).hexdigest()[:12]}"


def module_of(given: str, arch: str) -> ModuleType:
    """Run a file as a module of its own, once per process; its folder is importable, as it is for a script.

    A :class:`UserError` says why it cannot be run; ``arch`` is what that is said of.
    """
    name, path = _name_of(given), Path(given).resolve()
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
        _READ[name] = path.read_bytes()
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = " ".join(str(error).split())[:300]
        # Cause: the file itself raises an error when it is run.
        raise UserError(
            f"architecture '{arch}': running '{path}' failed ({type(error).__name__}: {reason}); mend the file."
        ) from error
    return module


def sent(module: str, given: str = "") -> CodeFile | None:
    """Return the file of a module as it travels, as it was when it was run; None where it came from the other side.

    It has its bare name, so that nobody learns the folder that it is in.
    """
    if module in _CAME:
        return None
    return CodeFile(given, Path(str(sys.modules[module].__file__)).name, module, _READ[module])


def receive(file: CodeFile) -> None:
    """Run a file that was sent, once per process; a :class:`RunError` says what it raises, unless it lacks code."""
    _CAME[file.module] = file.source
    if file.given:
        _SENT[file.given] = file.module
    if file.module in sys.modules:
        return
    module = ModuleType(file.module)
    module.__file__ = file.name
    sys.modules[file.module] = module
    try:
        exec(compile(file.source, file.name, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        del sys.modules[file.module]
        if isinstance(error, ImportError | AttributeError) or not isinstance(error, Exception):
            raise
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"'{file.name}' was sent to a worker and fails there ({type(error).__name__}: {reason}); it travels alone: "
            "what it reads or imports must be on every node. Mend it, or leave --executor out."
        ) from None
