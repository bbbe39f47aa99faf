"""Which part of a model is trained, and when: frozen layers, and a linear probe before the rest."""

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
    """How a model that was trained before is trained on.

    Args:
        freeze: ``backbone`` trains the last linear layer alone (linear probe); the name of a module, such as ``stem``,
            ``stages.1`` or ``blocks.5``, freezes everything up to and with it. Frozen norms keep their statistics.
        probe_epochs: Epochs at the start in which only the last linear layer is trained; then all that is not frozen
            is (LP-FT, arXiv 2202.10054).
        probe_lr: The rate of these epochs.
        allow_random: Freeze weights, or probe on them, although none were loaded; else that is an error, since features
            at random values teach a classifier little.

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
                "model.finetuning.freeze backbone trains the last layer alone in any case; leave out "
                "model.finetuning.probe_epochs, or freeze less."
            )

    def check_weights(self, *, are_loaded: bool) -> None:
        """Refuse to keep random weights as they are.

        Args:
            are_loaded: Whether the model's weights come from somewhere.

        Raises:
            UserError: If they do not, although some are to be kept.
        """
        if are_loaded or self.allow_random or not (self.freeze or self.probe_epochs):
            return
        key = f"freeze {self.freeze}" if self.freeze else f"probe_epochs {self.probe_epochs}"
        raise UserError(
            f"model.finetuning.{key} keeps weights that are random, since none were loaded; give --model.pretrained "
            "true or --model.pretrained FILE, or --model.finetuning.allow_random true to do it all the same."
        )


class StayInEval:
    """Takes the place of a frozen module's ``train`` method, so that its norms and its dropout stay off.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        """Leave the module as it is."""
        return self.module


def classifier_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of a model's last linear layers, as timm's ``pretrained_cfg`` states them.

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
    """Gather all of a model but its last linear layers.

    Args:
        model: Any timm model.

    Returns:
        A module that has the same submodules and parameters, and is not to be called.

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
    """Names of the parameters that are to be frozen.

    Args:
        model: Any timm model.
        upto: ``backbone`` for all but the classifier, or the last module to freeze.

    Raises:
        UserError: If there is no such module, or the model does not say in which order its layers come.
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
    """Freeze parameters, and keep the modules all of whose parameters are frozen in evaluation mode.

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
    """Undo :func:`freeze` for these parameters, and for the modules that hold one of them.

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
    """Within the block these parameters need gradients, so that an optimiser takes them in."""
    parameters = [p for name, p in model.named_parameters() if name in names and not p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(True)
    yield
    for parameter in parameters:
        parameter.requires_grad_(False)


class Phases:
    """A model's linear probe and the training of the rest after it.

    Args:
        model: The model; what is frozen for good is frozen here.
        options: What is trained when.

    Attributes:
        later: Names of the parameters that the probe leaves alone, and that are trained after it.
        probing: Whether the probe is going on.

    Raises:
        UserError: If the model does not have what is to be frozen.
    """

    def __init__(self, model: nn.Module, options: Finetuning) -> None:
        self._model = model
        self._options = options
        frozen = set() if options.freeze is None else frozen_parameters(model, options.freeze)
        freeze(model, frozen)
        self.later = frozen_parameters(model, BACKBONE) - frozen if options.probe_epochs else set()
        self.probing = False

    def begin(self, epoch: int) -> None:
        """Freeze what the probe leaves alone, if a run that begins in an epoch, counted from 0, begins with it."""
        self.probing = bool(self.later) and epoch < self._options.probe_epochs
        (freeze if self.probing else thaw)(self._model, self.later)

    def advance(self, epoch: int, trainer: Trainer) -> bool:
        """Thaw what was left alone, at the start of the first epoch after the probe.

        Args:
            epoch: The epoch that begins, counted from 0.
            trainer: Where the model is trained.

        Returns:
            Whether this was the moment.
        """
        if not self.probing or epoch < self._options.probe_epochs:
            return False
        thaw(self._model, self.later)
        self.probing = False
        strategy = trainer.strategy
        if isinstance(strategy, DDPStrategy) and strategy.model is not strategy.lightning_module:
            # the wrapper only averages the gradients of what was trained when it was made
            strategy.model = strategy.lightning_module
            strategy.configure_ddp()
        return True
