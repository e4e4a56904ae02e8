"""What keeps Ray from talking: of this process to others, over what a command prints, to a dashboard."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

QUIET = {  # an instance of our own tells nobody, and starts no process that only a dashboard needs
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_RECORD_ACTOR_TASK_LOGGING": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def job(ray: Any) -> Any:
    """Return a job's configuration that takes no path of this process along."""

    class Job(ray.job_config.JobConfig):  # type: ignore[misc]
        def _serialize(self) -> Any:
            self._py_driver_sys_path.clear()
            return super()._serialize()

    return Job()


def _say_nothing(*_: Any, **__: Any) -> None:
    """Print nothing: Ray would tell of each dead worker on stdout, where robustkit's answer stands."""


REPLACED: tuple[tuple[str, str, Any], ...] = (  # in Ray, while a cluster is joined; what a version has not, is left
    ("ray._private.utils", "get_entrypoint_name", lambda: "robustkit"),  # else the command line, with its paths
    ("ray._private.worker", "print_to_stdstream", _say_nothing),
    ("ray._private.ray_constants", "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False),  # else `uv run` sends the whole folder
)


@contextlib.contextmanager
def discreet() -> Iterator[None]:
    """Keep Ray from sending what it knows of this process, and from talking over it."""
    before = []
    for name, attribute, value in REPLACED:
        with contextlib.suppress(ImportError, AttributeError):
            module = importlib.import_module(name)
            before.append((module, attribute, getattr(module, attribute)))
            setattr(module, attribute, value)
    try:
        yield
    finally:
        for module, attribute, value in before:
            setattr(module, attribute, value)
