"""Which parts of a model are trained, and when: frozen layers and a linear probe."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from timm.models import group_parameters
from torch import nn

from inceptionnext_lit.errors import UserError

BACKBONE = "backbone"


@dataclass(frozen=True)
class Finetuning:
    """How a pretrained model is fine-tuned.

    Args:
        freeze: ``backbone`` trains the last linear layer alone (linear probe); the name of a module, such as ``stem``,
            ``stages.1`` or ``blocks.5``, freezes everything up to and including it. Frozen norms keep their statistics.
        probe_epochs: Epochs at the start in which only the last linear layer is trained; after them, everything that is
            not frozen is (LP-FT, arXiv 2202.10054).
        probe_lr: Learning rate of these epochs.
        allow_random: Allow freezing or probing random weights; otherwise this is an error, since random features teach
            a classifier little.

    Raises:
        UserError: If a value is out of range.
    """

    freeze: str | None = None
    probe_epochs: int = 0
    probe_lr: float = 1e-2
    allow_random: bool = False

    def __post_init__(self) -> None:
        if self.probe_epochs < 0:
            raise UserError(f"model.finetuning.probe_epochs is {self.probe_epochs}; it must be 0 or more.")
        if not 0 < self.probe_lr < math.inf:
            raise UserError(f"model.finetuning.probe_lr is {self.probe_lr}; it must be above 0.")
        if self.probe_epochs and self.freeze == BACKBONE:
            raise UserError(
                "model.finetuning.freeze backbone already trains the last layer alone; leave out "
                "model.finetuning.probe_epochs, or freeze less."
            )

    def check_weights(self, *, are_loaded: bool) -> None:
        """Refuse to freeze or probe random weights.

        Args:
            are_loaded: Whether the model's weights were loaded.

        Raises:
            UserError: If they were not, although some of them would be kept.
        """
        if are_loaded or self.allow_random or not (self.freeze or self.probe_epochs):
            return
        key = f"freeze {self.freeze}" if self.freeze else f"probe_epochs {self.probe_epochs}"
        raise UserError(
            f"model.finetuning.{key} keeps random weights, since none were loaded; give --model.pretrained true or "
            "--model.pretrained FILE, or --model.finetuning.allow_random true to do it anyway."
        )


class StayInEval:
    """Replacement for a frozen module's ``train`` method that keeps its norms and its dropout in evaluation mode.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        """Return the module unchanged."""
        return self.module


def classifier_parameters(model: nn.Module) -> set[str]:
    """Return the parameter names of a model's last linear layers, given by timm's ``pretrained_cfg``.

    Raises:
        UserError: If the model has no classifier.
    """
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    stated = config.get("classifier")
    layers = (stated,) if isinstance(stated, str) else tuple(stated or ())
    names = {name for name, _ in model.named_parameters() if any(name.startswith(f"{layer}.") for layer in layers)}
    if not names:
        raise UserError(
            f"{type(model).__name__} does not say which layer is its classifier; leave out model.finetuning and "
            "model.optimizer.head_lr_factor."
        )
    return names


def without_classifier(model: nn.Module) -> nn.Module:
    """Collect all of a model except its last linear layers.

    Args:
        model: Any timm model.

    Returns:
        A module with the same submodules and parameters; it cannot be called.

    Raises:
        UserError: If the model has no classifier.
    """
    gathered = nn.Module()
    layers = {name.rpartition(".")[0] for name in classifier_parameters(model)}

    def gather(module: nn.Module, name: str) -> None:
        for key, parameter in module.named_parameters(name, recurse=False):
            gathered.register_parameter(key.replace(".", "_"), parameter)
        for key, child in module.named_children():
            place = f"{name}.{key}" if name else key
            if any(layer.startswith(f"{place}.") for layer in layers):
                gather(child, place)
            elif place not in layers:
                gathered.add_module(place.replace(".", "_"), child)

    gather(model, "")
    return gathered


def frozen_parameters(model: nn.Module, upto: str) -> set[str]:
    """Return the names of the parameters to freeze.

    Args:
        model: Any timm model.
        upto: ``backbone`` for everything except the classifier, or the last module to freeze.

    Raises:
        UserError: If the module is unknown, or the model does not define the order of its layers.
    """
    names = [name for name, _ in model.named_parameters()]
    if upto == BACKBONE:
        return set(names) - classifier_parameters(model)
    inside = [name for name in names if name == upto or name.startswith(f"{upto}.")]
    if not inside:
        modules = [name for name, _ in model.named_modules() if name and name.count(".") <= 1]
        near = get_close_matches(upto, [BACKBONE, *modules], n=3) or [BACKBONE, *modules[:8]]
        raise UserError(f"model.finetuning.freeze is {upto!r}, which this model does not have; try {', '.join(near)}.")
    if not hasattr(model, "group_matcher"):
        raise UserError(
            f"{type(model).__name__} does not say in which order its layers come (group_matcher); use "
            "model.finetuning.freeze backbone."
        )
    matcher = cast(Any, model).group_matcher(coarse=False)
    depth: dict[str, int] = group_parameters(model, matcher, reverse=True)
    last = max(depth[name] for name in inside)
    frozen = {name for name in names if depth[name] <= last}
    if len(frozen) == len(names):
        raise UserError(f"model.finetuning.freeze {upto} leaves nothing to train; freeze less.")
    return frozen


def freeze(model: nn.Module, names: set[str]) -> None:
    """Freeze parameters, and keep modules whose parameters are all frozen in evaluation mode.

    Args:
        model: The model, changed in place.
        names: The parameters.
    """
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            for part in module.modules():
                part.training = False
            object.__setattr__(module, "train", StayInEval(module))


def thaw(model: nn.Module, names: set[str]) -> None:
    """Undo :func:`freeze` for some parameters and the modules that contain them.

    Args:
        model: The model, changed in place.
        names: The parameters.
    """
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(True)
    for module in model.modules():
        if any(parameter.requires_grad for parameter in module.parameters()):
            module.__dict__.pop("train", None)
    model.train(model.training)


@contextmanager
def trainable(model: nn.Module, names: set[str]) -> Iterator[None]:
    """Make parameters require gradients inside the block, so that an optimizer includes them."""
    parameters = [p for name, p in model.named_parameters() if name in names and not p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


class Phases:
    """A linear probe followed by the training of the rest of the model.

    Args:
        model: The model; parts that are frozen for the whole run are frozen here.
        options: What is trained, and when.

    Attributes:
        later: Names of the parameters that are trained only after the probe.
        probing: Whether the probe is running.

    Raises:
        UserError: If the model does not have the module to freeze.
    """

    def __init__(self, model: nn.Module, options: Finetuning) -> None:
        self._model = model
        self._options = options
        frozen = set() if options.freeze is None else frozen_parameters(model, options.freeze)
        freeze(model, frozen)
        self.later = frozen_parameters(model, BACKBONE) - frozen if options.probe_epochs else set()
        self.probing = False

    def begin(self, epoch: int) -> None:
        """Freeze what the probe does not train, if a run that starts in this epoch, counted from 0, is in the probe."""
        self.probing = bool(self.later) and epoch < self._options.probe_epochs
        (freeze if self.probing else thaw)(self._model, self.later)

    def advance(self, epoch: int, trainer: Trainer) -> bool:
        """Unfreeze the remaining parameters at the start of the first epoch after the probe.

        Args:
            epoch: The epoch that begins, counted from 0.
            trainer: Trainer of the model.

        Returns:
            Whether they were unfrozen now.
        """
        if not self.probing or epoch < self._options.probe_epochs:
            return False
        thaw(self._model, self.later)
        self.probing = False
        strategy = trainer.strategy
        if isinstance(strategy, DDPStrategy) and strategy.model is not strategy.lightning_module:
            # the wrapper averages the gradients only of parameters that were trainable when it was created
            strategy.model = strategy.lightning_module
            strategy.configure_ddp()
        return True
