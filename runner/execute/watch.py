import time

from docker.errors import DockerException, NotFound
from requests.exceptions import RequestException

from runner.errors import EnvironmentFault
from runner.execute.absence import Absence
from runner.execute.container import Container, State
from runner.execute.engine import explain
from runner.execute.verdict import Ending

# A wait that breaks off within so many seconds although the engine answers is refused; so many of
# them in a row, with growing pauses, are its last word.
REFUSED_WITHIN = 5
REFUSALS = 8


def await_end(
    container: Container, seconds: float, absence: Absence, *, noticed: int, unwatched: bool = False
) -> tuple[Ending, State | None]:
    """Wait for a container's end, and stop it when its time is over.

    Args:
        container: that runs or has ended.
        seconds: until it is stopped.
        absence: waits for an engine that goes away meanwhile.
        noticed: absences up to the start of the attempt.
        unwatched: whether it ran while no run looked.

    Returns:
        How it ended, and its last state; None where that is not known.

    Raises:
        EnvironmentFault: the engine went away and did not come back, or cannot tell.
    """
    try:
        timed_out = _wait(container, seconds, absence)
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
        absent=absence.noticed != noticed,
        unwatched=unwatched,
    )
    return ending, state


def _wait(container: Container, seconds: float, absence: Absence) -> bool:
    """Wait as `Container.wait`, through absences of the engine, which count as time passed.

    Returns:
        Whether the time is over.
    """
    end = time.monotonic() + seconds
    refused = 0
    while True:
        began = time.monotonic()
        try:
            return not container.wait(end - began)
        except RequestException as error:
            refused = refused + 1 if time.monotonic() - began < REFUSED_WITHIN else 1
            if absence.wait(error):
                refused = 0
            elif refused > REFUSALS:
                raise
            else:
                time.sleep(refused)
