"""The function blocks as an SCL source for TIA Portal: the same text, in the dialect's own punctuation.

Names of blocks and types in quotes, local variables with #, BEGIN before the code, temporary variables of functions in
VAR_TEMP, a version for each object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

UNIT = re.compile(r"^(TYPE|FUNCTION|FUNCTION_BLOCK) (\w+).*?^END_\1$", re.MULTILINE | re.DOTALL)
DECLARED = re.compile(r"^    (\w+) +:(?!=)", re.MULTILINE)
TOKEN = re.compile(r"\(\*.*?\*\)|\w+#[\w#]+|[A-Za-z_]\w*|[()]|[^\w()]+|\d[\w.]*", re.DOTALL)


def as_scl(text: str) -> str:
    """Give the SCL source of all types, functions and function blocks in a text of Structured Text."""
    names = [match[2] for match in UNIT.finditer(text)]
    head = (
        "(* Made from linegate.st, the same blocks as an external source for TIA Portal; not compiled there by us. *)\n"
    )
    return "\n\n".join([head, *(_unit(match[0], match[1], match[2], names) for match in UNIT.finditer(text))]) + "\n"


def _unit(source: str, kind: str, name: str, names: list[str]) -> str:
    if kind == "TYPE":
        body = source.replace(f"TYPE {name} :", f'TYPE "{name}"\nVERSION : 0.1').replace(
            "END_STRUCT\n", "END_STRUCT;\n"
        )
        return _quoted(body, [each for each in names if each != name])
    head, code = re.split(r"(?<=END_VAR)\n(?!VAR)", source, maxsplit=1)
    variables = {each.lower() for each in DECLARED.findall(head)}
    head = head.replace(f"{kind} {name}", f'{kind} "{name}"', 1).replace("\nVAR_INPUT", "\nVERSION : 0.1\nVAR_INPUT", 1)
    if kind == "FUNCTION":
        head = head.replace("\nVAR\n", "\nVAR_TEMP\n")
    own = {*variables, name.lower()}
    others = {each for each in names if each != name}
    return _quoted(head, others) + "\nBEGIN\n" + "".join(_code(code, own, others))


def _quoted(text: str, names: list[str] | set[str]) -> str:
    return re.sub(r"(?<!\")\b(?:" + "|".join(names) + r")\b(?!\")", lambda found: f'"{found[0]}"', text)


def _code(code: str, variables: set[str], names: set[str]) -> Iterator[str]:
    """Mark variables and calls; a name before := inside a call's parentheses is the other block's, and stays bare."""
    depth, before = 0, ""
    tokens = TOKEN.findall(code)
    for place, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token, 0)
        following = tokens[place + 1] if place + 1 < len(tokens) else ""
        formal = depth > 0 and following.lstrip().startswith(":=")
        if token in names:
            yield f'"{token}"'
        elif token.lower() in variables and not formal and not before.endswith("."):
            yield f"#{token}"
        else:
            yield token
        before = token
