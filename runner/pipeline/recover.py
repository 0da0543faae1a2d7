from collections.abc import Mapping

from runner.execute.attempt import Running, discard, find_left
from runner.execute.engine import answering
from runner.job import Job
from runner.pipeline.options import Host
from runner.pipeline.prepare import Prepared
from runner.pipeline.recorder import Recorder


def recover(
    prepared: Prepared, host: Host, recorder: Recorder, jobs: Mapping[str, Job]
) -> tuple[list[Running], int]:
    """Look for containers that an earlier run left when it was killed.

    Those whose outcome is on record already are removed, and so are all where the run starts over.

    Args:
        prepared: the run.
        host: the machine.
        recorder: of the run.
        jobs: of the plan, finished or not, by key.

    Returns:
        Those that this run takes over, running or ended, and the number of those that it has no
        job for.
    """
    api = prepared.engine.api
    running = []
    others = 0
    with answering():
        for left in find_left(api, prepared.layout, host.name):
            if not prepared.options.resume or recorder.complete(left.attempt):
                discard(api, prepared.layout, left)
            elif job := jobs.get(left.job_key):
                running.append(Running(job=job, attempt=left.attempt, container=left.container))
            else:
                others += 1
    return running, others
