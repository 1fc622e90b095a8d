"""`linegate model teach|anomaly|train|compress`: make bundles. What needs an extra says which, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bridge.errors import BundleError, ConfigError
from bridge.model_options import (
    BundlePath,
    DefectRate,
    EscapeCost,
    Good,
    Groups,
    JsonFile,
    Out,
    PictureFolder,
    ScrapCost,
    Seed,
    from_toolkit,
    shown_progress,
    write_json,
)

model_app = typer.Typer(help="Model bundles: teach, evaluate, sign, verify.", no_args_is_help=True)


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
    toolkit = from_toolkit("teaching.teach")
    costs = from_toolkit("figures.costs").Costs(escape=escape_cost, scrap=scrap_cost, defect_rate=defect_rate)
    with shown_progress() as stage:
        taught = toolkit.teach(folder, out, good=good, groups=groups, costs=costs, seed=seed, side_px=side, stage=stage)
    doubts = from_toolkit("teaching.doubts").doubts_of(taught)
    report = from_toolkit("teaching.report")
    page = report.write_page(taught, doubts, from_toolkit("bundles.page").page_beside(out))
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
    toolkit = from_toolkit("anomalies.bundle")
    with shown_progress() as stage:
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
            "--architecture",
            help="The net; a wrong name lists those that there are; unet and unet-lite0 mark, detect-lite0 finds boxes.",
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
    """Train a whole net on labelled pictures; needs the extra `train` (torch). Some learn from masks or boxes."""
    settings = from_toolkit("training.settings").TrainSettings(
        architecture=architecture, epochs=epochs, good=good, groups=groups, weights=weights, attention=attention,
        folds=folds or 0, blend=blend or 0, seed=seed, side=side,
    )  # fmt: skip
    for nets, maker in (
        ("unet.SEGMENTERS", "unet_train.train_masks"),
        ("detect_net.DETECTORS", "detect_train.train_boxes"),
    ):
        if architecture in _of_training(nets):
            told = _of_training(maker)(folder, out, settings, say=typer.echo)
            write_json(json_file, told.as_json())
            typer.echo(f"{told.in_terminal()}\nnext: linegate demo --model {out} --images FOLDER")
            return
    report = from_toolkit("training.train").train(folder, out, settings, say=typer.echo)
    write_json(json_file, report.as_json())
    typer.echo(report.in_words())


def _of_training(name: str) -> Any:
    """Give what a module of the toolkit's training has under `MODULE.NAME`."""
    module, _, inner = name.partition(".")
    return getattr(from_toolkit(f"training.{module}"), inner)


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
    report = from_toolkit("compression.compress").compress(
        bundle, folder, out, quantize=quantize, prune=prune, distil=distil, allowed_loss=allowed_loss, seed=seed,
        say=typer.echo,
    )  # fmt: skip
    write_json(json_file, report.as_json())
    typer.echo(report.table())
    if report.out is None:
        raise BundleError(f"nothing was written to {out}: every step was refused, see the table")
