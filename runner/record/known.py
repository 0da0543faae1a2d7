from runner.record.attempts import AttemptRecord
from runner.record.progress import Finished
from runner.record.run_file import RunFile


def known_commands(
    run: RunFile | None, finished: Finished, records: tuple[AttemptRecord, ...]
) -> list[tuple[str, ...]]:
    """Commands of the last plan, then finished and attempted ones that it does not have."""
    return list(
        dict.fromkeys(
            [
                *(run.commands if run else ()),
                *finished.commands,
                *(tuple(line.split(" ")) for line in finished.lines),
                *(record.command for record in records),
            ]
        )
    )
