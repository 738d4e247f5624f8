"""Machines of a Ray cluster for tests of failure, on this one: own network, processes and name each.

A machine is a network, a process and a mount namespace; all hang on one bridge, in a namespace of its own
too, so that nothing of the real network changes. It can lose its power (every process gone at once) and
its cable (the link goes down, its processes go on). Files are shared. Needs root and iproute2.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[3]
PORT = 6379
DEADLINE_S = 120

ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "disabled",
    "AWS_ACCESS_KEY_ID": "test",  # of an S3 that may run on one of them
    "AWS_SECRET_ACCESS_KEY": "test",
    # A machine that is silent for about four seconds is dead: tests have no minute to wait.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


def why_not() -> str:
    """Why there can be no machines here; "" where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]
    if missing:
        return f"no {missing[0]} on this machine"
    name = f"vp{os.getpid()}-try"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "network namespaces cannot be made here"
    tried = subprocess.run(
        ["ip", "-n", name, "link", "add", "bridge", "type", "bridge"], capture_output=True
    )
    subprocess.run(["ip", "netns", "del", name], check=True)
    return "bridges cannot be made here" if tried.returncode else ""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Network:
    """`with Network(folder) as network:` a bridge for machines; `folder` takes their logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"vp{os.getpid()}-net"
        self.machines: dict[str, Machine] = {}

    def __enter__(self) -> "Network":
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.name, "link", "set", "bridge", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines.values():
            machine.remove()
        ip("netns", "del", self.name)

    def machine(self, name: str) -> "Machine":
        """A new machine, switched on. Names have few letters."""
        made = self.machines[name] = Machine(self, name, len(self.machines) + 1)
        made.power_on()
        return made


class Machine:
    """One machine; `run` starts a process on it."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.network, self.name = network, name
        self.space = f"{network.name}-{name}"
        self.address = f"10.77.0.{number}"
        ip("netns", "add", self.space)
        pair = ("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("-n", network.name, *pair)
        ip("-n", network.name, "link", "set", name, "master", "bridge", "up")
        ip("-n", self.space, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.space, "link", "set", device, "up")
        self.outer: Any = None
        self.inside = ""

    def power_on(self) -> None:
        """With an empty /tmp/ray and memory of its own for Ray's objects."""
        Path("/tmp/ray").mkdir(exist_ok=True)
        mounts = " && ".join(
            f"mount -t tmpfs -o size={size}m tmpfs {where}"
            for where, size in (("/tmp/ray", 300), ("/dev/shm", 300))
        )
        begin = f"hostname {self.name} && {mounts} && echo on && exec sleep infinity"
        spaces = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        command = ["ip", "netns", "exec", self.space, *spaces, "sh", "-c", begin]
        self.outer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.outer.stdout.readline() == "on\n"
        (self.first,) = psutil.Process(self.outer.pid).children()
        self.inside = _space(self.first)

    def power_off(self) -> None:
        """Every process of it is gone at once."""
        if self.outer is not None:
            self.outer.kill()
            self.outer.wait()
            self.outer, self.inside = None, ""

    def remove(self) -> None:
        self.power_off()
        ip("netns", "del", self.space)

    def cable(self, state: str) -> None:
        """`up` or `down`."""
        ip("-n", self.network.name, "link", "set", self.name, state)

    def run(self, *command: str, log: str, cwd: Path, **environment: str) -> "subprocess.Popen[str]":
        """A process on the machine; what it says is appended to a file of the network's folder."""
        inside = ["nsenter", "-t", str(self.first.pid), "-m", "-u", "-p", "-n", f"--wdns={cwd}"]
        with (self.network.folder / f"{log}.log").open("a") as file:
            return subprocess.Popen(
                [*inside, *command], stdout=file, stderr=file, text=True,
                env={**os.environ, **ENVIRONMENT, **environment},
            )  # fmt: skip

    def ray(self, *arguments: str) -> "subprocess.Popen[str]":
        """Ray on this machine, to be waited for by who needs it."""
        ray = str(Path(sys.executable).with_name("ray"))
        given = ["--node-ip-address", self.address, "--object-store-memory", "100000000"]
        given += ["--disable-usage-stats", "--num-gpus", "0", "--block"]
        command = [sys.executable, ray, "start", *given, *arguments]
        return self.run(*command, log=f"ray-{self.name}", cwd=self.network.folder)

    def processes(self, name: str) -> list[psutil.Process]:
        """Those of the machine whose command line has the word."""
        return [
            p
            for p in psutil.process_iter()
            if self.inside and _space(p) == self.inside and name in _said(p)
        ]


def _space(process: psutil.Process) -> str:
    try:
        return os.readlink(f"/proc/{process.pid}/ns/pid")
    except OSError:
        return ""


def _said(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.Error:
        return ""


def until(holds: Any, what: str, seconds: float = DEADLINE_S) -> None:
    """Wait until `holds()`; `AssertionError` with `what` after too long."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)
