import inspect
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec


class ValueKind(msgspec.Struct, frozen=True):
    """What the value of an option is.

    Attributes:
        metavar: what stands for it in the help.
        read: makes the value of a text, or raises a UsageError; None where the type does.
        show: makes a text of the value.
        is_path: whether it is a file or folder.
    """

    metavar: str
    read: Callable[[str], Any] | None = None
    show: Callable[[Any], str] = str
    is_path: bool = False


# What a shell can complete: a name of the registry.
Completion = Literal["model", "eval_set", "eval"]


class Option(msgspec.Struct, frozen=True):
    """How a value is given on the command line, as a note at its type: `Annotated[int, Option()]`.

    A text after it in the same `Annotated` is the help of that command alone. The name is that
    of the field or argument, the default its default. From these notes come click's options, the
    variables, the keys of a configuration file, and the tables of these in docs/.

    Attributes:
        help: what it does.
        kind: what the value is; None for a flag, and where the type says it all.
        names: spellings, where it is not the field's name alone; the first long one is its name.
        least: the least number.
        most: the largest number.
        configurable: whether a variable and a configuration file give it, too.
        required: whether it must be given, though it may be several times.
        complete: what a shell completes the value with.
        default: what the help says of a default that is no value.
    """

    help: str
    kind: ValueKind | None = None
    names: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    configurable: bool = True
    required: bool = False
    complete: Completion | None = None
    default: str = ""


class Heading(msgspec.Struct, frozen=True):
    """A heading of the help, above the option that it is noted at and those after it."""

    text: str


class CommandLineOnly(msgspec.Struct, frozen=True):
    """After an option that is configurable elsewhere: this command takes it when it is typed."""


class Argument(msgspec.Struct, frozen=True):
    """A word of the command line that is no option's.

    Attributes:
        complete: what a shell completes it with.
        metavar: what stands for it in the help; None is its name.
    """

    complete: Completion | None = None
    metavar: str | None = None


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """A word or an option of one command.

    Attributes:
        field: the argument or field that gets its value.
        type: of one value.
        multiple: whether there may be several.
        default: `inspect.Parameter.empty` where there is none.
        note: how it is given.
        heading: above it in the help; empty for none.
    """

    field: str
    type: Any
    multiple: bool
    default: Any
    note: Option | Argument
    heading: str

    @property
    def name(self) -> str:
        """Its name, as in `click`'s parameters and, with hyphens, in a configuration file."""
        names = self.note.names if isinstance(self.note, Option) else ()
        long = [name for name in names if name.startswith("--")]
        return long[0][2:].replace("-", "_") if long else self.field

    @property
    def configurable(self) -> bool:
        """Whether a variable and a configuration file give it, too."""
        return isinstance(self.note, Option) and self.note.configurable

    @property
    def kind(self) -> ValueKind | None:
        """What its value is, where that is said."""
        return self.note.kind if isinstance(self.note, Option) else None

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        asked = isinstance(self.note, Option) and self.note.required
        return asked or self.default is inspect.Parameter.empty


Given = TypeVar("Given")


def parameters(of: Callable[..., object]) -> Iterator[Parameter]:
    """What a command takes: each argument of a function, or field of a struct, that has a note.

    An argument or field that is a struct stands for its fields.
    """
    for found in _members(of).values():
        if isinstance(found, Parameter):
            yield found
        else:
            yield from parameters(found)


def call(of: Callable[..., Given], values: Mapping[str, Any], **others: object) -> Given:
    """Call a function, or make a struct, with the values of its parameters by their names."""
    for field, found in _members(of).items():
        if not isinstance(found, Parameter):
            others[field] = call(found, values)
        elif found.name in values:
            value = values[found.name]
            others[field] = tuple(value) if found.multiple else value
    return of(**others)


def _members(of: Callable[..., object]) -> dict[str, Parameter | type[msgspec.Struct]]:
    members: dict[str, Parameter | type[msgspec.Struct]] = {}
    hints = get_type_hints(of, include_extras=True)
    for field, declared in inspect.signature(of).parameters.items():
        kind, notes = _unfolded(hints[field])
        how = [note for note in notes if isinstance(note, Option | Argument)]
        if how:
            texts = [note for note in notes if isinstance(note, str)]
            headings = [note.text for note in notes if isinstance(note, Heading)]
            changes: dict[str, object] = {"help": texts[0]} if texts else {}
            if any(isinstance(note, CommandLineOnly) for note in notes):
                changes["configurable"] = False
            multiple = get_origin(kind) is tuple
            members[field] = Parameter(
                field=field,
                type=get_args(kind)[0] if multiple else kind,
                multiple=multiple,
                default=declared.default,
                note=msgspec.structs.replace(how[0], **changes) if changes else how[0],
                heading=headings[0] if headings else "",
            )
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            members[field] = kind
    return members


def _unfolded(hint: Any) -> tuple[Any, list[object]]:  # noqa: ANN401 - any type
    """A type without its notes and `| None`, and the notes."""
    if get_origin(hint) is Annotated:
        kind, notes = _unfolded(hint.__origin__)
        return kind, [*notes, *hint.__metadata__]
    if get_origin(hint) in {Union, UnionType}:
        return _unfolded(get_args(hint)[0])
    return hint, []
