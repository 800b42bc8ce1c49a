"""One trial answer before hours of training: does the network take this data, and know all of its classes?"""

import torch
from torch import Tensor, nn

from pipeline.candidate import Architecture
from pipeline.errors import NetworkRefused, PipelineError, TeacherRefused
from pipeline.stage import Run
from pipeline.store import name_of
from pipeline.training.batches import normalised, rows
from targets.accuracy import top1

TRIED = 2  # inputs: with one, a network that forgets the axis of the batch would not be noticed


def built(factory: Architecture, *, role: str) -> nn.Module:
    """The network that the user's factory builds.

    Raises:
        TeacherRefused, NetworkRefused: it fails, or gives something else.
    """
    refused = TeacherRefused if role == "teacher" else NetworkRefused
    try:
        module = factory()
    except PipelineError:
        raise  # it says what is wrong itself
    except Exception as error:
        raise refused(
            f"building the {role} with {name_of(factory)} failed with {type(error).__name__}: {error}. "
            "The recipe names a function that takes no argument and returns the network."
        ) from error
    if not isinstance(module, nn.Module):
        raise refused(f"{name_of(factory)}, the {role} of the recipe, gives a thing of type {type(module).__name__}.")
    return module


def refuse_misfit(module: nn.Module, *, role: str, run: Run) -> None:
    """Pass a network that answers inputs of the run's data.

    role: teacher or student, for the message

    Raises:
        TeacherRefused, NetworkRefused: it fails on them, or knows fewer classes than the data has.
    """
    refused = TeacherRefused if role == "teacher" else NetworkRefused
    inputs = normalised(rows(run.dataset.validation, slice(0, TRIED)), dataset=run.dataset)
    was_training = module.training
    try:
        with torch.inference_mode():
            answers = module.eval()(inputs)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise refused(
            f"the {role} cannot answer inputs of shape {run.dataset.input_shape} ({reason}). "
            "Check the size and channels of the data in the recipe against what the network expects."
        ) from error
    finally:
        module.train(was_training)
    if not isinstance(answers, Tensor):
        raise refused(
            f"the {role} answers with {type(answers).__name__}, not with a tensor. "
            "Wrap it in a module that returns the scores alone."
        )
    if run.metric is top1 and (answers.ndim != 2 or answers.shape[1] < run.dataset.classes):
        raise refused(
            f"the {role} answers {len(inputs)} inputs with a tensor {tuple(answers.shape)}, and {run.dataset.name} has "
            f"{run.dataset.classes} classes. Give its last layer an output for each."
        )
