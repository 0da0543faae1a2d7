import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TextIO

from runner.commands.command_line import evalset_command
from runner.commands.report import ReportOptions, build_site, can_test, opened
from runner.errors import EnvironmentFault
from runner.gateway.prices import read_prices
from runner.options import N
from runner.parameters import Option

# Seconds between two looks at the records.
PAUSE = 2.0

# A large report is made anew so seldom that this part of the time goes into it.
SHARE = 0.2


class Reports:
    """Makes a report in a new `folder` when there is something new to show."""

    def __init__(self, options: ReportOptions, folder: Path) -> None:
        self._options = options
        self._top = folder
        self._prices = read_prices(options.prices)
        self._test: bool | None = None
        self._shown: tuple[object, ...] = ()
        self._build = 0
        self.folder = folder

    def renew(self) -> bool:
        """Make a report if what it would show has changed; tell whether it did."""
        from runner.report.site.builder import ReportFolder

        with opened(self._options) as sources:
            shown = tuple((it.column, it.eval_set, it.rows, it.state.attempts) for it in sources)
            if shown == self._shown:
                return False
            if self._test is None:
                self._test = can_test(sources)
            self._build += 1
            place = ReportFolder(self._top / str(self._build))
            with place:
                build_site(
                    sources,
                    place,
                    prices=self._prices,
                    test=self._test,
                    live=True,
                    build=self._build,
                )
        # Whoever reads the one before may finish a page of it.
        shutil.rmtree(self._top / str(self._build - 2), ignore_errors=True)
        self.folder = place.path
        self._shown = shown
        return True


def view(options: ReportOptions, port: int, *, out: TextIO) -> None:
    """Serve a report on loopback, and renew it until the user has seen enough.

    Raises:
        EnvironmentFault: the port is taken.
    """
    from runner.records.folders import temporary_folder
    from runner.report.site.server import SiteServer

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Where it is ignored, as under `nohup`, the view is meant to continue.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    with temporary_folder("view") as folder:
        reports = Reports(options, folder)
        with suppress(KeyboardInterrupt):
            began = time.monotonic()
            reports.renew()
            try:
                server = SiteServer(reports.folder, port)
            except OSError as error:
                raise EnvironmentFault(
                    f"port {port} cannot be used: {error.strerror}", "choose another --port"
                ) from error
            with server.serving():
                print(f"{server.address}\nCtrl-C ends it.", file=out, flush=True)
                while True:
                    took = time.monotonic() - began
                    time.sleep(max(PAUSE, took / SHARE))
                    began = time.monotonic()
                    if reports.renew():
                        server.folder = reports.folder


@evalset_command("evalset view gpt-4 test-basic --port 8000")
def command(
    *,
    about: ReportOptions,
    port: Annotated[
        int,
        Option("Port on loopback; 0 takes a free one.", N, least=0, most=65535, configurable=False),
    ] = 0,
) -> None:
    """Show the report in a browser, and renew it while a run continues.

    Only programs of this machine can reach it, with the address that it prints. Ctrl-C ends it.
    """
    view(about, port, out=sys.stdout)
