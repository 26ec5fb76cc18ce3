"""One configuration object while it is read: values or their defaults, checked, with all problems collected."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.errors import Problem, SpecError
from trimtab.spec.fields import nearest, shown
from trimtab.spec.huggingface.defaults import Child, defaults_of
from trimtab.spec.huggingface.limits import limit

_MANY = 1000
_CLOSE = 0.93
"""From this likeness on (difflib's ratio), an unknown key counts as a slip of the known one that is not there."""


class Config:
    """A mapping of a ``config.json``, or one nested in it.

    Keys may be asked for by either of their names. A value that is wrong is noted, and a harmless one is returned in its stead,
    so that one reading finds all problems; ``settle`` raises them.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        model_type: str,
        path: str = "",
        parent: Config | None = None,
        lines: Mapping[str, int] | None = None,
    ) -> None:
        self.model_type = model_type
        self.path = path
        self.problems: list[Problem] = parent.problems if parent else []
        self.lines: Mapping[str, int] = parent.lines if parent else lines or {}
        self._values = values
        self._defaults = defaults_of(model_type)
        self._find_slips()

    def where(self, key: str) -> str:
        """Dotted path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def name(self, key: str) -> str:
        """The name under which the key stands in the file, or would."""
        actual = self._defaults.aliases.get(key, key)
        names = [actual, *(other for other, known in self._defaults.aliases.items() if known == actual)]
        return next((name for name in names if name in self._values), actual)

    def get(self, key: str) -> Any:
        """The value as it stands in the file, else its default, else None."""
        name = self.name(key)
        if name in self._values:
            return self._values[name]
        return self._defaults.values.get(self._defaults.aliases.get(key, key))

    def has(self, key: str) -> bool:
        """Whether the file itself says the key."""
        return self.name(key) in self._values

    def note(self, key: str, message: str, *, allowed: str | None = None, nearest: str | None = None) -> None:
        """Note a problem with the value of a key."""
        where = self.where(self.name(key))
        found = Problem(path=where, message=message, line=self.lines.get(where), allowed=allowed, nearest=nearest)
        if found not in self.problems:
            self.problems.append(found)

    def settle(self, source: str | None = None) -> None:
        """Raises SpecError with all problems noted so far, if there are any."""
        if self.problems:
            raise SpecError(self.problems, source=source)

    def count(self, key: str, *, low: int = 1, high: int | None = None) -> int:
        """A whole number between ``low`` and ``high`` (or the named limit of such keys)."""
        value = self.get(key)
        top = limit(key) if high is None else high
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= top:
            return value
        whole = isinstance(value, int | float) and not isinstance(value, bool)
        hint = str(int(min(max(value, low), top))) if whole else None
        said = "missing" if value is None and not self.has(key) else f"found {shown(value)}"
        self.note(key, said, allowed=f"a whole number, at least {low} and at most {top}", nearest=hint)
        default = self._defaults.values.get(self._defaults.aliases.get(key, key))
        return default if isinstance(default, int) and not isinstance(default, bool) and default >= low else max(low, 1)

    def optional(self, key: str, *, low: int = 1) -> int | None:
        """A whole number, or None where the key is null or missing."""
        return None if self.get(key) is None else self.count(key, low=low)

    def flag(self, key: str) -> bool:
        """true or false; null and a key that nobody knows are false."""
        value = self.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.note(key, f"found {shown(value)}", allowed="true or false")
        return False

    def number(self, key: str, default: float) -> float:
        """A finite number, or the default where it is null or missing."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30:
            return float(value)
        self.note(key, f"found {shown(value)}", allowed="a number")
        return default

    def choice(self, key: str, choices: Sequence[str], *, default: str | None = None) -> str:
        """One of a closed set of words; ``default`` stands for null."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, str) and value in choices:
            return value
        self.note(key, f"found {shown(value)}", allowed=", ".join(choices), nearest=nearest(str(value), list(choices)))
        return default or choices[0]

    def counts(self, key: str, *, length: int | None = None, low: int = 1) -> tuple[int, ...]:
        """A list of whole numbers, of ``length`` where that is given; a single number stands for a list of equal ones."""
        value = self.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and length is not None:
            value = [value] * length
        if not isinstance(value, list | tuple) or any(not isinstance(v, int) or isinstance(v, bool) for v in value):
            self.note(key, f"found {shown(value)}", allowed="a list of whole numbers")
            return (max(low, 1),) * (length or 1)
        if length is None and not value and low >= 1:
            self.note(key, "found an empty list", allowed="at least one number")
            return (max(low, 1),)
        if length is not None and len(value) != length:
            self.note(key, f"found {len(value)} numbers", allowed=f"{length} of them")
            return (max(low, 1),) * length
        if any(not low <= item <= limit(key) for item in value):
            self.note(key, f"found {shown(str(value))}", allowed=f"numbers of at least {low} and at most {limit(key)}")
            return (max(low, 1),) * len(value)
        return tuple(value)

    def words(self, key: str, choices: Sequence[str], *, length: int) -> tuple[str, ...]:
        """A list of ``length`` words of a closed set."""
        value = self.get(key)
        if not isinstance(value, list | tuple) or any(not isinstance(item, str) for item in value):
            self.note(key, f"found {shown(value)}", allowed="a list of " + ", ".join(choices))
        elif len(value) != length:
            self.note(key, f"found {len(value)} entries", allowed=f"one for each of the {length} layers", nearest=str(length))
        elif strange := [item for item in value if item not in choices]:
            self.note(key, f"found {shown(strange[0])}", allowed=", ".join(choices), nearest=nearest(strange[0], list(choices)))
        else:
            return tuple(value)
        return (choices[0],) * length

    def child(self, key: str, model_type: str | None = None) -> Config:
        """A nested configuration. Its type is ``model_type`` where that is given, else what transformers takes: the only type
        that may stand there, what the nested configuration says, or the default."""
        known = self._defaults.children.get(key, Child(model_type=""))
        value = self.get(key)
        if value is not None and not isinstance(value, Mapping):
            self.note(key, f"found {shown(value)}", allowed="an object, the configuration of a part of the model")
            value = None
        values = known.values if value is None else value
        said = values.get("model_type")
        kind = known.model_type if known.fixed or not isinstance(said, str) else said
        return Config(values, model_type=model_type or kind, path=self.where(key), parent=self)

    def flat(self, key: str) -> Config:
        """A nested configuration whose keys stand in this one."""
        known = self._defaults.children.get(key, Child(model_type=""))
        return Config(self._values, model_type=known.model_type, path=self.path, parent=self)

    def over(self, values: Mapping[str, Any]) -> Config:
        """This configuration with further values, which stand in no file."""
        return Config({**self._values, **values}, model_type=self.model_type, path=self.path, parent=self)

    def require(self, holds: bool, key: str, message: str, *, allowed: str | None = None, nearest: str | None = None) -> bool:
        """Note a problem where a relation between values does not hold; returns whether it does."""
        if not holds:
            self.note(key, message, allowed=allowed, nearest=nearest)
        return holds

    def divides(self, part: int, whole: int, keys: tuple[str, str]) -> bool:
        """Note a problem with ``keys[0]`` where ``part`` does not divide ``whole``, the value of ``keys[1]``."""
        if part >= 1 and whole % part == 0:
            return True
        near = min((n for n in range(1, min(whole, 100_000) + 1) if whole % n == 0), key=lambda n: abs(n - part), default=1)
        self.note(keys[0], f"{part} does not divide {keys[1]} {whole}", allowed=f"a divisor of {keys[1]}", nearest=str(near))
        return False

    def _find_slips(self) -> None:
        known = self._defaults.values
        for key in self._values if len(self._values) <= _MANY else ():
            if key in known or key in self._defaults.aliases:
                continue
            close = difflib.get_close_matches(key, [name for name in known if name not in self._values], n=1, cutoff=_CLOSE)
            if close and isinstance(known[close[0]], int):
                self.note(key, "unknown key", allowed="the keys of a config of this type", nearest=f"'{close[0]}'")
