from typing import Any

from runner.errors import UsageError


def parse_mapping(path: str, text: str) -> dict[str, Any]:
    """Read a YAML file whose top level maps names to anything.

    Args:
        path: of the file, for messages.
        text: what the file holds; an empty one is an empty mapping, as upstream has it.

    Raises:
        UsageError: it is no YAML, no mapping, or a name is not text or stands twice.
    """
    import yaml  # noqa: PLC0415 - costs 20 ms, and a warm registry cache needs none of it

    # libyaml is ten times as fast, and not every wheel has it
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return {}
        if not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1
            what = "list" if isinstance(node, yaml.SequenceNode) else "single value"
            raise UsageError(f"{path}, line {line}: expected a mapping of names, found a {what}")
        _check_names(path, node)
        document: dict[str, Any] = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise UsageError(_describe(path, error)) from None
    except (ValueError, TypeError) as error:
        # PyYAML lets Python's own errors through, as for the date 2024-99-99
        raise UsageError(f"{path}: this YAML holds a value that cannot be read: {error}") from None
    finally:
        loader.dispose()
    return document


def _check_names(path: str, node: Any) -> None:  # noqa: ANN401 - yaml is imported late
    """Refuse what PyYAML lets pass: a name that is not text, and the same name twice."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            raise UsageError(f"{path}, line {line}: a name must be text; put quotes around it")
        if key.value in lines:
            raise UsageError(
                f"{path}, line {line}: `{key.value}` already stands at line {lines[key.value]}; "
                "rename or remove one of them"
            )
        lines[key.value] = line


def _describe(path: str, error: Exception) -> str:
    # a character that YAML cannot hold is told with a reason and no line, all else with a problem
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", error)
    return f"{path}{where}: this is not valid YAML: {' '.join(str(problem).split())}"
