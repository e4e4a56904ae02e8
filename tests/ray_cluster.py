"""A real cluster of Ray for tests: nodes on this machine, in processes with an environment of their own.

The nodes belong to a process of ours (this file as a program, with ``ray.cluster_utils.Cluster``), not to the tests:
so they know nothing of the tests' environment, and a driver can be killed beside them. It ends with its input.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Of the tests' environment.
PASSED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT", "RAY_worker_niceness")
ALIVE = {  # a node that is gone is missed after a second, not after half a minute
    "health_check_initial_delay_ms": 1000, "health_check_period_ms": 200, "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 5,
}  # fmt: skip


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process that keeps everything in a folder, its home included."""
    kept = {name: os.environ[name] for name in PASSED if name in os.environ}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    places = {"HOME": str(folder), "TMPDIR": str(folder), "RAY_TMPDIR": str(folder), "PYTHONPATH": path}
    return {**kept, **places, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", **more}


class RayNodes:
    """A head without CPUs, to which nodes are added and of which they are taken by force; a context manager."""

    def __init__(self, client: bool = False, **env: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rk-"))  # short: sockets lie in it
        self._log = (self.folder / "nodes.log").open("w")
        self._owner = subprocess.Popen(
            [sys.executable, __file__, str(int(client))], env=environment(self.folder, **env), cwd=self.folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        said = self._answer()
        self.address: str = said["address"]
        self.client: str = said["client"]

    def __enter__(self) -> RayNodes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, cpus: int = 1, **env: str) -> int:
        """Add a node; return its number."""
        return int(self._ask(do="add", cpus=cpus, env=env)["node"])

    def kill(self, node: int) -> None:
        """End a node's processes at once, as when its plug is pulled; return when they are gone."""
        self._ask(do="kill", node=node)

    def busy(self) -> dict[int, str]:
        """Return the workers of all nodes that run something, by process."""
        named = {pid: " ".join(words(pid)) for pid in descendants(self._owner.pid)}
        return {pid: name for pid, name in named.items() if name.startswith("ray::run")}

    def close(self) -> None:
        """End everything."""
        if self._owner.poll() is None:
            self._owner.stdin.close()
            try:
                self._owner.wait(30)
            except subprocess.TimeoutExpired:
                self._owner.kill()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ask(self, **asked: Any) -> Any:
        print(json.dumps(asked), file=self._owner.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        for line in self._owner.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the nodes are gone: {(self.folder / 'nodes.log').read_text()[-2000:]}")


def words(pid: int) -> list[str]:
    """Return the command line of a process; empty where it is gone or a zombie."""
    try:
        said = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").rstrip("\0")
        return said.split("\0") if said else []
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(entry.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def holders(folder: Path) -> dict[int, str]:
    """Return the processes that have a folder in their command line or environment, or a file of it open."""
    name, found = str(folder), {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            said = b"".join((entry / part).read_bytes() for part in ("cmdline", "environ")).decode("utf-8", "replace")
            files = [os.readlink(link) for link in (entry / "fd").iterdir()]
        except OSError:  # it has just ended, or is another user's
            continue
        if int(entry.name) != os.getpid() and (name in said or any(name in file for file in files)):
            found[int(entry.name)] = " ".join(words(int(entry.name)))[:200]
    return found


def until(true: Callable[[], Any], seconds: float, ended: Callable[[], Any] = lambda: None) -> bool:
    """Wait until something holds; return whether it does in time, and before something has ended with a status."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end or ended() is not None:
            return bool(true())
        time.sleep(0.02)
    return True


def main(client: bool) -> None:
    """Own the nodes: obey what is read line by line, end with the input."""
    import socket

    import psutil
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head: dict[str, Any] = {"num_cpus": 0, "include_dashboard": False, "_system_config": ALIVE}
    if client:
        head["ray_client_server_port"] = port
    cluster = Cluster(True, head_node_args=head)
    host = cluster.address.rpartition(":")[0]
    print(json.dumps({"address": cluster.address, "client": f"ray://{host}:{port}" if client else ""}), flush=True)
    nodes = []
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "add":
            nodes.append(cluster.add_node(num_cpus=asked["cpus"], env_vars=asked["env"]))
        else:
            node = nodes[asked["node"]]
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            for process in (raylet, *raylet.children(recursive=True)):
                process.kill()
            cluster.remove_node(node, allow_graceful=False)
        print(json.dumps({"node": len(nodes) - 1}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(bool(int(sys.argv[1])))
