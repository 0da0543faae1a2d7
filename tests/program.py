#!/usr/bin/env -S python3 -SE
"""Stands in for `oaieval` in the tests' image: behaves as the name of its eval says.

`fail.3` is the behaviour `fail` with the argument `3`; each leaves a log, as `oaieval` does.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

TMP = pathlib.Path("/tmp")


def succeed(*_rest: str) -> None:
    """End well."""


def fail(status: str = "1", *_rest: str) -> None:
    """End badly, and say so."""
    print("about to fail")
    print("this is why", file=sys.stderr)
    sys.exit(int(status))


def sleep(seconds: str, *_rest: str) -> None:
    """Take a while."""
    time.sleep(float(seconds))


def wait(*_rest: str) -> None:
    """Run until the test writes a file into the private folder: its content is the status."""
    print("waiting", flush=True)
    while not (TMP / "go").exists():
        time.sleep(0.02)
    print("told to go", flush=True)
    status = int((TMP / "go").read_text() or 0)
    if status:
        sys.exit(status)


def deaf(*_rest: str) -> None:
    """Ignore every signal that can be ignored."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wait()


def eat(*_rest: str) -> None:
    """Take memory without end."""
    taken = []
    while True:
        taken.append(bytearray(os.urandom(1 << 20)))


def fork(*_rest: str) -> None:
    """Start processes until the kernel refuses."""
    children: list[subprocess.Popen[bytes]] = []
    try:
        while len(children) < 500:
            children.append(subprocess.Popen(["/bin/sleep", "60"]))
    except OSError:
        print(f"refused after {len(children)}")
    for child in children:
        child.kill()
    note(processes=len(children))


def flood(*_rest: str) -> None:
    """Print more than a console log may hold."""
    for _ in range(30):
        os.write(1, (b"x" * 1023 + b"\n") * 1024)
    os.write(1, b"the end\n")


def bar(*_rest: str) -> None:
    """Draw a progress bar as tqdm does, without ever ending its line."""
    for done in range(8):
        print(f"\r {done}/7 [00:0{done}<00:01,  9.9it/s]", end="", file=sys.stderr, flush=True)
        time.sleep(0.1)
    wait()


def missing_report(*_rest: str) -> None:
    """End well, and leave a log without a final report."""
    log().write_text('{"spec": {}}\n')
    os._exit(0)


def silent(*_rest: str) -> None:
    """End well, and leave nothing at all."""
    os._exit(0)


def fill(*_rest: str) -> None:
    """Leave more than a small disk holds."""
    log().write_bytes(b"y" * (1 << 20))
    os._exit(0)


def connect(*_rest: str) -> None:
    """Try to reach every address that the test names, and note which answers."""
    wait()
    reached = []
    for host in (TMP / "addresses").read_text().split():
        try:
            socket.create_connection((host, 7777), timeout=1).close()
        except OSError:
            continue
        reached.append(host)
    note(reached=reached)


def listen(*_rest: str) -> None:
    """Accept connections until told to go."""
    with socket.create_server(("", 7777)):
        wait()


def look(*_rest: str) -> None:
    """Note all that an eval can see of what holds it."""
    status = dict(
        line.split(":\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines()
    )
    refused = []
    for path in ("/home/x", "/registry/0/x", "/etc/x", "/dev/x", "/var/x"):
        try:
            pathlib.Path(path).write_text("")
        except OSError:
            refused.append(path)
    note(
        capabilities={name: status[name] for name in status if name.startswith("Cap")},
        no_new_privs=status["NoNewPrivs"],
        refused=refused,
        uid=os.getuid(),
        gid=os.getgid(),
        tmp=sorted(path.name for path in TMP.iterdir()),
        environment=dict(os.environ),
        folder=str(pathlib.Path.cwd()),
        routes=pathlib.Path("/proc/net/route").read_text().splitlines()[1:],
        init=pathlib.Path("/proc/1/comm").read_text().strip(),
        registry=sorted(path.name for path in pathlib.Path("/registry/0").iterdir()),
        arguments=sys.argv,
    )


def imports(module: str, *_rest: str) -> None:
    """Import a module as `oaieval` would, and note where it is and what it says."""
    code = f"import {module}; print({module}.__file__, {module}.SAYS)"
    done = subprocess.run(["python3", "-c", code], capture_output=True, text=True, check=False)
    print(done.stderr)
    note(found=done.stdout.split())
    if done.returncode:
        sys.exit(done.returncode)


def ask(count: str, then: str = "", *_rest: str) -> None:
    """Ask the model this often, one after the other, and note the answers; perhaps wait then."""
    from http.client import HTTPConnection, HTTPException  # noqa: PLC0415 - takes time

    address = os.environ["OPENAI_BASE_URL"].removeprefix("http://")
    host, _, base = address.partition("/")
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    answers: list[object] = []
    while len(answers) < int(count):
        said = [{"role": "user", "content": f"question {len(answers)}"}]
        body = json.dumps({"model": sys.argv[1], "messages": said})
        connection = HTTPConnection(host, timeout=60)
        try:
            connection.request("POST", f"/{base}/chat/completions", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException):
            continue
        finally:
            connection.close()
        answers.append(answer["choices"][0]["message"]["content"])
        print(f"answered {len(answers)}", flush=True)
    if then == "wait":
        wait()
    note(answers=answers)


def spy(*_rest: str) -> None:
    """Look for sockets, one's own and others', and for ways to change what is mounted."""
    wait()
    found = []
    for folder, _, names in os.walk("/"):
        if folder.startswith(("/proc/", "/sys/")):
            continue
        paths = [f"{folder}/{name}" for name in names]
        found += [path for path in paths if pathlib.Path(path).is_socket()]
    changed = []
    for path in ("/evalset/x", "/evalset/forward.py", "/evalset/../x"):
        try:
            pathlib.Path(path).write_text("")
        except OSError:
            continue
        changed.append(path)
    named = [line.split()[7:] for line in pathlib.Path("/proc/net/unix").read_text().splitlines()]
    note(
        sockets=found,
        changed=changed,
        around=os.listdir("/evalset"),  # noqa: PTH208 - names alone
        named=[name for names in named[1:] for name in names],
        environment=dict(os.environ),
        lines=[
            path.read_bytes().decode(errors="replace")
            for number in pathlib.Path("/proc").glob("[0-9]*")
            for path in (number / "cmdline", number / "environ")
            if path.exists()
        ],
    )


def log() -> pathlib.Path:
    """Where the log goes, with a name of the form that upstream gives it."""
    model, name = sys.argv[1:3]
    path = TMP / f"evallogs/{time.time_ns()}{os.urandom(2).hex()}_{model}_{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def note(**facts: object) -> None:
    """Hand facts to the test, as the final report."""
    FACTS.update(facts)


FACTS: dict[str, object] = {}

if __name__ == "__main__":
    started = time.time()
    behaviour, *arguments = sys.argv[2].split(".")
    globals()[behaviour](*arguments)
    report = {"started": started, "ended": time.time(), **FACTS}
    with log().open("w") as file:
        file.write(json.dumps({"spec": {"eval_name": sys.argv[2]}}) + "\n")
        file.write(json.dumps({"sample_id": "a.0", "type": "match", "data": {}}) + "\n")
        file.write(json.dumps({"final_report": report}) + "\n")
