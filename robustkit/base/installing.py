"""How the user installs an extra of this package from where it came. Never imports torch."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DISTRIBUTION = "robustkit-ensembles"  # on the package index; what is called robustkit there is somebody else's
PACKAGES = {  # of the extras that messages name, as in pyproject.toml
    "backends": ("torchattacks>=3.5.1", "foolbox>=3.3.4"),
    "onnx": ("onnx>=1.16", "onnx2torch>=1.5.15"),
    "timm": ("timm>=1.0",),
    "search": ("pymoo>=0.6.1",),
    "ray": ("ray[client]>=2.40",),
}


def install_command(extra: str) -> str:
    """Return the shell command that installs an extra into the running interpreter.

    It names what robustkit was installed from: a folder, a repository, an archive or the package index. Where it
    was not installed it is the folder of its sources; where that is gone too, the packages that the extra stands for.

    Parameters
    ----------
    extra : str
        One of :data:`PACKAGES`.
    """
    wanted = _requirement(extra) or list(PACKAGES[extra])
    return shlex.join([*_installer(), *wanted])


def _installer() -> list[str]:
    python = sys.executable or "python3"
    if find_spec("pip") is None and shutil.which("uv"):
        return ["uv", "pip", "install", "--python", python]
    return [python, "-m", "pip", "install"]


def _requirement(extra: str) -> list[str] | None:
    """Return the arguments that name robustkit with an extra, or None where it cannot be had again."""
    if extra not in PACKAGES:
        raise ValueError(f"extra '{extra}' is none of {', '.join(PACKAGES)}")
    try:
        installed = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        sources = _sources()
        return ["-e", f"{sources}[{extra}]"] if sources else None
    text = installed.read_text("direct_url.json")
    if text is None:  # it came from an index
        return [f"{DISTRIBUTION}[{extra}]"]
    try:
        return _from_url(json.loads(text), extra)
    except (ValueError, KeyError, TypeError, AttributeError):  # not as the specification has it
        return None


def _from_url(origin: Mapping[str, Any], extra: str) -> list[str] | None:
    """Return what a ``direct_url.json`` names, None where it is a path that is gone or a repository on this machine."""
    url: str = origin["url"]
    if url.startswith("file:"):
        path = _path(url)
        if "dir_info" in origin and path.is_dir():
            return [*(["-e"] if origin["dir_info"].get("editable") else []), f"{path}[{extra}]"]
        if not path.exists() or "vcs_info" in origin:  # a URL of no host, as git+file has, older pips refuse
            return None
    if vcs := origin.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if folder := origin.get("subdirectory"):
        url += f"#subdirectory={folder}"
    return [f"{DISTRIBUTION}[{extra}] @ {url}"]


def _path(url: str) -> Path:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(url).path))


def _sources() -> Path | None:
    """Return the folder above the package where it holds this project, else None."""
    folder = Path(__file__).resolve().parents[2]
    try:
        text = (folder / "pyproject.toml").read_text("utf-8")
    except OSError:
        return None
    return folder if re.search(rf'^name\s*=\s*"{DISTRIBUTION}"\s*$', text, re.MULTILINE) else None
