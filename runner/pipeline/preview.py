import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from runner.pipeline.options import Host
from runner.pipeline.prepare import Prepared
from runner.pipeline.sharing import branch_of, reaching
from runner.record.belonging import state_files
from runner.record.files import make_folder
from runner.record.layout import Layout
from runner.record.passing import passing_folder
from runner.share.arrival import arrive
from runner.share.branch import default_branch


@contextmanager
def after_fetching(
    prepared: Prepared, host: Host, *, tell: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[Prepared]:
    """A run as it would find its records: with what its branch has, and nothing changed by that."""
    options = prepared.options
    if options.snapshot is None or not options.resume:
        yield prepared
        return
    layout = prepared.layout
    name = options.snapshot.branch or default_branch(options.model, options.eval_set)
    with passing_folder("dry-run") as folder:
        copy = Layout(root=folder, model=layout.model, eval_set=layout.eval_set)
        for path in state_files(layout):
            make_folder((copy.root / path).parent)
            shutil.copyfile(layout.root / path, copy.root / path)
        with branch_of(options.snapshot, layout.root, host, name=name) as (branch, remote, _):
            theirs = None
            if remote is not None:
                with reaching(remote):
                    theirs = remote.fetch(name)
            if theirs is not None:
                branch.check(theirs)
            tips = [tip for tip in (branch.tip(), theirs) if tip is not None]
            for commit in tips:
                arrive(branch, commit, copy, logs=False, warn=warn)
            where = f"at {remote.shown}" if remote else "on this host alone"
            tell(f"branch {name} {where}{'' if tips else ', which is not there yet'}")
        yield msgspec.structs.replace(prepared, layout=copy)
