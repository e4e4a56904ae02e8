"""A connection to Ray: an instance of our own, as small as can be, or a cluster that is joined as it is."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from robustkit.base.errors import RunError, UserError
from robustkit.base.installing import install_command
from robustkit.evaluation.executors import _guard, _stub
from robustkit.evaluation.executors._address import (
    AUTO,
    CLIENT,
    MODE,
    TOKEN,
    TOKEN_PATH,
    Address,
    closed,
    listening,
    token_set,
)  # fmt: skip
from robustkit.evaluation.executors._quiet import QUIET, discreet, job

STORE_BYTES = 2**31  # of an instance's object store at most: what is shared is small beside what is computed
SHORT = 22  # bytes of the folder for temporary files: Ray adds some 80
LOOKED = 60.0  # seconds in which all nodes have to say their versions
JOINS = 10.0  # seconds for which a node that has just joined may be unknown to whoever hands out tasks ...
AGAIN = 0.2  # ... and after which it is asked again


_LOCK = threading.RLock()
_held: list[Cluster] = []  # of this process: they have one connection in common, which the last of them ends


class Cluster:
    """Ray, connected until :meth:`close`; a process has one connection, which all that name the same cluster share."""

    def __init__(self, address: Address, cpus: int | None = None) -> None:
        self.address = address
        self._before: dict[str, str | None] = {}
        self._folder, self._replaced, self._lent = "", contextlib.ExitStack(), False
        logging.getLogger("ray").setLevel(logging.ERROR)
        self.ray: Any = _imported()
        with _LOCK:
            _held.append(self)
            try:
                self._connect(cpus)
            except BaseException:
                self.close()
                raise

    def _connect(self, cpus: int | None) -> None:
        """Start an instance or join a cluster, if this process is not connected yet."""
        if self.ray.is_initialized():
            self._lent = True
            if (other := _held[0].address.text) != self.address.text:
                # Cause: two evaluations of one Python process name different clusters at a time.
                raise UserError(
                    f"this process is connected to '{other}' and has one connection to Ray at a time; name the same "
                    f"executor instead of '{self.address.text}', or begin when the other has ended."
                )
            return
        self._replaced.enter_context(discreet())
        if self.address.joined:
            self._join()
            self.check()
        else:
            self._start(cpus)

    def _start(self, cpus: int | None) -> None:
        """Start an instance of our own, with a token of its own that nothing writes into the home."""
        self._folder = _short_folder()
        self._replaced.callback(_guard.dismiss, _guard.start(self._folder))
        self._before = {name: os.environ.get(name) for name in (MODE, TOKEN, *QUIET)}
        os.environ.update(QUIET | {_guard.MARK: self._folder})
        if not (TOKEN in os.environ or TOKEN_PATH in os.environ):  # else what is set is used, as it is
            os.environ[TOKEN] = secrets.token_hex(32)
            _read_anew()
        try:
            self.ray.init(
                "local", num_cpus=cpus or cores(), include_dashboard=False, log_to_driver=False,
                logging_level=logging.ERROR, object_store_memory=_store_bytes(), _temp_dir=self._folder,
                job_config=job(self.ray),
            )  # fmt: skip
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise RunError(f"Ray does not start on this machine: {said}; --executor local needs no Ray.") from None
        finally:
            os.environ.pop(_guard.MARK, None)  # what this process starts from now on is not ended with Ray's own

    def _join(self) -> None:
        """Join a cluster; a :class:`UserError` says why that cannot be."""
        listening(self.address)
        client = self.address.client or (not self.address.host and os.environ.get("RAY_ADDRESS", "").startswith(CLIENT))
        try:
            # A client's job is configured where its server runs, and no path of ours is known.
            options = {} if client else {"log_to_driver": False, "job_config": job(self.ray)}
            self.ray.init(self.address.text, logging_level=logging.ERROR, **options)
        except Exception as error:
            raise UserError(_sentence(self.address.text, error)) from None

    def check(self) -> None:
        """Raise a :class:`UserError` where a node has other versions than this process."""
        here, began, look = _stub.versions(), time.monotonic(), self._looks()
        asked = {node: look(node) for node in self._alive()}
        found = [one for node, ref in asked.items() if (one := self._versions(node, ref, look, began))]
        if not found:
            raise UserError(f"the cluster at '{self.address.text}' has no node; start one (ray start).")
        for there, where in found:
            if there != here:
                raise UserError(differing(where["node"], there))

    def _alive(self) -> set[str]:
        return {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}

    def _called(self, node: str) -> str:
        """Return a node's name, which others on its machine share, and the beginning of its id."""
        names = {one["NodeID"]: one["NodeName"] for one in self.ray.nodes()}
        return f"{names.get(node, '')} {node[:12]}".strip()

    def _looks(self) -> Callable[[str], Any]:
        """Return what starts a look at a node, by its id; what is sent for all of them is made once."""
        on = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        task = self.ray.remote(by_value(self.ray, _stub.look))
        return lambda node: task.options(num_cpus=0, scheduling_strategy=on(node, soft=False)).remote()

    def _versions(self, node: str, ref: Any, look: Callable[[str], Any], began: float) -> Any:
        """Return what a node says of itself; None if it has left meanwhile."""
        errors = self.ray.exceptions
        while True:
            try:
                return self.ray.get(ref, timeout=max(0.0, began + LOOKED - time.monotonic()))
            except errors.RayError as error:
                if node not in self._alive():
                    return None
                # Whoever hands out tasks learns a moment later than ray.nodes() that a node has joined.
                if isinstance(error, errors.TaskUnschedulableError) and time.monotonic() < began + JOINS:
                    time.sleep(AGAIN)
                    ref = look(node)
                    continue
                said = " ".join(str(error).splitlines()[-1:])[:200]
                raise UserError(
                    f"node {self._called(node)} of '{self.address.text}' does not answer ({said}); end it there (ray "
                    "stop), or start it anew, and run the same command again."
                ) from None

    def check_alive(self, error: BaseException) -> None:
        """Raise a :class:`RunError` where what took a piece has ended Ray itself here: no try can succeed."""
        errors = self.ray.exceptions
        alone = not self.address.joined and len(self.ray.nodes()) == 1
        if isinstance(error, errors.LocalRayletDiedError) or (alone and isinstance(error, errors.NodeDiedError)):
            raise RunError("Ray's own process on this machine (raylet) has died; the same command goes on.") from None

    def close(self) -> None:
        """Leave a cluster, or end our own instance with all its processes, unless others here still use it."""
        with _LOCK:
            if self not in _held:
                return
            _held.remove(self)
            if not self._lent and _held:
                self._hand_over(_held[0])
            elif not self._lent:
                self._end()

    def _hand_over(self, heir: Cluster) -> None:
        """Leave it to another one to end the connection."""
        heir._before, heir._folder, heir._replaced = self._before, self._folder, self._replaced
        heir._lent, self._lent = False, True

    def _end(self) -> None:
        with contextlib.suppress(Exception):
            self.ray.shutdown()
        self._replaced.close()
        for name, value in self._before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        if self._before:
            _read_anew()
        self._before = {}
        if self._folder:
            _guard.end(self._folder)  # Ray's agents stay for a minute where its own end was interrupted


def _imported() -> Any:
    """Import Ray; a :class:`UserError` says why an installed one cannot be."""
    try:
        return importlib.import_module("ray")
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        # Cause: its packages and another one's do not go together, or its installation was left half done.
        raise UserError(f"Ray is installed and cannot be imported ({said}); {install_command('ray')}") from None


def _read_anew() -> None:
    """Let Ray read mode and token from the environment again: it keeps both in the process beside it."""
    with contextlib.suppress(Exception):
        _raylet: Any = importlib.import_module("ray._raylet")
        _raylet.Config.initialize("")
        _raylet.AuthenticationTokenLoader.instance().reset_cache()


def differing(node: str, there: dict[str, str]) -> str:
    """Return the sentence that names the versions of a node that are not those of this process."""
    here = _stub.versions()
    told = [name for name in here if name != "its source" or there.get("robustkit")]
    others = [name for name in told if there.get(name) != here[name]]
    lacking = {"its source": "is older"}  # a robustkit that is there and cannot tell is of before it could
    parts = [
        f"{name} {there.get(name) or lacking.get(name, 'is not installed')} there, {here[name]} here" for name in others
    ]
    return f"node {node} has other versions ({'; '.join(parts)}); install the same on every node."


def by_value(ray: Any, function: Any) -> Any:
    """Return a function of :mod:`_stub` that travels as code: a node without robustkit can run it."""
    ray.cloudpickle.register_pickle_by_value(_stub)
    return function


def _short_folder() -> str:
    """Make a folder with a short path: sockets lie in it, whose paths have 107 bytes at most; Windows has none."""
    usual = tempfile.gettempdir()
    short = os.name == "nt" or len(os.fsencode(usual)) <= SHORT
    return tempfile.mkdtemp(prefix="rk-ray-", dir=usual if short else "/tmp")


def cores() -> int:
    """Return how many cores this process may use; where the system does not say that, how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _store_bytes() -> int | None:
    """Return how much Ray's store may take; None, Ray's own choice, where the system does not say what there is."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return int(max(100 * 2**20, min(STORE_BYTES, 0.2 * pages * size)))


def _sentence(text: str, error: Exception) -> str:
    """Return in a sentence why a cluster cannot be joined."""
    said = " ".join(str(error).split())
    if "ersion mismatch" in said:
        found = re.findall(r"(?:Ray|Python): ([\w.]+)", said)
        ray_there, python_there, ray_here, python_here = (found + ["?"] * 4)[:4]
        return (
            f"the cluster at '{text}' runs Ray {ray_there} and Python {python_there}, this process Ray {ray_here} and "
            f"Python {python_here}; install the same on both."
        )
    # Ray alone says nothing of the token that was missing; where gRPC is there, it was asked for before.
    unasked = find_spec("grpc") is None or text == AUTO
    if "uthentication" in said or "oken" in said or (unasked and not token_set()):
        return closed(text)
    if "Traceback (most recent call last)" in said:  # of its client server; what was raised there stands last
        said = [line.strip() for line in str(error).splitlines() if line.strip()][-1].rstrip(".")
    return f"the cluster at '{text}' cannot be joined: {said[:200]}."
