"""Hand-written YAML, read as hostile input.

A few bytes of YAML can mean a lot: aliases of aliases expand to a billion values, a number in base
60 takes minutes. The invariant: any text becomes a plain value of bounded size in bounded time, or
NotYaml; nothing else is raised.
"""

from collections.abc import Iterator

import yaml

MAX_CHARACTERS = 1 << 17
"""A recipe has a few thousand; PyYAML reads about ten thousand of the densest text per second."""
_MAX_VALUES = 1 << 17
_MAX_DEPTH = 100
_MAX_NUMBER = 400
"""Characters of a number; the longest float has about three hundred."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class NotYaml(ValueError):
    """A text that is not YAML, or more than anyone writes by hand."""


def read_yaml(text: str, *, max_characters: int = MAX_CHARACTERS) -> tuple[object, list[str]]:
    """Return the value of a text, and the repeated fields of its mappings with their lines.

    YAML uses the last of two. Raises NotYaml.
    """
    if len(text) > max_characters:
        raise NotYaml(f"it is longer than {max_characters} characters")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, []
            _Measure().of(node)
            return loader.construct_document(node), list(_repeated(node, set()))
        finally:
            loader.dispose()
    except (yaml.YAMLError, NotYaml) as error:
        raise NotYaml(str(error)) from error
    except RecursionError as error:
        raise NotYaml("it is nested too deeply") from error
    except (ValueError, ArithmeticError) as error:
        raise NotYaml(f"a value is not what it looks like or what its tag says: {error}") from error
    # PyYAML trusts tags: `!!bool maybe`, `!!int ""` and `!!timestamp x` raise arbitrary errors.
    except (LookupError, AttributeError, TypeError) as error:
        raise NotYaml("a value is not what its tag says") from error


class _Measure:
    """Counts the values of a document, expanding each alias."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def of(self, node: yaml.Node, depth: int = 0) -> int:
        """Return how many values a node expands to. Raises NotYaml for too many or endless ones."""
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            raise NotYaml(f"{_line(node)}: an alias refers to a value that contains it")
        if depth > _MAX_DEPTH:
            raise NotYaml(f"{_line(node)}: it is nested more than {_MAX_DEPTH} deep")
        if node.tag in _NUMBERS and len(node.value) > _MAX_NUMBER:
            raise NotYaml(f"{_line(node)}: a number of {len(node.value)} characters")
        self._open.add(id(node))
        size = 1 + sum(self.of(part, depth + 1) for part in _parts(node))
        self._open.discard(id(node))
        if size > _MAX_VALUES:
            raise NotYaml(f"{_line(node)}: with its aliases it is more than {_MAX_VALUES} values")
        self._sizes[id(node)] = size
        return size


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _repeated(node: yaml.Node, seen: set[int]) -> Iterator[str]:
    if id(node) in seen:  # an alias of a node that was seen before
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _repeated(part, seen)
    if isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, (key.tag, str(key.value))
            if name in lines:
                yield f"line {line}: {key.value} stands in line {lines[name]} already"
            lines.setdefault(name, line)
            yield from _repeated(value, seen)


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
