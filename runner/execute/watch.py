import time

from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from runner.errors import EnvironmentFault
from runner.execute.container import Container, State
from runner.execute.engine import explain
from runner.execute.verdict import Ending

# Seconds in which an engine that went away in mid-run may come back.
ENGINE_ABSENCE = 60


def await_end(
    container: Container, seconds: float, *, unwatched: bool = False
) -> tuple[Ending, State | None]:
    """Wait for a container's end, and stop it when its time is over.

    Args:
        container: that runs or has ended.
        seconds: until it is stopped.
        unwatched: whether it ran while no run looked.

    Returns:
        How it ended, and its last state; None where that is not known.

    Raises:
        EnvironmentFault: the engine went away and did not come back.
    """
    try:
        timed_out, absent = _wait_across_restarts(container, seconds)
        if timed_out:
            container.stop()
        state = container.state()
    except NotFound:
        gone = "its container is gone: something other than the runner removed it"
        return Ending(lost=gone), None
    except DockerException as error:
        return Ending(lost=explain(error)), None
    except RequestException as error:
        # Nothing is known of its end, so it is neither recorded nor removed.
        raise EnvironmentFault(
            f"the engine went away for more than {ENGINE_ABSENCE} s ({explain(error)}); what "
            "ran there is taken in by the next run"
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


def _wait_across_restarts(container: Container, seconds: float) -> tuple[bool, bool]:
    """Wait as `Container.wait`, through an absence of the engine.

    Returns:
        Whether the time is over, and whether the engine was away.
    """
    end = time.monotonic() + seconds
    absent = False
    while True:
        try:
            return not container.wait(end - time.monotonic()), absent
        except APIError:  # an answer, though also a RequestException
            raise
        except RequestException:
            from tenacity import (  # noqa: PLC0415 - seldom needed, and slow to import
                Retrying,
                retry_if_not_exception_type,
                stop_after_delay,
                wait_fixed,
            )

            # The limit counts from here: the wait may have gone well for hours.
            patient = Retrying(
                retry=retry_if_not_exception_type(APIError),
                stop=stop_after_delay(ENGINE_ABSENCE),
                wait=wait_fixed(1),
                reraise=True,
            )
            absent = True
            time.sleep(1)
            patient(container.state)
