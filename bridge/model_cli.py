"""`linegate model`: measure, sign and look at bundles, beside the commands that make them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bridge.errors import BundleError, ConfigError
from bridge.inference import keys
from bridge.inference.archive import ZIP_SUFFIX
from bridge.inference.bundle import Bundle, read_bundle
from bridge.inference.manifest import MANIFEST, SIGNATURE
from bridge.inference.trust import Trust, load_private_key, load_trust, shipped_folder, sign_manifest, user_signing_key
from bridge.model_making import model_app
from bridge.model_options import (
    BundlePath,
    DefectRate,
    EscapeCost,
    Good,
    JsonFile,
    Keys,
    PictureFolder,
    ScrapCost,
    from_inference,
    from_toolkit,
    shown_progress,
    write_json,
)

__all__ = ["model_app"]


@model_app.command("evaluate")
def model_evaluate(bundle: BundlePath, folder: PictureFolder, good: Good = None, json_file: JsonFile = None) -> None:
    """Judge a bundle on a labelled folder, by the code of the line, and count with intervals."""
    toolkit = from_toolkit("evaluation.evaluate")
    with shown_progress() as stage:
        done = toolkit.evaluate(bundle, folder, good=good, progress=lambda count, of: stage("judging", count, of))
    write_json(json_file, done.report)
    Console().print(from_toolkit("evaluation.table").in_terminal(done.report))


@model_app.command("tune")
def model_tune(
    bundle: BundlePath,
    folder: PictureFolder,
    escape_cost: EscapeCost = 20.0,
    scrap_cost: ScrapCost = 1.0,
    defect_rate: DefectRate = None,
    parts_a_year: Annotated[int, typer.Option("--parts-a-year", min=1)] = 1_000_000,
    good: Good = None,
    json_file: JsonFile = None,
) -> None:
    """Find the threshold that costs least, from what an escape and a false reject cost."""
    toolkit = from_toolkit("evaluation.tune")
    costs = from_toolkit("figures.costs").Costs(escape=escape_cost, scrap=scrap_cost, defect_rate=defect_rate)
    with shown_progress() as stage:
        tuned = toolkit.tune(
            bundle, folder, good=good, costs=costs, parts_a_year=parts_a_year,
            progress=lambda count, of: stage("judging", count, of),
        )  # fmt: skip
    write_json(json_file, tuned.document)
    Console(soft_wrap=True).print(toolkit.in_terminal(tuned), markup=False)


@model_app.command("explain")
def model_explain(
    bundle: BundlePath,
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A picture of a part.")],
    out: Annotated[Path, typer.Option("--out", metavar="PNG", help="Where to write the picture with its heat map.")],
    how: Annotated[str, typer.Option("--how", help="auto | cells | cam | occlusion | shap (extra `explain`)")] = "auto",
    evaluations: Annotated[
        int, typer.Option("--evaluations", min=20, help="How often `--how shap` asks the model, about.")
    ] = 500,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write label, score, peak.")] = None,
) -> None:
    """Show where in a picture the model sees what decides."""
    toolkit = from_toolkit("evaluation.explain")
    explained = toolkit.explain_picture(bundle, picture, out, how=how, evaluations=evaluations)
    write_json(json_file, explained.as_json())
    peak = "no place spoke for it" if explained.peak is None else "most at x {}, y {}".format(*explained.peak)
    typer.echo(f"{explained.label} {explained.score:.4f}, by {toolkit.WORDS[explained.how]}, {peak}: wrote {out}")


@model_app.command("verify")
def model_verify(bundle: BundlePath, trusted: Keys = None) -> None:
    """Check hashes, signature and golden frames as the bridge does before it takes a bundle."""
    read = read_bundle(bundle, load_trust(keys=trusted, require_signature=True))
    worst = from_inference("pipeline").Pipeline(read).check_golden(read)
    typer.echo(
        f"{read.reference}: good; vouched by {read.vouched_by}, {len(read.golden.frame)} golden frames, "
        f"largest deviation {worst:.4f} of {read.golden.tolerance:g} allowed\nsha256 {read.sha256}"
    )


@model_app.command("inspect")
def model_inspect(
    model: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="An ONNX file, or a bundle.")],
    json_file: JsonFile = None,
) -> None:
    """Tell what kind of model a file holds, from the shapes of its inputs and outputs."""
    family, told = from_inference("family"), dict[str, Any]()
    if model.is_dir() or model.suffix == ZIP_SUFFIX:
        bundle = read_bundle(model, Trust(require_signature=False))
        shape = family.shape_of(bundle.model, where=str(model))
        told = {**family.described(shape), "task": bundle.manifest.task}
        told["manifest"] = bundle.manifest.model_dump(mode="json", by_alias=True)
    else:
        told = {**family.inspect_model(model), "manifest": None}
    write_json(json_file, told)
    typer.echo(f"{model}: {told['family']}, {told['task']}")
    for side in ("inputs", "outputs"):
        for tensor in told[side]:
            shown = " x ".join(str(length or "?") for length in tensor["shape"])
            typer.echo(f"  {side[:-1]:<7} {tensor['name']:<24} {tensor['type']} {shown}")


@model_app.command("list")
def model_list(
    folder: Annotated[Path | None, typer.Option("--folder", metavar="FOLDER", help="Your bundles.")] = None,
    trusted: Keys = None,
) -> None:
    """List the shipped bundles and those of a folder."""
    trust = load_trust(keys=trusted, require_signature=True)
    places = [shipped_folder(), *([folder] if folder is not None else [])]
    for place in places:
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.suffix == ZIP_SUFFIX or (path / MANIFEST).is_file():
                typer.echo(_line(path, trust))


@model_app.command("keygen")
def model_keygen(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The private key [signing.key in your configuration folder].")
    ] = None,
) -> None:
    """Make a signing key; give its .pub file to the lines that shall trust your bundles."""
    place = path or user_signing_key()
    if place is None:
        raise ConfigError("no place for a signing key: neither XDG_CONFIG_HOME nor HOME is set; name a FILE")
    public = keys.make_key(place)
    typer.echo(f"wrote {place} (keep it secret) and {public} (for [models] trusted_keys)")


@model_app.command("sign")
def model_sign(
    bundle: BundlePath,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="A private key [your own].")] = None,
) -> None:
    """Sign a bundle's folder anew, after its hashes and golden frames were checked."""
    if not bundle.is_dir():
        raise BundleError(f"{bundle}: allowed is a bundle's folder; an .lgb file is signed before it is packed")
    read = read_bundle(bundle, Trust(require_signature=False))
    from_inference("pipeline").Pipeline(read).check_golden(read)
    signer = load_private_key(key) if key is not None else keys.own_key()
    (bundle / SIGNATURE).write_bytes(sign_manifest((bundle / MANIFEST).read_bytes(), signer))
    typer.echo(f"signed {read.reference} in {bundle}")


def _line(path: Path, trust: Trust) -> str:
    try:
        read: Bundle = read_bundle(path, trust)
    except BundleError as exc:
        return f"{path.name:<32} refused: {exc}"
    manifest = read.manifest
    return f"{read.reference:<32} {manifest.task:<16} {', '.join(read.labels)[:60]:<60} {read.vouched_by}"
