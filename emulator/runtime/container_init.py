"""The first process of one local container, in place of the init that a container runtime would give it.

Run as ``python -I -S container_init.py PROGRAM ARGUMENT...`` with a pipe as standard input, the *lifeline*, whose other
end only the emulator holds. It starts the program (standard input: /dev/null), passes SIGTERM on to it, and ends with
its exit status (128 + n for signal n, as container engines report it).

Nothing outlives it: when the program ends, or the lifeline closes (the emulator closed it to kill the container, or
died, even by SIGKILL), every descendant is killed. It is their subreaper (prctl(2)), so that daemons which left their
parent come back here; and the program itself gets SIGKILL should this process be killed first. PR_SET_PDEATHSIG set by
the emulator would not do: it fires when the *thread* that forked ends, and a server's threads come and go.

Only the standard library, and little of it: this starts in front of every container and every job.
"""

import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIFELINE = 0


def start(command: list[str]) -> int:
    """Fork and execute the program; its process id."""
    pid = os.fork()
    if pid:
        return pid
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), LIFELINE)
    try:
        os.execvpe(command[0], command, given_environment())  # noqa: S606 - the purpose of an init
    except OSError as error:
        os.write(2, f'exec: "{command[0]}": {error.strerror}\n'.encode())
        os._exit(127)


def given_environment() -> dict[bytes, bytes]:
    """The environment that the emulator gave; os.environ may hold an LC_CTYPE of Python's own besides (PEP 538)."""
    with open("/proc/self/environ", "rb") as environ:  # noqa: PTH123 - pathlib would double the start-up time
        return dict(entry.split(b"=", 1) for entry in environ.read().split(b"\0") if entry)


def supervise(program: int, wakeup: int) -> int:
    """Wait until the program ends or the lifeline closes; its exit status."""
    while True:
        ready, _, _ = select.select([LIFELINE, wakeup], [], [])
        if LIFELINE in ready and not os.read(LIFELINE, 1):
            return 128 + signal.SIGKILL
        if wakeup in ready and signal.SIGTERM in os.read(wakeup, 64):
            os.kill(program, signal.SIGTERM)
        status = reap(program)
        if status is not None:
            return status


def reap(program: int) -> int | None:
    """Collect the children that have ended; the program's exit status if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def kill_descendants() -> None:
    """Kill until no child is left; the children of the killed come to us, their subreaper."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:  # noqa: PTH123 - as above
            for pid in children.read().split():
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def prctl(option: int, value: int) -> None:
    """Call prctl(2), or raise OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")


def main() -> None:
    """Run the program given on the command line to its end."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeup, wakeup_end = os.pipe()
    os.set_blocking(wakeup_end, False)
    signal.set_wakeup_fd(wakeup_end)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    program = start(sys.argv[1:])
    status = supervise(program, wakeup)
    kill_descendants()
    os._exit(status)


if __name__ == "__main__":
    main()
