# ruff: noqa: PTH110, PTH118, PTH123, PTH208 - pathlib would double this process
"""The program that starts children, watches them, ends them and counts what they used.

It runs in a process of its own, with the standard library alone: `appointing` starts it, once per
process. For each child it forks, and that copy has care of one child and of all that descends
from it: whatever loses its parent becomes the copy's own, so that nothing gets away, and all that
was used is in its `RUSAGE_CHILDREN`, to the microsecond. It ends them when the socket to the host
is shut, which it also is when the host dies.

Beyond Linux nobody inherits what loses its parent: there a child's process group is ended, and
only the kernel's own limits are kept. Not here: what is allowed (`shares`).
"""

from __future__ import annotations

import errno
import gc
import marshal
import os
import resource
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False  # importing typing would cost a third of what this process takes
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

TICK_SECONDS = 0.05
"""How often the memory of several processes is looked at."""
SHORTEST_SECONDS = 0.001
PATIENCE_SECONDS = 5.0
"""How long those that were killed are waited for."""
MOST_FDS = 8
ON_LINUX = sys.platform == "linux"
HAS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
PAGE_BYTES = resource.getpagesize()
_SUBREAPER, _PARENT_DEATH = 36, 1  # of prctl(2)
_CPU_OF_PROCESS = 2  # CPUCLOCK_SCHED


def _load_prctl() -> Any:
    """The call that asks the Linux kernel for something of this process; None without it."""
    try:
        import ctypes

        return ctypes.CDLL(None).prctl if ON_LINUX else None
    except (ImportError, OSError, AttributeError):
        return None


# The tree of processes.


def descendants(pid: int) -> list[int]:
    """All that descend from a process, parents before their children; none beyond Linux."""
    found = children_of(pid)
    for child in found:  # it grows meanwhile
        found.extend(children_of(child))
    return found


def children_of(pid: int) -> list[int]:
    """Those whose parent is `pid` now."""
    if not HAS_CHILDREN:
        all_pids = [name for name in os.listdir("/proc") if name.isdecimal()] if ON_LINUX else []
        return [int(each) for each in all_pids if fields_of(f"{each}/stat")[1:2] == [str(pid)]]
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []  # it has gone
    lists = [fields_of(f"{pid}/task/{thread}/children") for thread in threads]
    return [int(child) for children in lists for child in children]


def fields_of(name: str) -> list[str]:
    """The words of a file of /proc, those of `stat` from the third on; none if it has gone."""
    try:
        with open(f"/proc/{name}") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def used_cpu_ns() -> int:
    """CPU time of all that ever descended from this process, those that still run included."""
    total = reaped_cpu_micros() * 1000
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    for pid in descendants(os.getpid()):
        fields = fields_of(f"{pid}/stat")
        if fields:  # first what it has reaped, so that nothing is counted twice
            total += (int(fields[13]) + int(fields[14])) * tick_ns
        try:
            total += time.clock_gettime_ns(~pid << 3 | _CPU_OF_PROCESS)
        except OSError:
            continue
    return total


def reaped_cpu_micros() -> int:
    """CPU time of those that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(used.ru_utime * 1e6) + round(used.ru_stime * 1e6)


def peak_bytes() -> int:
    """The most memory that any one of those that have ended held at once."""
    highest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def resident_bytes(most: int) -> int:
    """The memory all descendants hold now; what they share counts once, if it might matter."""
    pids = descendants(os.getpid())
    pages = [fields_of(f"{pid}/statm") for pid in pids]
    total = sum(int(fields[1]) for fields in pages if fields) * PAGE_BYTES
    return total if total <= most or len(pids) == 1 else sum(map(_proportional_bytes, pids))


def _proportional_bytes(pid: int) -> int:
    fields = fields_of(f"{pid}/smaps_rollup")
    return int(fields[fields.index("Pss:") + 1]) * 1024 if "Pss:" in fields else 0


# One child.


class Watch:
    """One child and all that descends from it, in a process that has nothing else to do."""

    def __init__(self, order: dict[str, Any], control: int, host: int | None) -> None:
        self.order = order
        self.control = control
        self.host = host
        self.root = 0
        self.status: int | None = None
        self.started_ns = self.ended_ns = time.monotonic_ns()
        self.limit: str | None = None
        self.peak = 0
        self.next_look_ns = 0
        self.cores = os.cpu_count() or 1
        self.bell, ring = os.pipe()
        os.set_blocking(self.bell, False)
        os.set_blocking(ring, False)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _rung)

    def start(self, streams: list[int], prctl: Any) -> tuple[int, bytes] | None:
        """Start the child, or return the number of the error and what it is of."""
        program = Program(self.order, prctl)
        reader, writer = os.pipe()
        self.started_ns = time.monotonic_ns()
        self.root = os.fork()
        if not self.root:
            _become(self.order, program, streams, writer)
        os.close(writer)
        for fd in streams:
            os.close(fd)
        with os.fdopen(reader, "rb") as failing:
            failure = failing.read()
        if not failure:
            return None
        os.waitpid(self.root, 0)
        number, subject = marshal.loads(failure)  # noqa: S302 - of our own
        return number, subject

    def run(self) -> None:
        """Wait until the child has ended, or must; then end all that is left."""
        poll = select.poll()
        for fd in (self.control, self.bell, self.host):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        while self.status is None and self.limit is None:
            ready = [fd for fd, _event in poll.poll(self._pause_seconds() * 1000)]
            if self.bell in ready:
                os.read(self.bell, 4096)
            self._reap()
            if self.status is None:
                self.limit = self._exceeded()
            if self.control in ready or (self.host is not None and self.host in ready):
                break
        self._end()

    def _pause_seconds(self) -> float:
        """How long nothing can be exceeded that would not be told of."""
        pauses: list[float] = [3600.0]
        now_ns = time.monotonic_ns()
        if self.order["wall_seconds"] is not None:
            pauses.append(self.order["wall_seconds"] - (now_ns - self.started_ns) / 1e9)
        if self.order["cpu_micros"] is not None and ON_LINUX:
            rest_ns = self.order["cpu_micros"] * 1000 - used_cpu_ns()
            pauses.append(max(SHORTEST_SECONDS, rest_ns / 1e9 / self.cores))
        if self.order["memory"] is not None and ON_LINUX:
            pauses.append(max(SHORTEST_SECONDS, (self.next_look_ns - now_ns) / 1e9))
        return max(0.0, min(pauses))

    def _exceeded(self) -> str | None:
        order, now_ns = self.order, time.monotonic_ns()
        wall_seconds = order["wall_seconds"]
        if wall_seconds is not None and now_ns - self.started_ns >= wall_seconds * 1e9:
            return "wall"
        if not ON_LINUX:
            return None
        if order["cpu_micros"] is not None and used_cpu_ns() >= order["cpu_micros"] * 1000:
            return "cpu"
        if order["memory"] is not None and now_ns >= self.next_look_ns:
            self.next_look_ns = now_ns + int(TICK_SECONDS * 1e9)
            held = resident_bytes(order["memory"])
            self.peak = max(self.peak, held)
            if held > order["memory"]:
                return "memory"
        return None

    def _reap(self) -> None:
        """Take note of whoever has ended."""
        while self.status is None:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._reaped(pid, status)

    def _reaped(self, pid: int, status: int) -> None:
        if pid == self.root:
            self.status = status
            self.ended_ns = time.monotonic_ns()

    def _end(self) -> None:
        """Kill all that is left, and what comes while that is done; wait until all are gone.

        What nobody here may kill, or the kernel does not let go, is not waited for without end.
        """
        until_ns = time.monotonic_ns() + int(PATIENCE_SECONDS * 1e9)
        while time.monotonic_ns() < until_ns:
            for pid in descendants(os.getpid()):
                _kill(os.kill, pid)
            if self.status is None or not ON_LINUX:
                _kill(os.killpg, self.root)
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid:
                self._reaped(pid, status)
            elif select.select([self.bell], [], [], TICK_SECONDS)[0]:
                os.read(self.bell, 4096)

    def report(self) -> dict[str, Any]:
        """What it came to."""
        status = int(signal.SIGKILL) if self.status is None else self.status
        used = reaped_cpu_micros()
        most = self.order["cpu_micros"]
        was_cut = os.WIFSIGNALED(status)
        if self.limit is None and was_cut and most is not None and used >= most:
            self.limit = "cpu"  # the kernel was faster
        return {
            "returncode": os.waitstatus_to_exitcode(status),
            "cpu_micros": used,
            "peak_memory_bytes": max(self.peak, peak_bytes()),
            "duration_ns": self.ended_ns - self.started_ns,
            "limit": self.limit,
        }


def _rung(_number: int, _frame: object) -> None:
    """The bell has rung; who it was is asked later."""


def _kill(how: Any, pid: int) -> None:
    try:
        how(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it has gone, or is another user's
        return


def _become(order: dict[str, Any], program: Program, streams: list[int], failing: int) -> NoReturn:
    """Turn this new process into the program; never returns. What it does here is charged."""
    subject = order["cwd"]
    try:
        os.setsid()
        if program.prctl is not None:
            program.prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        os.chdir(order["cwd"])
        subject = order["args"][0]
        for which, most in program.limits:
            resource.setrlimit(which, most)
        program.execute(order)
    except BaseException as error:
        code = error.errno if isinstance(error, OSError) else errno.ENOMEM
        os.write(failing, marshal.dumps((code, subject)))
    os._exit(127)


class Program:
    """What a new process needs to become the program, made ready before there is one."""

    def __init__(self, order: dict[str, Any], prctl: Any) -> None:
        self.prctl = prctl
        self.limits = list(_limits(order))
        name = order["args"][0]
        path = order["env"].get(b"PATH", os.defpath.encode())
        folders = [b""] if b"/" in name else path.split(b":")
        self.paths = [os.path.join(folder, name) for folder in folders]

    def execute(self, order: dict[str, Any]) -> None:
        """Try each folder; where it is in none, raise what says most about that."""
        worst: OSError | None = None
        for path in self.paths:
            try:
                os.execve(path, order["args"], order["env"])  # noqa: S606
            except (FileNotFoundError, NotADirectoryError) as error:
                worst = worst or error
            except OSError as error:
                if worst is None or isinstance(worst, FileNotFoundError | NotADirectoryError):
                    worst = error
        assert worst is not None
        raise worst


def _limits(order: dict[str, Any]) -> Iterator[tuple[int, tuple[int, int]]]:
    """What the kernel stops, as the watch would be too late for it; of each process by itself."""
    wanted = [(resource.RLIMIT_CORE, 0)]
    if order["cpu_micros"] is not None:  # above it, so that the exact watch comes first
        wanted.append((resource.RLIMIT_CPU, order["cpu_micros"] // 1_000_000 + 1))
    if order["memory"] is not None:
        wanted.append((resource.RLIMIT_AS, order["memory"]))
    for which, most in wanted:
        hard = resource.getrlimit(which)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        yield which, (least, least)


def care(fds: list[int], host: int | None, prctl: Any) -> None:
    """Start the child that was asked for; end it in time, and tell what it came to."""
    control, page, *streams = fds
    if prctl is not None:
        prctl(_SUBREAPER, 1, 0, 0, 0)
    with os.fdopen(page, "rb") as paper:
        order: dict[str, Any] = marshal.load(paper)  # noqa: S302 - of our host
    watch = Watch(order, control, host)
    is_shut = bool(select.select([control], [], [], 0)[0])
    failure = (errno.ECANCELED, b"") if is_shut else watch.start(streams, prctl)
    if failure is None:
        watch.run()
    answer = {"failure": failure} if failure is not None else watch.report()
    with socket.socket(fileno=control) as line:
        line.sendall(marshal.dumps(answer))  # where the host has gone, this is the end, too


# All children.


def _open_process(pid: int) -> int | None:
    """What becomes readable when a process ends; None where there is nothing like it."""
    try:
        return os.pidfd_open(pid) if ON_LINUX else None
    except (AttributeError, OSError):
        return None


def serve(host_pid: int) -> None:
    """Fork for each child that is asked for, until the host has gone."""
    host = _open_process(host_pid)
    if os.getppid() != host_pid:
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # copies of this leave nothing behind
    for name in ("SIGINT", "SIGPIPE", "SIGXFSZ"):  # Python's own are not the children's
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    prctl = _load_prctl()
    gc.freeze()
    desk = socket.socket(fileno=0)
    waiting = [desk.fileno()] + ([] if host is None else [host])
    while True:
        ready = select.select(waiting, [], [])[0]
        if host in ready:
            return
        asked, fds, _flags, _address = socket.recv_fds(desk, 1, MOST_FDS)
        if not asked:
            return
        for fd in fds:
            os.set_inheritable(fd, False)  # noqa: FBT003
        if not os.fork():
            try:
                os.dup2(1, desk.fileno())  # closed, and its number is not free
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                care(fds, host, prctl)
            finally:
                os._exit(0)
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
