"""The only duration parser: converts `90s`, `1h30m`, `500ms` to timedelta and back.

The grammar is Gateway API's (GEP-2257), a subset of Go's: one to four parts of at most five digits and a unit h, m, s
or ms. CEL's `duration()` reads the same strings, so the CRD can set bounds.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
MAX_LENGTH = 28

_PART = re.compile(r"([0-9]{1,5})(ms|h|m|s)")
_WHOLE = re.compile(PATTERN)
_UNITS = {
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}


def parse(text: str) -> timedelta:
    """Read `1h30m`. Raises ValueError, with the grammar in its message."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a duration; write numbers with the units h, m, s or ms, such as 90s or 1h30m"
        )
    return sum((int(number) * _UNITS[unit] for number, unit in _PART.findall(text)), timedelta())


def render(value: timedelta) -> str:
    """Format `value`, largest unit first, for `parse`. Must not be negative; drops fractions of a millisecond."""
    rest = value // _UNITS["ms"]
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


@dataclass(frozen=True)
class Between:
    """Marks a `timedelta` field as a duration string from `minimum` to `maximum`, both included.

    `Annotated[timedelta, Between("1s", "1h")]`. With `whole_seconds`, fractions of a second are rejected, for values
    that are passed on in seconds. Python and, through CEL, the CRD check the same bounds.
    """

    minimum: str
    maximum: str
    whole_seconds: bool = False

    @property
    def rule(self) -> str:
        """What is allowed, as the predicate of an error message."""
        unit = " in whole seconds" if self.whole_seconds else ""
        return f"must be a duration{unit} from {self.minimum} to {self.maximum}, such as {self._example()}"

    def _example(self) -> str:
        low, high = parse(self.minimum), parse(self.maximum)
        return render(max(low, min(high, timedelta(seconds=90))))

    def _read(self, value: object) -> timedelta:
        if isinstance(value, str):
            value = parse(value)
        if not isinstance(value, timedelta):
            raise ValueError(f"{value!r} {self.rule}; write it as a string")
        fine = self.whole_seconds and value % timedelta(seconds=1)
        if fine or not parse(self.minimum) <= value <= parse(self.maximum):
            raise ValueError(f"{render(value)} {self.rule}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                render, return_schema=core_schema.str_schema()
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        rule = f"duration(self) >= duration('{self.minimum}') && duration(self) <= duration('{self.maximum}')"
        if self.whole_seconds:
            rule += " && duration(self).getMilliseconds() % 1000 == 0"
        return {
            "type": "string",
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [
                # A string that is not a duration must get this message too, not CEL's conversion error.
                {"rule": f"self.matches('{PATTERN}') && {rule}", "message": self.rule}
            ],
        }
