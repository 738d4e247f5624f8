"""A PostgreSQL server of its own, which a test has to itself."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgresql() -> Iterator[str]:
    """Address of an empty database; the test is skipped where this machine has no PostgreSQL."""
    pytest.importorskip("psycopg2", reason="needs psycopg2 (pip install psycopg2-binary)")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    try:
        user = pwd.getpwnam("postgres").pw_name if os.getuid() == 0 else None
    except KeyError:
        pytest.skip("PostgreSQL refuses root, and there is no user postgres")
    if not binaries:
        pytest.skip("no PostgreSQL on this machine")
    home = Path(f"/tmp/postgresql-{os.getpid()}")
    home.mkdir()
    if user:
        shutil.chown(home, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries[-1].with_name(program)), *arguments]
        subprocess.run(command, check=True, user=user, cwd=home, stdout=subprocess.DEVNULL, timeout=60)

    try:
        run("initdb", "-D", f"{home}/data", "-U", "postgres", "-A", "trust", "--no-sync")
        options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c max_connections=400 -c fsync=off"
        run("pg_ctl", "-D", f"{home}/data", "-o", options, "-l", f"{home}/log", "-w", "start")
        yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", f"{home}/data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(home)
