"""LightningCLI, wired to this toolkit's task, data, run folder and checkpoints."""

import signal
import sys
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from jsonargparse.typing import PositiveFloat
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from inceptionnext_lit.cli.changes import check_fit, leave_out_pretrained
from inceptionnext_lit.cli.errors import explain_failure, user_error_behind
from inceptionnext_lit.cli.evaluation import announce, begin_evaluation, print_metrics
from inceptionnext_lit.cli.latest_run import LAST, find_continuation, is_finished, remove_leftovers, run_name, say
from inceptionnext_lit.cli.loggers import all_loggers, folder_loggers, give_defaults
from inceptionnext_lit.cli.optimizers import add_optimizers, describe_schedule, is_left_to_lightning, take_optimizers
from inceptionnext_lit.cli.parser import DEFAULT_CLASSES, other_classes, whole_numbers_first
from inceptionnext_lit.cli.predict_options import OUTPUT_KEYS, add_arguments, add_switch, leave_out_done, take_inputs
from inceptionnext_lit.cli.preflight import (
    check_continuation,
    check_end,
    check_images,
    check_modes,
    check_prediction,
    check_start_method,
    choose_monitor,
)
from inceptionnext_lit.cli.pretrained import describe_input, settle_input, warn_of_shared_images
from inceptionnext_lit.cli.run_folder import RunFolder
from inceptionnext_lit.cli.stored_arguments import LINKED, checkpoint_defaults
from inceptionnext_lit.cli.tuning import derive, take_found_lr
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import OpenLightningCLI, leave_batchnorm_alone
from inceptionnext_lit.models.cost import image_macs
from inceptionnext_lit.predict.writer import PredictionWriter, check_single_process
from inceptionnext_lit.safe_load import check_finite
from inceptionnext_lit.seeding import run_seed
from inceptionnext_lit.tasks.base import BaseTask, run_callbacks
from inceptionnext_lit.training.batchnorm import DeviceSyncBatchNorm
from inceptionnext_lit.training.callbacks.checkpoints import Checkpoints, best_mode
from inceptionnext_lit.training.callbacks.learning_rate import RateMonitor
from inceptionnext_lit.training.callbacks.peers import TIMEOUT_HELP, TIMEOUT_S, Peers, set_timeout
from inceptionnext_lit.training.callbacks.progress import RunProgressBar
from inceptionnext_lit.training.callbacks.signals import SaveOnSignal
from inceptionnext_lit.training.callbacks.summary import RunSummary
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO, read_checkpoint
from inceptionnext_lit.training.processes import SIGNALS


class CommandLine(OpenLightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict``.

    Args:
        until_end: What is held as long as the command runs: the run's folder, and the signals that end it.
        *args: As for LightningCLI.
        **kwargs: Likewise.
    """

    def __init__(self, until_end: ExitStack, *args: Any, **kwargs: Any) -> None:
        self._run_folder = until_end.enter_context(RunFolder())
        self._until_end = until_end
        super().__init__(*args, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Commands, and the arguments of the trainer's methods that are not offered on the command line."""
        ours = {"weights_only", "return_predictions", "verbose"}
        return {command: skip | ours for command, skip in LightningCLI.subcommands().items()}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Default classes, links from data to model, and the keys that all commands share."""
        parser.set_defaults({key: {"class_path": cls.__name__} for key, cls in DEFAULT_CLASSES.items()})
        for source, target in LINKED.items():
            parser.link_arguments(f"data.{source}", f"model.init_args.{target}", apply_on="instantiate")

    def prepare_command(self, parser: LightningArgumentParser, command: str) -> None:
        """Add the keys that all commands share, and those of ``predict``."""
        # Recipes name these; the other commands accept them so that a recipe can be given to them too.
        parser.add_class_arguments(Checkpoints, "checkpoint")
        parser.add_argument("--strategy_timeout", type=PositiveFloat, default=TIMEOUT_S, help=TIMEOUT_HELP)
        parser.add_argument("--run_name", type=str | None, help="Name below runs/; the recipe's if not given.")
        add_optimizers(parser)
        add_switch(parser, "--find_lr", "Find model.lr by a range test of 100 steps before training.")
        if command == "predict":
            add_arguments(parser)
        whole_numbers_first(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; where a checkpoint is named, parse again with its own arguments as the defaults."""
        self._checkpoint: dict[str, Any] | None = None
        inputs, args = take_inputs(args)
        words = [word for word in cast(list[str], args) if not word.startswith("--print_config")]  # which would exit
        super().parse_arguments(parser, words)
        command = self.config["subcommand"]
        others = other_classes(self.config[command])
        # jsonargparse has given other classes the default ones' values of arguments that they share
        self.set_command_defaults(command, others)
        if others or words != args:
            super().parse_arguments(parser, args)
        self._take_optimizers(command)
        if command == "fit":
            check_images(self.config.fit)
        seed = self.config[command].seed_everything
        if not 0 <= seed < 2**32:  # true and false lie in it
            raise UserError(f"seed_everything is {seed}; it must be 0 to {2**32 - 1}, or true for a random one.")
        path = self._checkpoint_path(command)
        if path is None and command != "fit":
            raise UserError(f"{command} needs a checkpoint: --ckpt_path runs/…/checkpoints/best.ckpt.")
        if path is not None:
            self._parse_with_defaults_of(path, command, parser, args)
        if command == "predict":
            check_prediction(self.config.predict.model.class_path)
        if inputs:
            self.config[command].data.init_args.root = inputs
        if self.config[command].seed_everything is True:  # Lightning would take 0
            self.config[command].seed_everything = run_seed()

    def _parse_with_defaults_of(self, path: str, command: str, parser: LightningArgumentParser, args: ArgsType) -> None:
        checkpoint = self._checkpoint = read_checkpoint(path, mmap=True)
        check_finite(checkpoint["state_dict"], f"The checkpoint {path}")
        defaults = checkpoint_defaults(checkpoint, path, self.config[command].model)
        if command == "predict" and "data" in defaults:
            # a data set may be trained on as it is stored; new photos are turned upright
            defaults["data"]["init_args"].pop("exif", None)
        self.set_command_defaults(command, defaults)
        super().parse_arguments(parser, args)
        self._take_optimizers(command)
        self.config[command].ckpt_path = path
        if self.config[command].seed_everything is True and "run" in checkpoint:  # a random seed is drawn once
            self.config[command].seed_everything = checkpoint["run"]["seed_everything"]
        given = self.config[command]
        if self._continued and (done := is_finished(checkpoint, given.trainer, given.checkpoint)):
            say(f"There is nothing left to do: the checkpoint {path} {done}.")
            sys.exit(0)
        check_continuation(checkpoint, self.config[command], is_training=command == "fit")

    def _take_optimizers(self, command: str) -> None:
        """Make options of the task out of LightningCLI's optimizer and scheduler, or leave them to LightningCLI."""
        self.auto_configure_optimizers = is_left_to_lightning(self.config[command])
        self._optimizers_taken = [] if self.auto_configure_optimizers else take_optimizers(self.config[command])

    def _checkpoint_path(self, command: str) -> str | None:
        """The checkpoint that the command line names; of ``last``, the newest of the recipe's newest run."""
        config = self.config[command]
        self._continued = None
        path: str | None = config.get("ckpt_path")
        if path != LAST:
            return path
        root = Path(config.trainer.default_root_dir, run_name(config))
        if command == "fit" and (dead := self._run_folder.lock_newest(root)) is not None:
            say(f"Taken over: the run in {self._run_folder.path}, from {dead}, which has ended without a word")
        found = find_continuation(root)
        if command != "fit":
            if found is None or found.checkpoint is None:
                raise UserError(f"There is no checkpoint of a run below {root}; name one with --ckpt_path.")
            return str(found.checkpoint)
        config.ckpt_path = None
        if found is None:
            return None
        self._continued = found
        self._run_folder.lock(root, found.version)
        return None if found.checkpoint is None else str(found.checkpoint)

    def before_instantiate_classes(self) -> None:
        """Name the run after its recipe, in the saved config too, and claim its folder before the data is scanned."""
        # prediction ends after a batch at the others, by Lightning's own handler
        signals = (signal.SIGINT,) if self.subcommand == "predict" else SIGNALS
        self._peers = Peers()
        if self.subcommand != "predict":  # which runs on one device
            check_start_method(self.config[self.subcommand].trainer.strategy)
        self._signals = self._until_end.enter_context(SaveOnSignal(signals))
        if self.subcommand == "fit":
            config = self.config["fit"]
            config.run_name = run_name(config)
            for line in self._optimizers_taken:
                say(line)
            self._pretrained = leave_out_pretrained(config.model.init_args, self._checkpoint)
            self._input_taken = settle_input(config.model.init_args, config.data.init_args)
            if self._continued is None:
                self._run_folder.claim(Path(config.trainer.default_root_dir, config.run_name))
            else:
                self._signals.earlier = self._continued.checkpoint

    def instantiate_classes(self) -> None:
        """Instantiate; what a constructor says of a wrong value comes out as it was said."""
        config = self.config[self.subcommand]
        if self.subcommand == "fit":
            check_end(config.trainer)
        as_given = deepcopy(config.trainer.logger)
        try:
            if self.subcommand == "fit":
                give_defaults(config.trainer.logger, str(config.trainer.default_root_dir), config.run_name)
            super().instantiate_classes()
            if self.subcommand == "fit":
                # what is saved for a repetition holds neither this run's places nor its checkpoint
                config.trainer.logger = as_given
                if self._pretrained is not None:
                    config.model.init_args.pretrained = self._pretrained
                config.ckpt_path = None if self._continued is not None else config.ckpt_path
        except ValueError as error:
            if (cause := user_error_behind(error)) is None:
                raise
            raise cause from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with this toolkit's loggers, callbacks and checkpoint files."""
        check_fit(self._checkpoint, self.model, self.parsed("ckpt_path"), is_training=self.subcommand == "fit")
        config = self.made("trainer")
        named = config.callbacks or []
        callbacks: list[Callback] = [named] if isinstance(named, Callback) else list(named)
        check_modes(callbacks, self.model)
        if self.subcommand == "fit" and not isinstance(self.model, BaseTask):  # which brings its own
            callbacks = [*run_callbacks(), *callbacks]
        if config.enable_progress_bar is not False:
            callbacks.append(RunProgressBar())
        logger: Any = config.logger
        if self.subcommand == "fit":
            tensorboard, table = folder_loggers(
                str(config.default_root_dir),
                self.parsed("run_name"),
                self._run_folder.number if self._continued is None else self._continued.version,
                self._continued,
            )
            if logger is False:
                kwargs["default_root_dir"] = tensorboard.log_dir  # a folder of its own for the checkpoints all the same
            else:
                logger = all_loggers(logger, [tensorboard, table])
            if config.enable_checkpointing is not False:
                kept = self._checkpoints()
                callbacks += [*kept.callbacks(), self._signals, RunSummary(image_macs)]
            callbacks.append(self._peers)
            if logger:
                callbacks.append(RateMonitor())
        else:
            logger = logger or False
            self.save_config_callback = None  # only training leaves a run folder to be repeated from
        if self.subcommand == "predict":
            self._writer = PredictionWriter(*(self.made(key) for key in OUTPUT_KEYS))
            callbacks.append(self._writer)
            self.model.compiles_prediction = self.made("compile")
        trainer = super().instantiate_trainer(callbacks=callbacks, logger=logger, **kwargs)
        if self.subcommand != "predict":
            check_start_method(trainer.strategy)  # a notebook's own choice for several devices
        trainer.strategy.checkpoint_io = SafeCheckpointIO()
        self._timeout_s = set_timeout(trainer.strategy, self.made("strategy_timeout"))
        if config.sync_batchnorm:  # Lightning's own needs a GPU, and not every strategy of Lightning's looks at it
            leave_batchnorm_alone(trainer.strategy)
            DeviceSyncBatchNorm().apply(self.model)
        return trainer

    def _checkpoints(self) -> Checkpoints:
        """Which checkpoints are kept, by a figure that the task logs."""
        kept: Checkpoints = self.made("checkpoint")
        monitor = choose_monitor(kept.monitor, self.model)
        mode = best_mode(self.model, monitor, kept.mode)
        resolved = self.config["fit"].checkpoint
        resolved.monitor, resolved.mode = monitor, mode
        return replace(kept, monitor=monitor, mode=mode)

    def before_fit(self) -> None:
        """Look at the data first: what is wrong is said before the processes of the other devices are started."""
        resumes = self.made("ckpt_path") is not None
        if isinstance(self.model, BaseTask):
            self.model.has_weights |= resumes  # also for the trials that come before the checkpoint is loaded
            self.model.finetuning.check_weights(are_loaded=self.model.has_weights)
        self.datamodule.trainer = self.trainer
        self.datamodule.prepare_data()
        self.datamodule.setup("fit")
        announce(self.datamodule, "fit")
        warn_of_shared_images(self._pretrained, self.datamodule)
        derived = derive(self.config["fit"], self.model, self.datamodule, self.trainer)
        if self.parsed("find_lr"):
            derived += take_found_lr(self.config["fit"], self.model, self.datamodule, self.trainer, self._checkpoint)
        if hasattr(self.datamodule, "preprocessing"):
            say(describe_input(self.datamodule.preprocessing, self._input_taken))
        for line in describe_schedule(self.model):
            say(line)
        if derived:
            say(f"Derived:    {', '.join(derived)}")
        if self._continued is not None and self._run_folder.path is not None:
            remove_leftovers(self._run_folder.path)

    def fit(self, **kwargs: Any) -> None:
        """Train; what fails on the way is said in one sentence where that is possible."""
        try:
            self.trainer.fit(**kwargs, weights_only=True)
        except Exception as error:
            known = explain_failure(
                error,
                getattr(self.datamodule, "batch_size", None),
                folder=self._run_folder.path,
                silent=self._peers.silent(),
                timeout_s=self._timeout_s,
            )
            if known is None:
                raise
            raise known from error

    def before_validate(self) -> None:
        """Choose the images that go with the checkpoint."""
        begin_evaluation(self.datamodule, self.trainer, self._checkpoint or {}, "validate")

    def before_test(self) -> None:
        """Choose the images that go with the checkpoint."""
        begin_evaluation(self.datamodule, self.trainer, self._checkpoint or {}, "test")

    def validate(self, **kwargs: Any) -> None:
        """Validate, and print the figures."""
        print_metrics(self.model, self.trainer.validate(**kwargs, verbose=False))

    def test(self, **kwargs: Any) -> None:
        """Test, and print the figures."""
        print_metrics(self.model, self.trainer.test(**kwargs, verbose=False))

    def before_predict(self) -> None:
        """Refuse several processes before they are started; leave out what the output has already."""
        check_single_process(self.trainer)
        self._anything_left = leave_out_done(self.datamodule, self._writer, self.model.class_names)
        announce(self.datamodule, "predict")

    def predict(self, **kwargs: Any) -> None:
        """Predict without keeping all predictions in memory twice."""
        if self._anything_left:
            self.trainer.predict(**kwargs, return_predictions=False)
        else:
            self._writer.finish()
