"""Distil a bundle's model into a small student (Hinton, Vinyals, Dean 2015): it learns the teacher's scores, not only labels."""

from __future__ import annotations

import numpy as np
import torch

from bridge.inference.manifest import InputSpec, OutputSpec
from models.toolkit.compression.judging import Runner
from models.toolkit.compression.steps import Candidate, Made, MakeStep, Material
from models.toolkit.graphs.heads import SCORES
from models.toolkit.pictures.folder import DataError
from models.toolkit.pictures.staged import Stage
from models.toolkit.training.export import export_classifier
from models.toolkit.training.fine_tuning import Plan, fit_to_teacher, read_learning_set
from models.toolkit.training.nets import Wanted, build_net, check_net

EPOCHS = 30
_OPTION = "--distil"
_PATIENCE = 10
_VARIANTS = 6
_SIDE_MULTIPLE = 32
_PARITY_PICTURES = 8


def distiller(student: str, *, epochs: int = EPOCHS) -> MakeStep:
    """Give the step that makes a student of this architecture in at most so many epochs; raises DataError for an unknown one."""
    check_net(student, option=_OPTION)

    def make(current: Candidate, material: Material) -> Made:
        return _distilled(current, material, student, epochs=epochs)

    return make


def _distilled(current: Candidate, material: Material, student: str, *, epochs: int) -> Made:
    manifest = current.manifest
    spec = _student_input(manifest.input)
    if manifest.head != "classifier":
        raise DataError(f"{manifest.reference}: head = {manifest.head!r}: only a classifier can be distilled")
    torch.manual_seed(material.seed)
    wanted = Wanted(architecture=student, labels=len(manifest.labels), height=spec.height, width=spec.width)
    built = build_net(wanted, option=_OPTION)
    material.say(f"{student} begins with weights {built.weights}")
    stage = Stage(spec)
    teacher = Runner(current.model, manifest, Stage(manifest.input))
    data = read_learning_set(stage, material.split.kept, manifest.labels, seed=material.seed)
    plan = Plan(epochs=epochs, learning_rate=built.learning_rate, patience=_PATIENCE, seed=material.seed)
    fitted = fit_to_teacher(
        built.net, torch.from_numpy, data, plan, teacher=lambda pictures: teacher.scores(pictures).astype(np.float32),
        variants=_VARIANTS, labels=len(manifest.labels), say=material.say,
    )  # fmt: skip
    model = export_classifier(built.net, spec, data.validation.pictures[:_PARITY_PICTURES])
    changed = manifest.model_copy(update={"input": spec, "output": OutputSpec(scores=SCORES)})
    how = {"student": student, "weights": built.weights.source, **fitted.how}
    return Made(candidate=Candidate(model=model, manifest=changed), how=how)


def _student_input(teacher: InputSpec) -> InputSpec:
    """Give an input of the teacher's size and cut that takes bytes; raises DataError where a net can't take it."""
    if teacher.colour != "RGB" or teacher.width % _SIDE_MULTIPLE or teacher.height % _SIDE_MULTIPLE:
        raise DataError(
            f"--distil: the teacher's input is {teacher.width} x {teacher.height} {teacher.colour}: "
            f"allowed are RGB and multiples of {_SIDE_MULTIPLE}"
        )
    taken = {"name": "image", "layout": "NHWC", "dtype": "uint8", "mean": (), "std": ()}
    return teacher.model_copy(update=taken)
