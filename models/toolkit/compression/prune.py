"""Cut out the channels that matter least, wherever they hang together, and fine-tune what is left on the original's scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor
from torch.nn import functional

from models.toolkit.compression.channels import ChannelGroups, cut, unshared, with_weights
from models.toolkit.compression.int8 import simplified
from models.toolkit.compression.judging import Runner
from models.toolkit.compression.steps import Candidate, Made, MakeStep, Material
from models.toolkit.compression.torch_graph import GraphModule
from models.toolkit.pictures.folder import DataError
from models.toolkit.pictures.staged import Bytes, Stage
from models.toolkit.training.fine_tuning import Labelled, LearningSet, Plan, fit_to_teacher, read_learning_set

_EPOCHS, _PATIENCE, _LEARNING_RATE = 15, 5, 3e-4
_VARIANTS = 3
_BATCH = 32
_PARITY = 1e-3
Saliency = dict[str, npt.NDArray[np.float32]]


def pruner(share: float) -> MakeStep:
    """Give the step that cuts `share` of each group of channels, 0 to 0.9."""

    def make(current: Candidate, material: Material) -> Made:
        return _pruned(current, material, share)

    return make


def _pruned(current: Candidate, material: Material, share: float) -> Made:
    manifest = current.manifest
    if manifest.head != "classifier":
        raise DataError(f"{manifest.reference}: head = {manifest.head!r}: only a classifier can be pruned")
    torch.manual_seed(material.seed)
    stage = Stage(manifest.input)
    plain = unshared(simplified(current.model))
    module = GraphModule(plain, scores=manifest.output.scores, where=manifest.reference)
    data = read_learning_set(stage, material.split.kept, manifest.labels, seed=material.seed)
    teacher = Runner(plain, manifest, stage)
    _check_parity(module, teacher, stage, data.validation.pictures[:4])
    groups = ChannelGroups(plain)
    weights = cut(groups, _saliency(module, stage, data.training), share=share)
    fitted, how = _fitted(with_weights(plain, weights), current, material, data, teacher)
    material.say(f"{len(groups.groups)} groups of channels cut, fine-tuned for {how['epochs']} epochs")
    return Made(candidate=Candidate(model=fitted, manifest=manifest), how={"share": share, **how})


def _fitted(
    smaller: onnx.ModelProto, current: Candidate, material: Material, data: LearningSet, teacher: Runner
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Fine-tune the pruned graph to the original's scores and the labels."""
    manifest = current.manifest
    stage = Stage(manifest.input)
    module = GraphModule(smaller, scores=manifest.output.scores, where=manifest.reference)
    plan = Plan(epochs=_EPOCHS, learning_rate=_LEARNING_RATE, patience=_PATIENCE, seed=material.seed, batch=_BATCH)
    fitted = fit_to_teacher(
        module, lambda pictures: as_inputs(stage, pictures), data, plan,
        teacher=lambda pictures: teacher.scores(pictures).astype(np.float32), variants=_VARIANTS,
        labels=len(manifest.labels), say=material.say,
    )  # fmt: skip
    return with_weights(smaller, module.weights()), fitted.how


def as_inputs(stage: Stage, pictures: Bytes) -> Tensor:
    """Give N staged pictures as the model's input, N at once."""
    return torch.from_numpy(np.concatenate([stage.as_input(picture) for picture in pictures]))


def _saliency(module: GraphModule, stage: Stage, data: Labelled) -> Saliency:
    """Give how much the loss would change without each weight: (weight x gradient)^2, summed over batches.

    First-order Taylor expansion, Molchanov et al. 2019.
    """
    total: Saliency = {}
    for start in range(0, len(data), _BATCH):
        module.zero_grad()
        logits = module(as_inputs(stage, data.pictures[start : start + _BATCH]))
        functional.cross_entropy(logits, torch.from_numpy(data.labels[start : start + _BATCH])).backward()
        weights, slopes = module.weights(), module.gradients()
        for name, values in weights.items():
            total[name] = total.get(name, np.zeros_like(values)) + (values * slopes[name]) ** 2
    return total


def _check_parity(module: GraphModule, runner: Runner, stage: Stage, pictures: Bytes) -> None:
    """Make sure that torch computes what onnxruntime does; raises DataError."""
    with torch.inference_mode():
        ours = torch.softmax(module(as_inputs(stage, pictures)), dim=1).numpy()
    worst = float(np.abs(ours - runner.scores(pictures)).max())
    if worst > _PARITY:
        raise DataError(f"the model's graph can't be fitted: rebuilt, its scores differ by {worst:.2g}")
