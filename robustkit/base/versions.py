"""The versions of everything that may have a part in a number. Never imports torch."""

from __future__ import annotations

import os
import platform
import re
import sys

from robustkit.base.version import __version__

# Whose versions may have a part in a number; those of them that are installed are noted.
DISTRIBUTIONS = (
    "torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors", "torchattacks", "foolbox", "onnx",
    "onnx2torch", "timm",
)  # fmt: skip
DRAWN = ("matplotlib", "pillow", "jinja2", "rich")  # of whose versions the look of a page depends, and no number
DESCRIBED = (".dist-info", ".egg-info", ".egg-link")  # how what describes a distribution is named


def versions() -> dict[str, str]:
    """Return the versions of robustkit, Python and every distribution that may have a part in a number."""
    from importlib.metadata import PackageNotFoundError, version  # takes longer than a command that is only looked up

    found = {"robustkit": __version__, "python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def installed() -> list[str]:
    """Return where these distributions, and those that pages are drawn with, are described, and since when.

    Another version, or the same one installed anew, is another description. It is found by a listing of names, in a
    tenth of the time of :func:`versions`, which reads every description.
    """
    named = {*DISTRIBUTIONS, *DRAWN}
    found = []
    for place in dict.fromkeys(sys.path):
        try:
            names = os.listdir(place or os.curdir)
        except NotADirectoryError:
            found.append(_since(place))  # an archive of modules
        except OSError:  # not there, like the usual archive of the standard library
            continue
        else:
            told = (name for name in names if name.endswith(DESCRIBED))
            found += [_since(os.path.join(place, name)) for name in told if _distribution(name) in named]
    return sorted(found)


def _distribution(name: str) -> str:
    """Return the name of a distribution as pip says it, given that of the folder that describes it."""
    return re.sub(r"[-_.]+", "-", re.split(r"-\d|\.(?:dist|egg)-", name)[0]).lower()


def _since(path: str) -> str:
    """Return a path with the time of the description in it, which is written whenever something is installed."""
    inside = (os.path.join(path, name) for name in ("METADATA", "PKG-INFO"))
    return f"{path} {os.stat(next(filter(os.path.isfile, inside), path)).st_ctime_ns}"
