import time

from docker.errors import DockerException, NotFound
from requests.exceptions import RequestException

from runner.errors import EnvironmentFault
from runner.execute.absence import Absence
from runner.execute.container import Container, State
from runner.execute.engine import explain
from runner.execute.verdict import Ending


def await_end(
    container: Container, seconds: float, absence: Absence, *, unwatched: bool = False
) -> tuple[Ending, State | None]:
    """Wait for a container's end, and stop it when its time is over.

    Args:
        container: that runs or has ended.
        seconds: until it is stopped.
        absence: waits for an engine that goes away meanwhile.
        unwatched: whether it ran while no run looked.

    Returns:
        How it ended, and its last state; None where that is not known.

    Raises:
        EnvironmentFault: the engine went away and did not come back, or cannot tell.
    """
    try:
        timed_out, absent = _wait(container, seconds, absence)
        if timed_out and not absence.through(container.stop):
            return Ending(timed_out=True, unkillable=True), None
        state = absence.through(container.state)
    except NotFound:
        gone = "its container is gone: something other than the runner removed it"
        return Ending(lost=gone), None
    except (DockerException, RequestException) as error:
        # Nothing is known of its end, so it is neither recorded nor removed.
        raise EnvironmentFault(
            f"{explain(error)}; what runs is taken in by the next run"
        ) from error
    if state.started_at is None:  # the engine gives it exit code 0
        return Ending(lost="its container never started"), state
    ending = Ending(
        exit_code=state.exit_code,
        oom_killed=state.oom_killed,
        timed_out=timed_out,
        unwatched=unwatched or absent,
    )
    return ending, state


def _wait(container: Container, seconds: float, absence: Absence) -> tuple[bool, bool]:
    """Wait as `Container.wait`, through absences of the engine, which count as time passed.

    Returns:
        Whether the time is over, and whether the engine was away.
    """
    end = time.monotonic() + seconds
    absent = False
    while True:
        try:
            return not container.wait(end - time.monotonic()), absent
        except RequestException as error:
            absence.wait(error)
            absent = True
            # A wait that ended at once though the engine answers must not become a busy loop.
            time.sleep(0.1)
