from collections.abc import Iterable, Sequence

from runner.plan.commands import identities

# program, model, eval: what every command begins with
_START = 3


class FinishedCommands:
    """Finished commands, looked up by the eval that they are of.

    Attributes:
        evals: those that are finished with this run's program, model and arguments, whatever
            its selection and shard.
    """

    def __init__(
        self,
        done: Iterable[tuple[str, ...] | str],
        *,
        run_command: str,
        model: str,
        passed_through: Sequence[str],
        registry_paths: Sequence[str],
    ) -> None:
        """Sort finished commands: argvs, or for the older format their text."""
        self._start = (run_command, model)
        forms = identities(
            run_command=run_command,
            model=model,
            eval="",
            passed_through=passed_through,
            registry_paths=registry_paths,
        )
        self._endings = {form[_START:] for form in forms}
        self._folders = {ending[len(passed_through) :] for ending in self._endings}
        self._texts = set()
        self._others: dict[str, list[tuple[str, ...]]] = {}
        self.evals: set[str] = set()
        for command in done:
            if isinstance(command, str):
                self._texts.add(command)
            elif len(command) < _START:
                continue
            elif command[:2] == self._start and command[_START:] in self._endings:
                self.evals.add(command[2])
            else:
                self._others.setdefault(command[2], []).append(command)

    def add_evals(self, evals: Sequence[str]) -> None:
        """Find these in the older format, too, in which an eval cannot be told from the rest."""
        if self._texts:
            texts = [(" ".join((*self._start, "")), " ".join(("", *end))) for end in self._endings]
            self.evals |= {
                key for key in evals for start, end in texts if start + key + end in self._texts
            }

    def otherwise(self, eval: str) -> str:  # noqa: A002 - upstream's word, and ours
        """Say with which other arguments an eval is finished; empty when it is not."""
        said = []
        for command in self._others.get(eval, ()):
            if command[:2] == self._start:
                said.append(" ".join(self._told_apart(command[_START:])))
            else:
                said.append(f"`{' '.join(command)}`")
        found = []
        if "" in said:
            found.append("finished without arguments")
        if any(said):
            found.append(f"finished with other arguments: {'; '.join(filter(None, said))}")
        return "; ".join(found)

    def _told_apart(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """Leave out registry folders that are this run's as well."""
        for folders in self._folders:
            start = arguments[: len(arguments) - len(folders)]
            if arguments == (*start, *folders):
                return start
        return arguments
