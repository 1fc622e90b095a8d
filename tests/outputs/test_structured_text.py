"""The Structured Text compiles as far as names go: declared once, before use, and never a word of IEC 61131-3 itself."""

from __future__ import annotations

import re

from bridge.outputs.plc.structured_text import render_structured_text


def words(text: str) -> frozenset[str]:
    """Give the words of a list."""
    return frozenset(text.split())


KEYWORDS = words(
    """
    ABSTRACT ACTION AND ARRAY AT BY CASE CLASS CONFIGURATION CONSTANT CONTINUE DO ELSE ELSIF END_ACTION END_CASE END_CLASS
    END_CONFIGURATION END_FOR END_FUNCTION END_FUNCTION_BLOCK END_IF END_INTERFACE END_METHOD END_NAMESPACE END_PROGRAM
    END_PROPERTY END_REPEAT END_RESOURCE END_STEP END_STRUCT END_TRANSITION END_TYPE END_UNION END_VAR END_WHILE EXIT EXTENDS
    F_EDGE FALSE FINAL FOR FROM FUNCTION FUNCTION_BLOCK GOTO IF IMPLEMENTS INI INITIAL_STEP INTERFACE INTERNAL INTERVAL JMP
    LABEL METHOD MOD NAMESPACE NON_RETAIN NOT NULL OF ON OR OVERLAP OVERRIDE PERSISTENT POINTER PRIORITY PRIVATE PROGRAM
    PROPERTY PROTECTED PUBLIC R_EDGE READ_ONLY READ_WRITE REF REF_TO REFERENCE REPEAT RESOURCE RET RETAIN RETURN SINGLE STEP
    STRUCT SUPER TASK THEN THIS TO TRANSITION TRUE TYPE UNION UNTIL USING VAR VAR_ACCESS VAR_CONFIG VAR_EXTERNAL VAR_GLOBAL
    VAR_IN_OUT VAR_INPUT VAR_INST VAR_OUTPUT VAR_STAT VAR_TEMP WHILE WITH XOR
    """
)
TYPES = words(
    """
    ANY ANY_BIT ANY_DATE ANY_DERIVED ANY_ELEMENTARY ANY_INT ANY_MAGNITUDE ANY_NUM ANY_REAL ANY_STRING BIT BOOL BYTE CHAR DATE
    DATE_AND_TIME DINT DT DWORD INT LDATE LDT LINT LREAL LTIME LTOD LWORD REAL SINT STRING TIME TIME_OF_DAY TOD UDINT UINT
    ULINT USINT WCHAR WORD WSTRING
    """
)
STANDARD = words(
    """
    ABS ACOS ADD ADR AND_THEN ASIN ATAN ATAN2 CEIL CONCAT COS CTD CTU CTUD DELETE DIV EQ EXP EXPT F_TRIG FIND FLOOR GE GT
    INSERT INDEXOF LE LEFT LEN LIMIT LN LOG LOWER LT MAX MID MIN MOVE MUL MUX NE NOW OR_ELSE R_TRIG REPLACE RIGHT ROL ROR RS
    SEL SEMA SHL SHR SIN SIZEOF SQRT SR SUB TAN TOF TON TP TRUNC UPPER
    """
)
RESERVED = KEYWORDS | TYPES | STANDARD
CONVERSION = re.compile(rf"({'|'.join(TYPES)})_TO_({'|'.join(TYPES)})")
DECLARED = re.compile(r"^\s*(?:TYPE\s+)?(\w+)\s*:(?!=)", re.MULTILINE)
NAMED = re.compile(r"\b(?:FUNCTION|FUNCTION_BLOCK|TYPE)\s+(\w+)")


def code() -> str:
    """Give the printed text without comments, with strings and typed literals out of the way."""
    bare = re.sub(r"\(\*.*?\*\)|'[^']*'", "", render_structured_text(), flags=re.DOTALL)
    return re.sub(r"\b\w+#[\w.#]+", "0", bare)


def declared(text: str) -> list[str]:
    """Give every name that the text declares: types, functions, members, constants and variables."""
    members = [name for listed in re.findall(r"TYPE \w+ : \((.*?)\)", text) for name in re.findall(r"(\w+) :=", listed)]
    return [*NAMED.findall(text), *DECLARED.findall(text), *members]


def test_no_name_is_a_word_of_the_language() -> None:
    names = declared(code())
    assert {
        "FB_LinegateRejectGate",
        "ST_LinegatePart",
        "LG_U32",
        "LG_IN_SCORE",
        "VERDICT_PASS",
        "OpenCount",
        "slot",
    } <= set(names)
    assert [name for name in names if name.upper() in RESERVED or CONVERSION.fullmatch(name.upper())] == []
    assert [name for name in names if not re.fullmatch(r"[A-Za-z](_?[A-Za-z0-9])*", name)] == []


def test_every_name_in_use_is_declared_before_it_or_of_the_language() -> None:
    text = code()
    known = {name.upper() for name in declared(text)} | RESERVED
    used = {name.upper() for name in re.findall(r"[A-Za-z_]\w*", text)}
    assert {name for name in used - known if not CONVERSION.fullmatch(name)} == set()
    for name in NAMED.findall(text):
        uses = [match.start() for match in re.finditer(rf"\b{name}\b", text)]
        declaration = re.search(rf"\b(FUNCTION|FUNCTION_BLOCK|TYPE) {name}\b", text)
        assert declaration is not None
        assert min(uses) > declaration.start(), name


def test_each_line_declares_one_variable_and_no_name_twice_in_a_scope() -> None:
    text = code()
    assert re.findall(r"^\s*\w+\s*,.*:(?!=).*;", text, flags=re.MULTILINE) == []
    scopes = re.findall(r"^(?:FUNCTION|FUNCTION_BLOCK|STRUCT|VAR_GLOBAL)\b.*?^END_(?:FUNCTION|FUNCTION_BLOCK|STRUCT|VAR)$",
                        text, flags=re.MULTILINE | re.DOTALL)  # fmt: skip
    assert len(scopes) == 15
    for scope in scopes:
        names = [name.upper() for name in DECLARED.findall(scope)]
        assert len(names) == len(set(names))


def test_words_are_compared_with_words() -> None:
    text = re.sub(r"\(\*.*?\*\)", "", render_structured_text(), flags=re.DOTALL)
    assert re.findall(r"(?:Ring|Status)\[[^]]*\]\s*(?:<>|=|<|>)\s*\d", text) == []


def test_the_blocks_say_how_to_call_them() -> None:
    text = render_structured_text()
    flat = " ".join(text.split())
    for said in ("third edition", "32 bits", "0 to 54 first", "in one FC16 request", "Not a safety function"):
        assert said in flat, said
    calls = {"Results": "FB_LinegateResults", "Eye": "FB_LinegatePhotoEye", "RejectGate": "FB_LinegateRejectGate",
             "Control": "FB_LinegateControl"}  # fmt: skip
    for instance, block in calls.items():
        (call,) = re.findall(rf"(?<!\.)\b{instance}\(([^()]*?)\);", flat)
        inputs = code().split(f"FUNCTION_BLOCK {block}")[1].split("VAR_OUTPUT")[0]
        assert set(re.findall(r"(\w+) :=", call)) <= set(DECLARED.findall(inputs)), block
        assert len(re.findall(r"(\w+) :=", call)) >= 3, block
