"""`linegate records`: list, show, export and verify; each reads only, also while the bridge runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import typer

from bridge.cli_options import DEFAULT_CONFIG, ConfigFile
from bridge.config_file import load_config
from bridge.errors import ConfigError, StartError
from bridge.records import export, listing, verify, verify_report
from bridge.records.filters import Filter

records_app = typer.Typer(help="What was judged, from the journal.", no_args_is_help=True)

MOMENT = "A moment (2026-11-21T08:00:00Z), a date or a span back from now (2h, 30m)"
Verdict = Annotated[str | None, typer.Option(help="PASS | FAIL | UNCERTAIN | ERROR | LATE")]
Since = Annotated[str | None, typer.Option(help=f"{MOMENT}.")]
Until = Annotated[str | None, typer.Option(help=f"{MOMENT}; what was decided before it.")]
PartId = Annotated[str | None, typer.Option("--part", help="Part id.")]
Recipe = Annotated[str | None, typer.Option(help="Recipe, as name or name@revision.")]
Line = Annotated[str | None, typer.Option(help="Line.")]
Station = Annotated[str | None, typer.Option(help="Station.")]


@records_app.command("list")
def records_list(
    config: ConfigFile = DEFAULT_CONFIG,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    verdict: Verdict = None,
    since: Since = None,
    until: Until = None,
    part: PartId = None,
    recipe: Recipe = None,
    line: Line = None,
    station: Station = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List what was judged, newest first; works while the bridge runs."""
    wanted = Filter(verdict=verdict, since=since, until=until, part_id=part, recipe=recipe, line=line, station=station)
    rows = listing.list_records(load_config(config).records.url, wanted, limit=limit, now_utc_ns=time.time_ns())
    if as_json:
        typer.echo(listing.records_as_json(rows))
    elif sys.stdout.isatty():
        typer.echo(listing.records_as_table(rows, width=shutil.get_terminal_size().columns, colour=True))
    else:
        typer.echo(listing.records_as_text(rows))


@records_app.command("show")
def records_show(
    part: Annotated[str, typer.Argument(help="Part id, or with --sequence the trigger's sequence.")],
    config: ConfigFile = DEFAULT_CONFIG,
    sequence: Annotated[bool, typer.Option("--sequence", help="PART is a sequence.")] = False,
    station: Station = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Show all that is recorded of one part, its gate events included."""
    settings = load_config(config)
    if sequence and not part.isdecimal():
        raise ConfigError(f"sequence = {part!r}: allowed is a whole number from 0 to 4294967295")
    found = listing.show_record(
        settings.records.url,
        sequence=int(part) if sequence else None,
        part_id=None if sequence else part,
        station=station,
    )
    typer.echo(listing.show_as_json(found) if as_json else listing.show_as_text(found))


@records_app.command("export")
def records_export(
    config: ConfigFile = DEFAULT_CONFIG,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to; - is standard output.")] = Path(
        "-"
    ),
    form: Annotated[export.Format, typer.Option("--format", help="csv (RFC 4180) | jsonl")] = "csv",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    verdict: Verdict = None,
    since: Since = None,
    until: Until = None,
    part: PartId = None,
    recipe: Recipe = None,
    line: Line = None,
    station: Station = None,
    challenge: Annotated[bool, typer.Option("--challenge", help="The parts of challenge tests alone.")] = False,
) -> None:
    """Write every verdict that fits, oldest first, one row each; works while the bridge runs.

    Columns `challenge` (passed, failed, no result) and `challenge_reason` are empty for a part that was no challenge part.
    In CSV a text that a spreadsheet would run as a formula gets an apostrophe before it; JSON has the texts as they are.
    """
    wanted = Filter(
        verdict=verdict,
        since=since,
        until=until,
        part_id=part,
        recipe=recipe,
        line=line,
        station=station,
        challenge=challenge,
    )
    found = export.rows(load_config(config).records.url, wanted, now_utc_ns=time.time_ns())
    if out != Path("-"):
        count = export.write_file(out, lambda file: export.write(found, file, form), force=force)
        sys.stderr.write(f"wrote {out}: {count} verdicts\n")
        return
    with _standard_output() as stream:
        export.write(found, stream, form)


@contextlib.contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Give standard output in UTF-8 and with the line ends of the writer; a reader that leaves early is told of."""
    stream = open(os.dup(1), "w", encoding="utf-8", newline="")  # noqa: PTH123, SIM115 - a descriptor, closed below
    try:
        with stream:
            yield stream
    except OSError as exc:
        raise StartError(f"records export: standard output: {exc.strerror}; the export is not complete") from exc


@records_app.command("verify")
def records_verify(
    config: ConfigFile = DEFAULT_CONFIG,
    strict: Annotated[bool, typer.Option("--strict", help="A gap of the sequence is a fault too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Check that the record is complete, whole and free of contradictions; exit code 1 when it is not."""
    settings = load_config(config)
    records = settings.records
    report = verify.verify(
        records.url,
        line=settings.line.name,
        pictures=records.pictures,
        max_age_s=records.pictures_max_days * 86_400.0,
        now_utc_ns=time.time_ns(),
        strict=strict,
    )
    if as_json:
        typer.echo(json.dumps(verify_report.as_document(report), indent=2, ensure_ascii=False))
    else:
        typer.echo(verify_report.as_text(report), nl=False)
    if not report.ok:
        raise typer.Exit(1)
