import os
import selectors
import sys
import time
from pathlib import Path

from runner.errors import RunnerError
from runner.gateway.messages import connect

# Seconds in which an agent that was started listens.
_PATIENCE = 20.0

# Bytes passed on at once.
_CHUNK = 1 << 18


def main(argv: list[str]) -> int:
    """Be the agent of a spool, or pass standard input and output on to it.

    `agent SPOOL NAME` listens in the spool, in the container of that name; `agent SPOOL "" LABEL`
    serves standard input and output, and labels its containers so; `relay SPOOL` passes these on.
    """
    what, folder, *rest = argv
    if what == "relay":
        return relay(Path(folder))
    from runner.hosts.agent import Agent  # noqa: PLC0415 - the engine's client takes long to import
    from runner.hosts.spool import Spool  # noqa: PLC0415 - as above

    try:
        container, known_as = (*rest, "", "")[:2]
        spool = Spool(Path(folder), known_as)
        spool.hold()
        agent = Agent(spool, container)
        if container:
            return agent.serve()
        # What is printed by mistake must not get among the messages.
        own = os.dup(1)
        os.dup2(2, 1)
        return agent.serve((os.dup(0), own))
    except RunnerError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def relay(folder: Path) -> int:
    """Pass on what standard input and the agent say to each other, until one of them ends."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            agent = connect(folder, "agent.sock", None)
            break
        except OSError as error:  # it has just been started
            if time.monotonic() > until:
                print(f"the agent does not answer: {error.strerror}", file=sys.stderr)
                return 1
            time.sleep(0.05)
    there = agent.fileno()
    with selectors.DefaultSelector() as ready:
        ready.register(0, selectors.EVENT_READ, there)
        ready.register(there, selectors.EVENT_READ, 1)
        while True:
            for key, _ in ready.select():
                data = os.read(key.fd, _CHUNK)
                if not data:
                    return 0
                while data:
                    data = data[os.write(key.data, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
