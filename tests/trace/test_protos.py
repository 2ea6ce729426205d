"""perfetto_protos/trace.proto against the full schema that the perfetto package carries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from perfetto.protos.perfetto.trace import perfetto_trace_pb2

from perfetto_protos import trace_pb2

_OURS, _THEIRS = trace_pb2.DESCRIPTOR, perfetto_trace_pb2.DESCRIPTOR


def _messages(found: Iterator[Descriptor]) -> Iterator[Descriptor]:
    for message in found:
        yield message
        yield from _messages(iter(message.nested_types))


def _by_name(messages: Iterator[Descriptor], package: str) -> dict[str, Descriptor]:
    return {
        message.full_name.removeprefix(f"{package}."): message for message in _messages(messages)
    }


_OUR_MESSAGES = _by_name(iter(_OURS.message_types_by_name.values()), _OURS.package)
_THEIR_MESSAGES = _by_name(iter(_THEIRS.message_types_by_name.values()), _THEIRS.package)


def _enums(
    top: Iterator[EnumDescriptor], messages: dict[str, Descriptor], package: str
) -> dict[str, EnumDescriptor]:
    found = [*top, *(enum for message in messages.values() for enum in message.enum_types)]
    return {enum.full_name.removeprefix(f"{package}."): enum for enum in found}


_OUR_ENUMS = _enums(iter(_OURS.enum_types_by_name.values()), _OUR_MESSAGES, _OURS.package)
_THEIR_ENUMS = _enums(iter(_THEIRS.enum_types_by_name.values()), _THEIR_MESSAGES, _THEIRS.package)


def _refers_to(field: FieldDescriptor, package: str) -> str:
    referred = field.message_type or field.enum_type
    return referred.full_name.removeprefix(f"{package}.") if referred else ""


def _facts(field: FieldDescriptor, package: str) -> dict[str, object]:
    return {
        "number": field.number,
        "type": field.type,
        "repeated": field.is_repeated,
        "required": field.is_required,
        "packed": field.is_packed,
        "of": _refers_to(field, package),
    }


_FIELDS = [(name, field.name) for name, m in _OUR_MESSAGES.items() for field in m.fields]


def test_both_schemas_are_loaded_under_their_own_packages() -> None:
    assert _OURS.package != _THEIRS.package
    assert len(_OUR_MESSAGES) > 10
    assert len(_FIELDS) > 50


@pytest.mark.parametrize("name", _OUR_MESSAGES)
def test_every_message_exists_in_perfetto(name: str) -> None:
    assert name in _THEIR_MESSAGES


@pytest.mark.parametrize(("message", "field"), _FIELDS, ids=[".".join(names) for names in _FIELDS])
def test_every_field_has_perfettos_number_type_and_label(message: str, field: str) -> None:
    ours = _OUR_MESSAGES[message].fields_by_name[field]
    theirs = _THEIR_MESSAGES[message].fields_by_name[field]
    assert _facts(ours, _OURS.package) == _facts(theirs, _THEIRS.package)


@pytest.mark.parametrize("name", _OUR_ENUMS)
def test_every_enum_value_has_perfettos_number(name: str) -> None:
    ours = {value.name: value.number for value in _OUR_ENUMS[name].values}
    theirs = {value.name: value.number for value in _THEIR_ENUMS[name].values}
    assert ours.items() <= theirs.items()
