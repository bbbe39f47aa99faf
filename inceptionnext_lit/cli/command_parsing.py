"""Command-line parsing, with defaults from a checkpoint and the choice of the run to continue."""

import pkgutil
import sys
from pathlib import Path
from typing import Any, cast

from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from inceptionnext_lit.cli.metrics_file import SPLITS, add_metrics_file
from inceptionnext_lit.cli.parsing.optimizers import add_optimizers, is_left_to_lightning, take_optimizers
from inceptionnext_lit.cli.parsing.parser import DEFAULT_CLASSES, named_classes, other_classes, whole_numbers_first
from inceptionnext_lit.cli.parsing.predict_options import add_arguments, add_switch, take_inputs
from inceptionnext_lit.cli.parsing.stored_arguments import LINKED, checkpoint_defaults
from inceptionnext_lit.cli.preflight import (
    check_continuation,
    check_groups,
    check_images,
    check_nulls,
    check_prediction,
)
from inceptionnext_lit.cli.published_weights import asked_weights, describe, names_checkpoint, published_defaults
from inceptionnext_lit.cli.recipes.augmentation_levels import spell_out_levels
from inceptionnext_lit.cli.recipes.recipe_yaml import names_as_text
from inceptionnext_lit.cli.runs.latest_run import LAST, find_continuation, is_finished, run_name, say
from inceptionnext_lit.cli.runs.run_folder import RunFolder
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import OpenLightningCLI
from inceptionnext_lit.safe_load import SUFFIXES
from inceptionnext_lit.seeding import random_seed
from inceptionnext_lit.tasks.published import Published
from inceptionnext_lit.training.callbacks.checkpoints import Checkpoints
from inceptionnext_lit.training.callbacks.peers import TIMEOUT_HELP, TIMEOUT_S
from inceptionnext_lit.training.checkpoint_io import OpenCheckpoint, open_checkpoint


class CommandLineParsing(OpenLightningCLI):
    """LightningCLI that parses the commands ``fit``, ``validate``, ``test`` and ``predict``.

    Args:
        run_folder: The run's folder, which ``--ckpt_path last`` locks.
        words: The command line, starting with the command.
        *args: Passed to LightningCLI.
        **kwargs: Passed to LightningCLI.
    """

    def __init__(self, run_folder: RunFolder, words: list[str], *args: Any, **kwargs: Any) -> None:
        self._run_folder = run_folder
        self._command = words[0]
        super().__init__(*args, **(kwargs | {"args": words}))

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] # Lightning's needs no instance
        """Return the command, with the trainer's arguments that are not on the command line.

        The other commands are left out, since building their parsers takes a third of the parsing time.
        """
        ours = {"weights_only", "return_predictions", "verbose"}
        return {self._command: LightningCLI.subcommands()[self._command] | ours}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Set the default classes and link the data to the model."""
        parser.set_defaults({key: {"class_path": cls.__name__} for key, cls in DEFAULT_CLASSES.items()})
        parser.link_arguments(f"data.{LINKED}", f"model.init_args.{LINKED}", apply_on="instantiate")

    def prepare_command(self, parser: LightningArgumentParser, command: str) -> None:
        """Add the keys that all commands share, and those for the output of a command."""
        # Recipes set these, so all commands accept them.
        parser.add_class_arguments(Checkpoints, "checkpoint")
        parser.add_argument("--strategy_timeout", type=PositiveFloat, default=TIMEOUT_S, help=TIMEOUT_HELP)
        parser.add_argument("--run_name", type=str | None, help="Name below runs/; the recipe's if not given.")
        add_optimizers(parser)
        add_switch(parser, "--find_lr", "Find model.lr by a range test of 100 steps before training.")
        add_switch(parser, "--report", "Evaluate the best checkpoint on the validation images after training.")
        if command == "predict":
            add_arguments(parser)
        elif command in SPLITS:
            add_metrics_file(parser)
        whole_numbers_first(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; if a checkpoint is given, parse again with its arguments as the defaults."""
        self._opened: OpenCheckpoint | None = None
        self._published: Published | None = None
        inputs, args = take_inputs(args)
        args = names_as_text(cast(list[str], args))
        words = [word for word in args if not word.startswith("--print_config")]  # which would exit
        self.set_command_defaults(words[0], named_classes(words))
        self._parse(parser, words)
        command = self.config["subcommand"]
        check_groups(self.config[command])
        others = other_classes(self.config[command])
        # jsonargparse gives other classes the default classes' values for arguments that they share
        self.set_command_defaults(command, others)
        args = self._spelled_out(args, command)
        if others or words != args:
            self._parse(parser, args)
        check_nulls(self.config[command])
        self._take_optimizers(command)
        if command == "fit":
            check_images(self.config.fit)
        seed = self.config[command].seed_everything
        if not 0 <= seed < 2**32:  # includes true and false
            raise UserError(f"seed_everything is {seed}; it must be 0 to {2**32 - 1}, or true for a random one.")
        self._take_weights(command, words, inputs, parser, args)
        if command == "predict":
            check_prediction(self.config.predict.model.class_path)
        if inputs:
            self.config[command].data.init_args.root = inputs
        if self.config[command].seed_everything is True:  # Lightning would take 0
            self.config[command].seed_everything = random_seed()

    def _parse(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        config = self.config[self.config["subcommand"]]
        for part in (config.data, config.model):
            if isinstance(part, Namespace) and part.get("init_args") is None:
                part.init_args = Namespace()  # type: ignore[no-untyped-call] # left out for a class without arguments

    def _spelled_out(self, args: ArgsType, command: str, stored: Any = None) -> list[str]:
        cls = pkgutil.resolve_name(self.config[command].data.class_path)  # the parser has imported it
        return spell_out_levels(cast(list[str], args), cls, stored)

    def _take_weights(
        self, command: str, words: list[str], inputs: list[str], parser: LightningArgumentParser, args: ArgsType
    ) -> None:
        """Open the checkpoint, or describe the published weights, and parse again with what follows from them."""
        weights = None if command == "fit" else asked_weights(words, self.config[command])
        if weights is not None and names_checkpoint(weights):
            self.config[command].ckpt_path = weights
        self._opened = self._open_checkpoint(command)
        if self._opened is not None:
            self._parse_with_defaults_of(self._opened, command, parser, args)
            if weights is not None:  # they are the checkpoint's
                self.config[command].model.init_args.pretrained = False
        elif weights is not None:
            self._parse_with_defaults_of_weights(weights, command, parser, args)
        elif command != "fit":
            files = [name for name in inputs if Path(name).suffix in SUFFIXES]
            taken = f"; {files[0]} was taken for an image" if files else ""
            raise UserError(
                f"{command} needs a checkpoint, --ckpt_path runs/…/checkpoints/best.ckpt, or published weights, "
                f"--model.name NAME --model.pretrained true{taken}."
            )

    def _parse_with_defaults_of(
        self, opened: OpenCheckpoint, command: str, parser: LightningArgumentParser, args: ArgsType
    ) -> None:
        path, checkpoint = opened.path, opened.content
        defaults = checkpoint_defaults(checkpoint, path, self.config[command].model)
        if command == "predict" and "data" in defaults:
            # training may use a data set as it is stored, but new photos are rotated upright
            defaults["data"]["init_args"].get("input", {}).pop("exif", None)
        self.set_command_defaults(command, defaults)
        stored = defaults.get("data", {}).get("init_args", {})
        self._parse(parser, self._spelled_out(args, command, stored.get("augmentation")))
        self._take_optimizers(command)
        stored_crop = stored.get("crop_size")
        if stored_crop is not None and self.config[command].data.init_args.get("crop_size") == "auto":
            self.config[command].data.init_args.crop_size = stored_crop  # a recipe's auto was derived by the run
        self.config[command].ckpt_path = path
        if self.config[command].seed_everything is True and "run" in checkpoint:  # a random seed is drawn once
            self.config[command].seed_everything = checkpoint["run"]["seed_everything"]
        given = self.config[command]
        if self._continued and (done := is_finished(checkpoint, given.trainer, given.checkpoint)):
            say(f"Nothing left to do: the checkpoint {path} {done}.")
            sys.exit(0)
        check_continuation(checkpoint, self.config[command], is_training=command == "fit")

    def _parse_with_defaults_of_weights(
        self, weights: bool | str, command: str, parser: LightningArgumentParser, args: ArgsType
    ) -> None:
        self._published = describe(weights, self.config[command])
        defaults = published_defaults(self._published)
        if command == "predict":
            self._published.check_names()
            defaults["data"]["init_args"]["input"].pop("exif", None)  # new photos are rotated upright
        self.set_command_defaults(command, defaults)
        self._parse(parser, args)
        self._take_optimizers(command)

    def _take_optimizers(self, command: str) -> None:
        """Convert LightningCLI's optimizer and scheduler into task options, or leave them to LightningCLI."""
        self.auto_configure_optimizers = is_left_to_lightning(self.config[command])
        self._optimizers_taken = [] if self.auto_configure_optimizers else take_optimizers(self.config[command])

    def _open_checkpoint(self, command: str) -> OpenCheckpoint | None:
        """Open the given checkpoint; for ``last``, the newest one of the recipe's newest run."""
        config = self.config[command]
        self._continued = None
        path: str | None = config.get("ckpt_path")
        if path != LAST:
            return None if path is None else open_checkpoint(path)
        root = Path(config.trainer.default_root_dir, run_name(config))
        if command == "fit" and (dead := self._run_folder.lock_newest(root)) is not None:
            say(f"Taken over: the run in {self._run_folder.path}, from {dead}, which has died")
        found, opened = find_continuation(root)
        if command != "fit":
            if opened is None:
                raise UserError(f"No run with a checkpoint in {root}; name one with --ckpt_path.")
            return opened
        config.ckpt_path = None
        if found is None:
            return None
        self._continued = found
        self._run_folder.lock(root, found.version)
        return opened
