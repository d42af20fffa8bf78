"""Call a function on many jobs in child processes, or on the engine that a verb has chosen."""

from __future__ import annotations

import multiprocessing
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from avssl.core.channel import Channel
from avssl.core.children import Child, StartMethod, doing
from avssl.core.engines import Files, current_engine
from avssl.core.errors import InputError, RunError
from avssl.core.slots import Slots, open_slot

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_END = object()


class ChildDied(RunError):  # noqa: N818 - the name is plain
    """A child process that died; the message names what it was doing and says what to do."""

    def __init__(self, child: Child) -> None:
        how, what = child.death(), child.doing()
        advice = (
            "Memory ran out, or somebody killed it. Give the run more memory, use fewer workers (num_workers) or "
            "smaller batches; if it is always the same file, leave that out."
            if "SIGKILL" in how
            else "Its decoder crashed. Try the file alone with num_workers 0 or another backend, or leave it out."
        )
        super().__init__(f"a worker process {how} {f'while {what}' if what else 'before its first file'}. {advice}")


class Interrupted(RunError):  # noqa: N818 - the name is plain
    """Raised where results of children are awaited that nobody wants any more."""


class Interrupt:
    """Ends the wait for children in another thread."""

    def __init__(self) -> None:
        self.connection, self._other_end = multiprocessing.Pipe(duplex=False)

    def set(self) -> None:
        """End the wait, and every later one, with :class:`Interrupted`."""
        self._other_end.send_bytes(b"")


def parallel_map(
    function: Callable[[_Job], _Result],
    jobs: Iterable[_Job],
    *,
    num_workers: int,
    ahead: int = 2,
    in_order: bool = True,
    start_method: StartMethod = "fork",
    slots: Slots | None = None,
    interrupt: Interrupt | None = None,
    files: Files | None = None,
) -> Iterator[_Result]:
    """Yield ``function(job)`` of each job, computed in child processes, or by :func:`~avssl.core.engines.working_on`.

    Closing the iterator, or the end of this process, ends the children.

    Args:
        function: Called in the children; may call :func:`avssl.core.children.note`.
        jobs: Consumed in this process, ``num_workers * ahead`` jobs ahead.
        num_workers: Number of children; 0 calls the function in this process.
        ahead: Jobs that each child is given ahead, >= 1.
        in_order: Yield results in the order of the jobs; otherwise as they come.
        start_method: See :class:`~avssl.core.children.Child`.
        slots: Memory for the arrays of results; a job for which no slot is free gets memory of its own.
        interrupt: Ends the wait for a result from another thread.
        files: Files that a job needs, which the machines of an engine must see.

    Raises:
        ChildDied: If a child dies, with what it was doing.
        Interrupted: If ``interrupt`` is set.
        Exception: Whatever the function raises.
    """
    if num_workers < 0:
        raise InputError(f"num_workers ({num_workers}) must not be negative.")
    if (engine := current_engine()) is not None:
        yield from engine.map(function, jobs, ahead=ahead, in_order=in_order, files=files)
        return
    if num_workers == 0:
        yield from map(function, jobs)
        return
    team = _Team(function, num_workers, start_method, slots, interrupt)
    rest = enumerate(jobs)
    answers: dict[int, _Result] = {}
    given = taken = 0
    try:
        while True:
            while given - taken < num_workers * ahead and (item := next(rest, None)) is not None:
                team.give(*item)
                given += 1
            if given == taken:
                return
            answers |= team.answers(waits=False)
            while (taken if in_order else next(iter(answers), _END)) not in answers:
                answers |= team.answers(waits=True)
            number = taken if in_order else next(iter(answers))
            taken += 1
            if given - taken < num_workers * ahead and (item := next(rest, None)) is not None:
                team.give(*item)  # before the caller works on the result
                given += 1
            yield answers.pop(number)
    finally:
        team.end()


class _Team:
    """Children, and how many jobs each of them has."""

    def __init__(
        self,
        function: Callable[..., Any],
        size: int,
        start_method: StartMethod,
        slots: Slots | None,
        interrupt: Interrupt | None,
    ) -> None:
        self._function, self._size, self._start_method = function, size, start_method
        self._slots = slots
        self._given: dict[int, int | None] = {}
        self._interrupt = [interrupt.connection] if interrupt else []
        self._members: dict[Connection, Child] = {}
        self._load: dict[Connection, int] = {}

    def give(self, number: int, job: Any) -> None:
        """Give a job to the child with the fewest; start another child if all have some."""
        if len(self._members) < self._size and 0 not in self._load.values():
            child = Child(_serve, self._function, self._slots, start_method=self._start_method)
            self._members[child.connection], self._load[child.connection] = child, 0
        connection = min(self._load, key=lambda other: self._load[other])
        self._load[connection] += 1
        self._given[number] = slot = self._slots.take() if self._slots else None
        with suppress(BrokenPipeError, ConnectionResetError):  # it died, as the next look at it will report
            Channel(connection).send((number, job, slot))

    def answers(self, waits: bool) -> dict[int, Any]:
        """Return the answers that have come, at least one if ``waits``, or raise what a child raised."""
        found = {}
        for connection in wait([*self._members, *self._interrupt], None if waits else 0):
            assert isinstance(connection, Connection)
            if connection in self._interrupt:
                raise Interrupted("nobody waits for these results any more.")
            try:
                number, answer, error = Channel(connection, self._slots).receive()
            except (EOFError, OSError):
                raise ChildDied(self._members[connection]) from None
            if self._slots:
                self._slots.settle(self._given.pop(number))
            if error is not None:
                raise error
            self._load[connection] -= 1
            found[number] = answer
        return found

    def end(self) -> None:
        """Kill the children."""
        for child in self._members.values():
            child.kill()


def _serve(connection: Connection, function: Callable[[Any], Any], slots: Slots | None) -> None:
    channel = Channel(connection)
    while True:
        number, job, given = channel.receive()
        slot = slots.opened(given) if slots is not None and given is not None else None
        open_slot(slot)
        try:
            answer, error = function(job), None
        except Exception as raised:
            answer, error = None, portable(raised)
        channel.send((number, answer, error), slot)
        del job, answer  # their memory


def portable(error: Exception) -> Exception:
    """Return an error that pickles, with the traceback of this process as a note."""
    told = traceback.format_exc()
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"while {doing() or 'it began'}")
    error.add_note(f"in a worker process:\n{told}")
    return error
