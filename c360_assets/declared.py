"""Declared: the fields of a declaration, each taken once with its check; what is wrong is told with its place.

Belongs here: reading a mapping that a person wrote. Knows nothing of what is declared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


class DeclarationError(ValueError):
    """A declaration is wrong; the text names file, feed and field, and says what may stand there."""


class Fields:
    """The fields of one feed's declaration: each is taken once with its check, and none may be left."""

    def __init__(self, where: str, declared: Any) -> None:
        self.where = where
        self.left = dict(mapping_of(declared, where))
        self.known: list[str] = []

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
        self.known.append(name)
        if name not in self.left or self.left[name] is None:
            self.left.pop(name, None)
            if default is ...:
                raise DeclarationError(f"{self.where}: {name}: is missing")
            return default
        value = self.left.pop(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise DeclarationError(f"{self.where}: {name}: '{value}' is no {_kind_name(kind)}")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: Any = ...) -> Any:
        value = self.take(name, str, default)
        if value is not None and value not in choices:
            raise DeclarationError(f"{self.where}: {name}: '{value}' is not known; it may be: {', '.join(choices)}")
        return value

    def texts(self, name: str, default: Any = ...) -> tuple[str, ...]:
        values = self.take(name, list, default)
        wrong = [v for v in values if not isinstance(v, str)]
        if wrong:
            raise DeclarationError(f"{self.where}: {name}: '{wrong[0]}' is no text")
        return tuple(values)

    def end(self) -> None:
        if self.left:
            raise DeclarationError(
                f"{self.where}: {sorted(self.left)[0]}: is not known; there are: {', '.join(sorted(self.known))}"
            )


def list_of(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise DeclarationError(f"{where}: '{value}' is no list")
    return value


def mapping_of(value: Any, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DeclarationError(f"{where}: '{value}' is no mapping")
    return value


def pattern_of(where: str, text: str | None, groups: int = 1) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise DeclarationError(f"{where}: '{text}' is no regular expression: {error}") from None
    if pattern.groups < groups:
        raise DeclarationError(f"{where}: '{text}' has no group (...) around the fourteen digits of the instant")
    return pattern


def _kind_name(kind: type | tuple[type, ...]) -> str:
    names = {str: "text", bool: "true or false", list: "list", dict: "mapping", int: "number", float: "number"}
    return names[kind[0] if isinstance(kind, tuple) else kind]
