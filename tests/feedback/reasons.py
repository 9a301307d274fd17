"""A reason for each code of why a figure is undefined."""

import re

from baro.functional.undefined import REASONS, Undefined

FIELD = re.compile(r"\{(\w+)\}")
VALUES = {"value": "0.750", "share": "49.0%", "because": Undefined("one_category")}


def made(code):
    """A reason with a value for each of its fields."""
    return Undefined(code, **{name: VALUES.get(name, 7) for name in FIELD.findall(REASONS[code])})
