"""Files of objects: YAML or JSON, by type, references by name (docs/user-guide/files.md).

::

    pool:
      - name: web
        servers: [{ip: 10.0.0.1, port: 80}]
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from shoal.errors import Invalid, NotFound, Problem
from shoal.objects import Field, MessageType, ObjectType, Registry
from shoal.objects.check import meant
from shoal.objects.types import SENSITIVE_MASK, SERVER_MADE

from .fields import ADDRESS, REFERENCE_PREFIXES, address, addresses, given, name_in, reference

Document = dict[str, Any]
FILE_BYTES_MAX = 20_000_000
LEFT_OUT = SERVER_MADE | {"uuid", "tenant_ref"}
PRESETS = frozenset({"min_scaleout_per_vs", "max_scaleout_per_vs", "max_se", "algo", "buffer_se", "ha_mode"})
"""Of a service engine group: their defaults follow from its mode, so they are always written down."""
KEYS = ("uuid", "vip_id", "name", "index", "port")
STDIN = "-"


class Wanted(NamedTuple):
    """One object of a file; ``document`` holds what the file says of it, ``where`` is for messages."""

    kind: ObjectType
    name: str
    document: Document
    where: str

    @property
    def title(self) -> str:
        return f"{self.kind.endpoint} {self.name}".rstrip()


# --- reading ---


def read(registry: Registry, files: Iterable[str], stdin: Any = None) -> list[Wanted]:
    """Every object of the files, in their order; ``-`` is ``stdin``. Raises Invalid, NotFound, with the place."""
    found: list[Wanted] = []
    for file in files:
        for number, document in enumerate(_loaded(file, stdin)):
            found += _objects(registry, document, f"{file}{f' (document {number + 1})' if number else ''}")
    first: dict[tuple[str, str], str] = {}
    for wanted in found:
        before = first.setdefault((wanted.kind.endpoint, wanted.name), wanted.where)
        if before != wanted.where:
            raise Invalid([Problem(path=wanted.where, why=f"{wanted.title} is in {before} already")])
    return found


def _loaded(file: str, stdin: Any) -> list[Any]:
    try:
        text = stdin.read(FILE_BYTES_MAX + 1) if file == STDIN and stdin else _text(Path(file))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Invalid([Problem(path=file, why=f"can't be read: {why}")]) from None
    if len(text) > FILE_BYTES_MAX:
        raise Invalid([Problem(path=file, why=f"is larger than {FILE_BYTES_MAX // 1_000_000} MB")])
    try:
        return [document for document in yaml.load_all(text, _Loader) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or getattr(error, "reason", None) or "is neither YAML nor JSON"
        raise Invalid([Problem(path=f"{file}{line}", why=str(why))]) from None
    except (RecursionError, ValueError) as error:
        raise Invalid([Problem(path=file, why=f"can't be read: {error or 'nested too deeply'}")]) from None


def _text(path: Path) -> str:
    if path.stat().st_size > FILE_BYTES_MAX:
        return " " * (FILE_BYTES_MAX + 1)
    return path.read_text()


def _objects(registry: Registry, document: Any, where: str) -> Iterator[Wanted]:
    if not isinstance(document, Mapping):
        raise Invalid(
            [Problem(path=where, why="must be types with their objects", hint="Such as: pool: [{name: web}]")]
        )
    for word, entries in document.items():
        try:
            kind = registry.type(str(word))
        except NotFound as error:
            raise NotFound(f"{where}: {error.message}", hint=error.hint) from None
        if not kind.endpoint or kind.read_only:
            raise Invalid([Problem(path=f"{where}: {kind.name}", why="is no object that can be configured")])
        for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
            place = f"{where}: {kind.endpoint} {number}"
            if not isinstance(entry, Mapping):
                raise Invalid([Problem(path=place, why="must be an object: its fields and their values")])
            name = "" if kind.singleton else entry.get("name")
            if not isinstance(name, str) or (not name and not kind.singleton):
                raise Invalid([Problem(path=place, why="a name is required, as a text")])
            yield Wanted(kind, name, _known(kind.message, dict(entry), place), place)


def _known(message: MessageType, entry: Document, place: str) -> Document:
    """References in the API's form, addresses as IpAddr. Raises NotFound for a field that is none."""
    found: Document = {}
    for name, value in entry.items():
        field = message.fields.get(str(name))
        if field is None:
            raise NotFound(
                f"{place}: {message.name} has no field {str(name)[:60]}.", hint=meant(str(name), message.fields)
            )
        found[field.name] = None if value is None else _value(field, value, f"{place}.{name}")
    return found


def _value(field: Field, value: Any, place: str) -> Any:
    if field.item is not None:
        entries = value if isinstance(value, list) else [value]
        return [_value(field.item, entry, f"{place}[{number}]") for number, entry in enumerate(entries, 1)]
    if field.message is not None:
        if field.message.name == ADDRESS and isinstance(value, str):
            return address(value) or {"addr": value, "type": "DNS"}
        return _known(field.message, dict(value), place) if isinstance(value, Mapping) else value
    if field.ref and isinstance(value, str) and value and not value.startswith(REFERENCE_PREFIXES):
        return reference(field, value)
    if field.enum and isinstance(value, str):
        return value.upper()
    return value if field.kind != "string" or isinstance(value, str) else _as_text(value)


def _as_text(value: Any) -> Any:
    """A text that YAML took for a number: ``description: 5``."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


# --- what a file wants of what is there ---


def merged(message: MessageType, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Document:
    """What is stored, with what a file says of it: what it leaves out stays, ``null`` unsets, a list is those entries
    (each keeps what the file leaves out of it). Equal to ``stored`` when nothing is to change."""
    result = copy.deepcopy(dict(stored))
    for name, value in wanted.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(message.fields[name], stored.get(name), value)
    return result


def _merged(field: Field, stored: Any, wanted: Any) -> Any:
    if field.item is not None:
        before = stored if isinstance(stored, list) else []
        return [_merged(field.item, _match(before, entry, n), entry) for n, entry in enumerate(wanted)]
    if field.message is not None and isinstance(wanted, Mapping):
        return merged(field.message, stored if isinstance(stored, Mapping) else {}, wanted)
    if field.ref and isinstance(stored, str) and isinstance(wanted, str) and same_reference(stored, wanted):
        return stored
    if wanted == SENSITIVE_MASK and stored is not None:
        return stored
    return stored if type(stored) is float and stored == wanted else wanted


def same_reference(stored: str, wanted: str) -> bool:
    if name_in(wanted):
        return name_in(stored) == name_in(wanted)
    return stored.partition("#")[0].endswith(wanted.partition("#")[0])


def _match(before: list[Any], entry: Any, position: int) -> Any:
    """The stored entry that an entry means: by what identifies it, else the one at its place."""
    if not isinstance(entry, Mapping):
        return next((one for one in before if isinstance(one, str) and same_reference(one, str(entry))), None)
    key = _key(entry)
    if key is not None:
        return next((one for one in before if isinstance(one, Mapping) and _key(one, key[0]) == key), None)
    return before[position] if position < len(before) else None


def _key(entry: Mapping[str, Any], name: str = "") -> tuple[str, Any] | None:
    ip = entry.get("ip")
    if name in ("", "ip") and isinstance(ip, Mapping):
        return "ip", (ip.get("addr"), entry.get("port"))
    for one in (name,) if name else KEYS:
        if entry.get(one) is not None:
            return one, entry[one]
    return None


def in_order(wanted: list[Wanted]) -> list[Wanted]:
    """Those that others refer to come first."""
    by_title = {(one.kind.endpoint, one.name): one for one in wanted}
    done: dict[tuple[str, str], Wanted] = {}
    on_the_way: set[tuple[str, str]] = set()

    def visit(one: Wanted) -> None:
        title = (one.kind.endpoint, one.name)
        if title in done or title in on_the_way:
            return
        on_the_way.add(title)
        for type, name in _referred(one.kind.message, one.document):
            if (type, name) in by_title:
                visit(by_title[type, name])
        done[title] = one

    for one in wanted:
        visit(one)
    return list(done.values())


def _referred(message: MessageType, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        field = message.fields[name]
        item = field.item or field
        for entry in value if isinstance(value, list) else [value]:
            if item.ref and isinstance(entry, str):
                yield item.ref.lower(), name_in(entry)
            elif item.message is not None and isinstance(entry, Mapping):
                yield from _referred(item.message, entry)


# --- writing ---


def written(kind: ObjectType, document: Mapping[str, Any], *, full: bool = False) -> Document:
    """An object as a file has it: without what the controller makes, secrets and (unless ``full``) defaults."""
    return _written(kind.message, document, full=full)


def _written(message: MessageType, document: Mapping[str, Any], *, full: bool) -> Document:
    found: Document = {}
    document = given(message, document)
    for name, field in message.fields.items():
        value = document.get(name)
        if value is None or name in LEFT_OUT or field.read_only or value == SENSITIVE_MASK or value == []:
            continue
        usual = field.has_default and value == field.default and name not in PRESETS and not field.required
        if full or not usual:
            out = _out(field, value, full=full)
            if full or out != {} or not field.has_default:
                found[name] = out
    return found


def _out(field: Field, value: Any, *, full: bool) -> Any:
    if isinstance(value, list):
        return [_out(field.item or field, entry, full=full) for entry in value]
    if field.message is not None and isinstance(value, Mapping):
        if field.message.name == ADDRESS and addresses(field, [str(value.get("addr"))]) == [value]:
            return value["addr"]
        return _written(field.message, value, full=full)
    if field.ref and isinstance(value, str):
        return name_in(value) or value
    return value


def text_of(documents: Mapping[str, list[Document]]) -> str:
    """YAML."""
    if not documents:
        return ""
    return str(yaml.dump(dict(documents), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.2's few plain words: ``on``, ``22:10`` and dates are texts; a key twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key.value, str) else id(key)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name} is there twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_PLAIN = {
    "tag:yaml.org,2002:bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "tag:yaml.org,2002:int": (r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    "tag:yaml.org,2002:float": (r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    "tag:yaml.org,2002:null": (r"^(?:~|null|Null|NULL|)$", "~nN"),
}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


def _represent(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def _set_up() -> None:
    _Loader.yaml_implicit_resolvers = {}
    for tag, (pattern, first) in _PLAIN.items():
        _Loader.add_implicit_resolver(tag, re.compile(pattern), [*first, *([""] if tag.endswith("null") else [])])
    _Dumper.add_representer(str, _represent)
    _Dumper.ignore_aliases = lambda *_: True


_set_up()
