"""A policy on an arm, from checking the request to the written result.

`deploy` and `record` are the same run; recording adds a recorder process. The order is: what can be wrong in the
request, then the port, then the other processes, then (on a terminal) a question, and only then torque.
"""

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from hardware.children import ENDING
from hardware.runtime.control.loop import ControlLoop
from hardware.runtime.control.supervisor import Phase
from hardware.runtime.processes import take_name
from hardware.runtime.safety.escalation import Escalation, Failures
from hardware.runtime.sessions.collecting import Collection
from hardware.runtime.sessions.correcting import Correcting
from hardware.runtime.sessions.playback import Playback
from hardware.runtime.sessions.session import NoOperator, Plan, Session
from pipelines.deployment.request import EMULATED, Options, goals_of, prepare
from pipelines.deployment.result import empty_result, played, result_of, say, status, status_of, write
from pipelines.deployment.rig import Observer, Rig, emulate
from sim2real.errors import UserError

if TYPE_CHECKING:
    from hardware.arm.serial_arm import SerialArm


SessionMaker = Callable[[Rig, ControlLoop, Plan, "SerialArm"], Session]


def run(
    options: Options, observer: Observer | None = None, session: SessionMaker | None = None
) -> tuple[dict[str, Any], int]:
    """Deploy or record, watched by an observer; `session` makes another session than the options ask for.

    Returns the result (the JSON of the command) and the exit status.

    Raises UserError for mistakes found before anything moves, Sim2RealError for what could not be started.
    """
    with ExitStack() as stack:
        # Termination cleans up like Ctrl-C, and Ctrl-C works even where a shell made us ignore it.
        _come.clear()
        for number in ENDING:
            previous = signal.signal(number, _interrupt)
            stack.callback(signal.signal, number, previous)
        stack.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = partial(_told_elsewhere, sys.unraisablehook)
        setup = rig = None
        try:
            setup = prepare(options)
            options = emulate(options, setup, stack)
            rig = Rig(setup, options, stack, observer)
            return _run(rig, _session if session is None else session)
        except _Interrupted as stop:
            # Torque has not been on: the session handles signals by itself.
            if setup is None:
                say(f"sim2real {options.command}: stopped by {stop.signal.name}")
                raise SystemExit(status_of(stop.signal)) from None
            result = empty_result(setup, Phase.DISCONNECTED if rig is None else rig.phase)
            return result | {"stopped": f"stopped by {stop.signal.name}"}, status_of(stop.signal)
        finally:
            # What is open is closed now, in bounded time; an impatient second Ctrl-C must not leave half of it.
            _ignore_signals()


def _run(rig: Rig, make: SessionMaker) -> tuple[dict[str, Any], int]:
    from hardware.runtime.priority import release_priority, take_priority
    from hardware.runtime.sessions.terminal import Lines, Screen, Terminal

    setup, options = rig.setup, rig.options
    cameras = rig.camera_models()
    failures = Failures(setup.robot.name, options.port, keep=setup.options.port != EMULATED)
    failures.check()
    arm = rig.connect()
    loop = rig.make_loop(arm, cameras)
    screen = rig.stack.enter_context(Screen())
    terminal = rig.stack.enter_context(Terminal(screen)) if Terminal.available() else None
    loop.attended = terminal is not None
    plan = Plan(
        task=setup.task,
        name=setup.name,
        episodes=_episodes(options, attended=terminal is not None),
        seconds=options.seconds,
        seed=options.seed,
        goals=goals_of(setup),
        before=options.before_episode,
        judge=options.success,
        motion=not options.dry_run,
    )
    # Only where keys are part of the work: other runs leave standard input to the program that started them.
    alone = Lines(screen) if options.manual or options.collect else NoOperator(screen.tell)
    operator = terminal if terminal is not None else alone
    if isinstance(operator, Lines) and not operator.open and options.seconds is None:
        raise UserError(
            "nobody can end an episode: standard input is neither a terminal nor open; give --seconds S"
        )
    recorder = rig.make_recorder(arm, loop) if options.record else None
    view = rig.make_view()
    session = make(rig, loop, plan, arm)
    session.operator, session.recorder = operator, recorder
    if view is not None:
        loop.sinks.append(view)
    for found in recorder.recovered if recorder is not None else ():
        screen.tell(
            f"recovered episode {found.index} of an earlier recording: {found.frames} frames, "
            f"{found.seconds:.1f} s; nobody has judged whether it succeeded"
        )
    # A run that moves nothing says nothing about the arm's failures in a row.
    escalation = Escalation(
        failures,
        options.on_fault,
        screen.tell,
        {"TASK": setup.task_name or "", "OUT": options.out},
        counts=plan.motion and not options.hand,
    )
    session.on_fault = escalation.call
    if terminal is not None and not (options.yes or options.dry_run or options.hand):
        where = f"{setup.robot.name} at {options.port}"
        if not terminal.confirm(
            f"{where} is about to move. Is its workspace free? (q stops it, space is the emergency stop)"
        ):
            raise UserError("not confirmed: nothing has moved")
    _heed_signals()
    rig.require_alone()
    begin = time.monotonic()
    rig.make_out()
    gc.collect()
    gc.freeze()
    with _handled(session):
        _heed_signals()
        privileges = take_priority()
        loop.pace.resync()
        try:
            loop.operator_sign()
            session.run()
        finally:
            release_priority()
        strangers = rig.note_strangers(arm, session)
        arm.close()
        if rig.guardian is not None:
            # Nobody ticks any more. An arm that could not be reached is the watchdog's from now on; it leaves us
            # the time to write down what happened.
            rig.guardian.close()
        escalation.finish(ended_well=not loop.faults)
        result = result_of(setup, session, rig.log, time.monotonic() - begin, privileges)
        result |= {"strangers": strangers}
        if recorder is not None:
            recorder.close()
            result |= {
                "recorded": recorder.saved,
                "lost_frames": recorder.lost,
                "lost_pictures": recorder.lost_pictures,
            }
        if view is not None and (trouble := view.close()):
            screen.tell(trouble)
        screen.close()
        if isinstance(session, Playback):
            result |= played(session)
        write(result, setup, options, session, rig.log)
    return result, status(session)


def _episodes(options: Options, attended: bool) -> int | None:
    """How many; None: until the operator stops."""
    return options.episodes or (None if options.manual and attended else 1)


def _session(rig: Rig, loop: ControlLoop, plan: Plan, arm: "SerialArm") -> Session:
    setup, options = rig.setup, rig.options
    if setup.motion is not None:
        return Playback(loop, plan, motion=setup.motion, log=rig.log)
    if rig.corrections is not None:
        return Correcting(loop, plan, source=rig.corrections)
    if options.manual:
        return Collection(
            loop, plan, guide=rig.guide, reset_time=options.reset_time, believe=arm.forget_readings
        )
    return Session(loop, plan)


class _Interrupted(BaseException):
    """A signal came while nothing could move. No `Exception`: nobody must catch it on the way."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


_come: list[int] = []
"""Signals that came while nothing could move. An exception raised in a callback of the compiler is swallowed there."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ignore_signals()
    _come.append(number)
    raise _Interrupted(number)


def _told_elsewhere(hook: Callable[[Any], object], unraisable: Any) -> None:
    """Leave out what the compiler swallowed of a signal: `_heed_signals` heeds it."""
    if not isinstance(unraisable.exc_value, _Interrupted):
        hook(unraisable)


def _heed_signals() -> None:
    """Raise _Interrupted for a signal that came before and whose exception got lost on its way."""
    if _come:
        raise _Interrupted(_come[0])


def _ignore_signals() -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handled(session: Session) -> Iterator[None]:
    """While the arm may move, and until its story is written, signals mean: stop, lower, let go; SIGUSR1 means
    emergency stop."""
    previous = {number: signal.signal(number, session.interrupt) for number in ENDING}
    previous[signal.SIGUSR1] = signal.signal(
        signal.SIGUSR1, lambda number, frame: session.loop.estop.press("signal")
    )
    take_name()
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
