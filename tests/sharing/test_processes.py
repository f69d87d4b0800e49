"""More than one process: forked, spawned, and configured by the environment."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from budgetware import (
    Capacity,
    Concurrency,
    QuotaExceeded,
    QuotaService,
    Resource,
    connect,
    reserve,
    reserve_nowait,
    task_budget,
)
from budgetware.errors import BudgetwareError

MANIFEST = """
[resources.org]
limit = { type = "capacity", value = 5 }
enforcement = "reject"
[budgets.small]
calls = 3
"""
PROGRAM = """
from budgetware import connect, current_budget, reserve_nowait, task_budget
from budgetware.errors import BudgetwareError
try:
    reserve_nowait("org", 4).commit()
    with task_budget("small") as budget:
        print("calls", budget.remaining("calls"))
    reserve_nowait("org", 4)
except BudgetwareError as error:
    print(type(error).__name__, error)
with connect() as service:
    print(len(service.resources()))
"""


BUSY = """
import os
import sys
from threading import Thread
from budgetware import Capacity, Resource, connect, reserve_nowait

def spend():
    while not stop:
        reserve_nowait("api", 3).commit(1)

stop = []
sys.setswitchinterval(1e-6)
with connect() as service:
    service.define(Resource("org", Capacity(10**9), "reject"))
    service.define(Resource("api", Capacity(10**9), "reject", parent="org"))
    threads = [Thread(target=spend) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        pid = os.fork()
        if pid == 0:
            api, org = [service.resource(name).balance for name in ("api", "org")]
            reserve_nowait("api", 1).commit()
            os._exit((api.spent, api.reserved) != (org.spent, org.reserved))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print("consistent" if status == 0 else "torn")
    stop.append(True)
    for thread in threads:
        thread.join()
"""


def in_a_fork(work: Callable[[], bool]) -> bool:
    """Whether `work` answers True in a child process; whatever it raises is False."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def run(program: str, folder: Path, manifest: str) -> list[str]:
    environment = os.environ | {"BUDGETWARE_MANIFEST": manifest, "PYTHONWARNINGS": "error"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


# The environment.


def test_the_manifest_of_the_environment_is_in_force(tmp_path: Path) -> None:
    (tmp_path / "quotas.toml").write_text(MANIFEST)
    lines = run(PROGRAM, tmp_path, "quotas.toml")
    calls, refusal, resources = lines
    assert (calls, resources) == ("calls 3", "0")
    assert refusal.startswith("QuotaExceeded resource 'org' has 1 of 5 units left, 4 requested")


def test_a_manifest_in_the_folder_is_not_looked_for(tmp_path: Path) -> None:
    (tmp_path / "budgetware.toml").write_text(MANIFEST)
    assert run(PROGRAM, tmp_path, "")[0].startswith("UnknownResource unknown resource 'org'")


@pytest.mark.parametrize(
    ("manifest", "error"),
    [
        (None, "ManifestError"),
        ("[resources.org]\n", "ManifestError"),
        ('ledger = "sqlite:///missing/x.db"\n', "ConfigurationError"),
    ],
)
def test_a_manifest_of_the_environment_that_is_wrong_is_told_at_first_use(
    tmp_path: Path, manifest: str | None, error: str
) -> None:
    if manifest is not None:
        (tmp_path / "quotas.toml").write_text(manifest)
    lines = run(PROGRAM, tmp_path, "quotas.toml")
    assert lines[0].startswith(error)
    assert lines[-1] == "0"


# Fork.

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@forks
def test_a_child_goes_on_with_a_copy(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "reject"))
    held = reserve_nowait("org", 3)

    def child() -> bool:
        held.commit(1)
        reserve_nowait("org", 4).commit()
        return service.resource("org").balance.remaining == 0

    assert in_a_fork(child)
    assert service.resource("org").balance.reserved == 3
    held.commit(2)
    assert service.resource("org").balance.remaining == 3


@forks
def test_those_who_wait_in_the_parent_do_not_wait_in_the_child(service: QuotaService) -> None:
    service.define(Resource("slots", Concurrency(1), "throttle"))
    held = reserve_nowait("slots")
    served: list[str] = []

    def wait() -> None:
        with reserve("slots"):
            served.append("served")

    waiters = [Thread(target=wait) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    while service.resource("slots").waiting < len(waiters):
        pass

    def child() -> bool:
        if service.resource("slots").waiting:
            return False
        held.release()
        with reserve("slots"):
            return service.resource("slots").balance.reserved == 1

    assert in_a_fork(child)
    assert service.resource("slots").waiting == 3
    held.release()
    for waiter in waiters:
        waiter.join()
    assert served == ["served"] * 3


@forks
def test_a_fork_in_the_midst_of_other_threads_is_consistent(tmp_path: Path) -> None:
    assert run(BUSY, tmp_path, "") == ["consistent"] * 200


# Spawn.


def spawned(spent: int) -> tuple[int, str]:
    with connect() as service:
        service.define(Resource("org", Capacity(5), "reject"))
        with task_budget(calls=5):
            reserve_nowait("org", spent).commit()
            try:
                reserve_nowait("org", 5)
            except QuotaExceeded as error:
                left = service.resource("org").balance.remaining
                assert isinstance(left, int)
                return left, str(error)
    return -1, ""


def test_a_spawned_process_starts_anew(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "reject"))
    reserve_nowait("org", 5).commit()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        left, text = pool.apply(spawned, (2,))
    assert (left, text[:14]) == (3, "resource 'org'")


def test_refusals_travel_between_processes(service: QuotaService) -> None:
    service.define(Resource("org", Capacity(5), "reject", units="seats"))
    with pytest.raises(QuotaExceeded) as refused:
        reserve_nowait("org", 6)
    again: BudgetwareError = pickle.loads(pickle.dumps(refused.value))
    assert isinstance(again, QuotaExceeded)
    assert (str(again), vars(again)) == (str(refused.value), vars(refused.value))
