"""`linegate model`: make, measure, sign and look at bundles. What needs an extra says which, in one line."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.errors import BundleError, ConfigError
from bridge.inference import keys
from bridge.inference.archive import ZIP_SUFFIX
from bridge.inference.bundle import Bundle, read_bundle
from bridge.inference.manifest import MANIFEST, SIGNATURE
from bridge.inference.trust import Trust, load_private_key, load_trust, shipped_folder, sign_manifest, user_signing_key

if TYPE_CHECKING:
    from models.toolkit.progress import Stage

INTERRUPTED = "interrupted; nothing was left half-written"
model_app = typer.Typer(help="Model bundles: teach, evaluate, sign, verify.", no_args_is_help=True)

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: a folder or an .lgb file.")]
PictureFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A sub-folder of pictures for each class.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="BUNDLE", help="Where to write: NAME or NAME-1.2.0, a folder or .lgb.")
]
Good = Annotated[str | None, typer.Option("--good", metavar="CLASS", help="The class of good parts [by its name].")]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups", metavar="REGEX", help="Pictures whose names give it the same text are of one place or run."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0)]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here as JSON.")]
EscapeCost = Annotated[float, typer.Option("--escape-cost", min=0.0, help="What one escape costs, in any unit.")]
ScrapCost = Annotated[float, typer.Option("--scrap-cost", min=0.0, help="What one good part in the bin costs.")]
DefectRate = Annotated[
    float | None,
    typer.Option("--defect-rate", min=0.0, max=1.0, help="Share of defective parts [that of the pictures]."),
]
Keys = Annotated[Path | None, typer.Option("--keys", metavar="FOLDER", help="Public keys to trust beside your own.")]


@model_app.command("teach")
def model_teach(
    folder: PictureFolder,
    out: Out,
    good: Good = None,
    groups: Groups = None,
    escape_cost: EscapeCost = 20.0,
    scrap_cost: ScrapCost = 1.0,
    defect_rate: DefectRate = None,
    side: Annotated[
        int, typer.Option("--side", min=64, max=1024, help="Input of about SIDE x SIDE pixels: fewer are faster.")
    ] = 224,
    seed: Seed = 0,
) -> None:
    """Make a signed bundle of your own labelled pictures, on this computer."""
    toolkit = _toolkit("teaching.teach")
    costs = _toolkit("figures.costs").Costs(escape=escape_cost, scrap=scrap_cost, defect_rate=defect_rate)
    with _progress() as stage:
        taught = toolkit.teach(folder, out, good=good, groups=groups, costs=costs, seed=seed, side_px=side, stage=stage)
    doubts = _toolkit("teaching.doubts").doubts_of(taught)
    report = _toolkit("teaching.report")
    page = report.write_page(taught, doubts, out.with_name(f"{out.name.removesuffix(ZIP_SUFFIX)}-report.html"))
    Console().print(report.in_terminal(taught, doubts))
    typer.echo(f"wrote {out} and {page}\nnext: linegate demo --model {out} --images FOLDER")


@model_app.command("anomaly")
def model_anomaly(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures of good parts only.")],
    out: Out,
    kind: Annotated[str, typer.Option("--kind", help="patchcore (finds more) | padim (faster)")] = "patchcore",
    false_rejects: Annotated[
        float, typer.Option("--false-rejects", min=0.0001, max=0.5, help="Share of good parts that may be rejected.")
    ] = 0.01,
    groups: Groups = None,
    seed: Seed = 0,
) -> None:
    """Make a signed bundle that finds what good parts don't have."""
    if kind not in ("patchcore", "padim"):
        raise ConfigError(f"--kind {kind}: allowed is patchcore or padim")
    toolkit = _toolkit("anomalies.bundle")
    with _progress() as stage:
        made = toolkit.make_anomaly(
            folder, out, kind=kind, false_rejects=false_rejects, groups=groups, seed=seed, stage=stage
        )
    typer.echo(f"wrote {out}: {made.bundle.reference}\n{toolkit.summary(made.bundle.manifest.measured)}")
    typer.echo(f"next: linegate model evaluate {out} FOLDER --good CLASS, with pictures of defects")


@model_app.command("train")
def model_train(
    folder: PictureFolder,
    out: Out,
    *,
    architecture: Annotated[
        str,
        typer.Option(
            "--architecture", help="The net; a wrong name lists those that there are; unet and unet-lite0 mark."
        ),
    ],
    good: Good = None,
    groups: Groups = None,
    weights: Annotated[
        str, typer.Option("--weights", help="auto (ImageNet where they can be had: package, then hub) | random")
    ] = "auto",
    attention: Annotated[str, typer.Option("--attention", help="none | se | cbam")] = "none",
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, metavar="K", help="Judge by cross-validation, then train on all.")
    ] = None,
    blend: Annotated[
        int | None,
        typer.Option("--blend", min=1, metavar="N", help="Blend masked defects until a class has N to learn from."),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 40,
    side: Annotated[int, typer.Option("--side", min=64, max=1024, help="Input of about SIDE x SIDE pixels.")] = 224,
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Train a whole net on labelled pictures; needs the extra `train` (torch). `unet` and `unet-lite0` learn from masks."""
    settings = _toolkit("training.settings").TrainSettings(
        architecture=architecture, epochs=epochs, good=good, groups=groups, weights=weights, attention=attention,
        folds=folds or 0, blend=blend or 0, seed=seed, side=side,
    )  # fmt: skip
    if architecture in _toolkit("training.unet").SEGMENTERS:
        marked = _toolkit("training.unet_train").train_masks(folder, out, settings, say=typer.echo)
        _write_json(json_file, marked.as_json())
        typer.echo(f"{marked.in_terminal()}\nwrote {out}\nnext: linegate demo --model {out} --images FOLDER")
        return
    report = _toolkit("training.train").train(folder, out, settings, say=typer.echo)
    _write_json(json_file, report.as_json())
    typer.echo(report.in_words())


@model_app.command("compress")
def model_compress(
    bundle: BundlePath,
    folder: PictureFolder,
    out: Out,
    quantize: Annotated[bool, typer.Option("--quantize", help="INT8, what is sensitive kept in float.")] = False,
    prune: Annotated[float | None, typer.Option("--prune", metavar="SHARE", min=0.01, max=0.9)] = None,
    distil: Annotated[
        str | None, typer.Option("--distil", metavar="STUDENT", help="An architecture of `train`.")
    ] = None,
    allowed_loss: Annotated[float, typer.Option("--allowed-loss", min=0.0, help="Points of accuracy.")] = 1.0,
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Make a classifier smaller and faster; a step that is slower or loses too much is refused."""
    report = _toolkit("compression.compress").compress(
        bundle, folder, out, quantize=quantize, prune=prune, distil=distil, allowed_loss=allowed_loss, seed=seed,
        say=typer.echo,
    )  # fmt: skip
    _write_json(json_file, report.as_json())
    typer.echo(report.table())
    if report.out is None:
        raise BundleError(f"nothing was written to {out}: every step was refused, see the table")


@model_app.command("evaluate")
def model_evaluate(bundle: BundlePath, folder: PictureFolder, good: Good = None, json_file: JsonFile = None) -> None:
    """Judge a bundle on a labelled folder, by the code of the line, and count with intervals."""
    toolkit = _toolkit("evaluation.evaluate")
    with _progress() as stage:
        done = toolkit.evaluate(bundle, folder, good=good, progress=lambda count, of: stage("judging", count, of))
    _write_json(json_file, done.report)
    Console().print(_toolkit("evaluation.table").in_terminal(done.report))


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
    toolkit = _toolkit("evaluation.tune")
    costs = _toolkit("figures.costs").Costs(escape=escape_cost, scrap=scrap_cost, defect_rate=defect_rate)
    with _progress() as stage:
        tuned = toolkit.tune(
            bundle, folder, good=good, costs=costs, parts_a_year=parts_a_year,
            progress=lambda count, of: stage("judging", count, of),
        )  # fmt: skip
    _write_json(json_file, tuned.document)
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
    toolkit = _toolkit("evaluation.explain")
    explained = toolkit.explain_picture(bundle, picture, out, how=how, evaluations=evaluations)
    _write_json(json_file, explained.as_json())
    peak = "no place spoke for it" if explained.peak is None else "most at x {}, y {}".format(*explained.peak)
    typer.echo(f"{explained.label} {explained.score:.4f}, by {toolkit.WORDS[explained.how]}, {peak}: wrote {out}")


@model_app.command("verify")
def model_verify(bundle: BundlePath, trusted: Keys = None) -> None:
    """Check hashes, signature and golden frames as the bridge does before it takes a bundle."""
    read = read_bundle(bundle, load_trust(keys=trusted, require_signature=True))
    worst = _native("pipeline").Pipeline(read).check_golden(read)
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
    family, told = _native("family"), dict[str, Any]()
    if model.is_dir() or model.suffix == ZIP_SUFFIX:
        bundle = read_bundle(model, Trust(require_signature=False))
        shape = family.shape_of(bundle.model, where=str(model))
        told = {**family.described(shape), "task": bundle.manifest.task}
        told["manifest"] = bundle.manifest.model_dump(mode="json", by_alias=True)
    else:
        told = {**family.inspect_model(model), "manifest": None}
    _write_json(json_file, told)
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
    _native("pipeline").Pipeline(read).check_golden(read)
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


def _native(module: str) -> Any:
    """Import what runs models only for the command that runs one: every other command starts without it."""
    return importlib.import_module(f"bridge.inference.{module}")


def _toolkit(module: str) -> Any:
    """Import a module of the toolkit; raises ConfigError naming the extra that is not installed."""
    try:
        return importlib.import_module(f"models.toolkit.{module}")
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing in ("bridge", "models"):
            raise
        extra = "train" if missing.startswith(("torch", "efficientnet", "timm")) else "teach"
        raise ConfigError(f"{missing} is not installed: pip install 'linegate[{extra}]'") from exc


@contextmanager
def _progress() -> Iterator[Stage]:
    """Show the steps as bars with the time left; without a terminal nothing is shown."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def stage(name: str, done: int, of: int, /) -> None:
            if name not in tasks:
                for task in tasks.values():
                    bars.update(task, completed=bars.tasks[task].total)
                tasks[name] = bars.add_task(name, total=of)
            bars.update(tasks[name], completed=done, total=of)

        try:
            yield stage
        except KeyboardInterrupt:
            typer.echo(f"linegate: {INTERRUPTED}", err=True)
            raise


def _write_json(path: Path | None, document: Any) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"--json {path}: can't be written: {exc.strerror}") from exc
