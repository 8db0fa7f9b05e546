"""Kubernetes quantities (`1000m`, `1Gi`, `2e3`) as exact numbers, so that equal amounts compare equal.

Grammar and rounding are those of apimachinery (pkg/api/resource): binary and decimal suffixes, decimal exponents,
values rounded up to one nano-unit.
"""

import re
from fractions import Fraction
from math import ceil
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

PATTERN = r"^[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,2}|[numkMGTPE]|[KMGTPE]i)?$"
MAX_LENGTH = 32

_QUANTITY = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]*)?)(?:[eE](?P<exponent>[+-]?[0-9]{1,2})|(?P<suffix>[numkMGTPE]|[KMGTPE]i))?"
)
_SUFFIXES = {
    **{
        suffix: Fraction(10) ** power
        for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{f"{prefix}i": Fraction(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)},
}
_NANO = 10**9


def parse(text: str) -> Fraction:
    """Read a quantity in its base unit (cores, bytes, devices). Raises ValueError with examples in its message."""
    match = _QUANTITY.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise ValueError(
            f"{text!r} is not a Kubernetes quantity; write a number with or without a suffix, such as 500m, 4 or 16Gi"
        )
    value = Fraction(match["number"].rstrip("."))
    if match["exponent"]:
        value *= Fraction(10) ** int(match["exponent"])
    if match["suffix"]:
        value *= _SUFFIXES[match["suffix"]]
    return Fraction(ceil(value * _NANO), _NANO)


def canonical(text: str) -> str:
    """One spelling for equal amounts: `1000m` and `1` become `1`, `1Gi` and `1024Mi` become `1073741824`."""
    nanos = int(parse(text) * _NANO)
    whole, part = divmod(nanos, _NANO)
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".") if part else str(whole)


def _text(value: object) -> object:
    # YAML reads `cpu: 2` as a number, which Kubernetes accepts.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _checked(value: str) -> str:
    parse(value)
    return value


Quantity = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_checked),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": PATTERN, "maxLength": MAX_LENGTH}),
]
"""A quantity as the user wrote it."""
