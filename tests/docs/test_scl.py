"""The SCL source is the Structured Text that is run in tests/plc, in TIA Portal's punctuation and nothing else."""

from __future__ import annotations

import re

from tests.docs.scl import DECLARED, UNIT, as_scl
from tests.docs.write_tables import PLC_SCL, blocks


def test_the_shipped_source_is_made_from_the_text() -> None:
    assert PLC_SCL.read_text(encoding="utf-8") == as_scl(blocks()), "run `make docs`"


def test_without_its_punctuation_it_is_the_text_again() -> None:
    bare = re.sub(r'"|(?<!\w)#(?=\w)', "", as_scl(blocks()).split("*)", 1)[1])
    bare = (
        bare.replace("\nVERSION : 0.1", "")
        .replace("\nBEGIN", "")
        .replace("VAR_TEMP", "VAR")
        .replace("END_STRUCT;", "END_STRUCT")
    )
    bare = re.sub(r"^TYPE (\w+)$", r"TYPE \1 :", bare, flags=re.MULTILINE)
    assert bare.split() == " ".join(match[0] for match in UNIT.finditer(blocks())).replace('"', "").split()


def test_every_variable_of_the_code_is_marked_and_declared_and_every_call_quoted() -> None:
    source = as_scl(blocks())
    units = re.findall(r'^(?:FUNCTION|FUNCTION_BLOCK) "(\w+)".*?^END_', source, flags=re.MULTILINE | re.DOTALL)
    assert len(units) == 10
    kinds = "(?:FUNCTION|FUNCTION_BLOCK)"
    whole = re.compile(rf'^{kinds} "(\w+)"(.*?)\nBEGIN\n(.*?)^END_{kinds}$', re.MULTILINE | re.DOTALL)
    for name, head, code in whole.findall(source):
        declared = {each.lower() for each in DECLARED.findall(head)} | {name.lower()}
        plain = re.sub(r"\(\*.*?\*\)", "", code, flags=re.DOTALL)
        assert {each.lower() for each in re.findall(r"(?<!\w)#(\w+)", plain)} <= declared, name
        statements = re.findall(r"(?:^|;|THEN|ELSE|DO)\s*(\w[\w.\[\]]*) :=", plain)
        assert statements == [], name
        assert re.findall(r'(?<!["\w])LG_\w+\(', plain) == [], name
