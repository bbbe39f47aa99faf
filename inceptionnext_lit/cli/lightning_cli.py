"""LightningCLI, wired to this toolkit's task, data, run folder and checkpoints."""

import signal
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from inceptionnext_lit.cli.auto_values import derive, resolve_checkpoints, take_found_lr
from inceptionnext_lit.cli.changes import check_fit, leave_out_pretrained
from inceptionnext_lit.cli.command_parsing import CommandLineParsing
from inceptionnext_lit.cli.errors import explain_failure, user_error_behind
from inceptionnext_lit.cli.evaluation import announce, begin_evaluation, print_metrics
from inceptionnext_lit.cli.latest_run import remove_leftovers, run_name, say
from inceptionnext_lit.cli.loggers import all_loggers, folder_loggers, give_defaults
from inceptionnext_lit.cli.optimizers import describe_schedule
from inceptionnext_lit.cli.predict_options import OUTPUT_KEYS, leave_out_done
from inceptionnext_lit.cli.preflight import check_end, check_modes, check_start_method, check_told
from inceptionnext_lit.cli.pretrained import describe_input, settle_input, warn_of_shared_images
from inceptionnext_lit.cli.run_folder import RunFolder
from inceptionnext_lit.cli.stored_arguments import LINKED
from inceptionnext_lit.lightning_compat import leave_batchnorm_alone
from inceptionnext_lit.models.cost import image_macs
from inceptionnext_lit.predict.writer import PredictionWriter, check_single_process
from inceptionnext_lit.tasks.base import BaseTask, run_callbacks
from inceptionnext_lit.training.batchnorm import DeviceSyncBatchNorm
from inceptionnext_lit.training.callbacks.learning_rate import LearningRateLogger
from inceptionnext_lit.training.callbacks.peers import Peers, set_timeout
from inceptionnext_lit.training.callbacks.progress import RunProgressBar
from inceptionnext_lit.training.callbacks.signals import SaveOnSignal
from inceptionnext_lit.training.callbacks.summary import RunSummary
from inceptionnext_lit.training.checkpoint_io import SafeCheckpointIO
from inceptionnext_lit.training.processes import SIGNALS


class CommandLine(CommandLineParsing):
    """``fit``, ``validate``, ``test`` and ``predict``.

    Args:
        until_end: What is held as long as the command runs: the run's folder, and the signals that end it.
        words: The command line, which begins with the command.
        *args: As for LightningCLI.
        **kwargs: Likewise.
    """

    def __init__(self, until_end: ExitStack, words: list[str], *args: Any, **kwargs: Any) -> None:
        self._until_end = until_end
        super().__init__(until_end.enter_context(RunFolder()), words, *args, **kwargs)

    @property
    def _stored(self) -> dict[str, Any] | None:
        return None if self._opened is None else self._opened.content

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
            self._pretrained = leave_out_pretrained(config.model.init_args, self._stored)
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
        as_given, told = deepcopy(config.trainer.logger), config.model.init_args.get(LINKED)
        try:
            if self.subcommand == "fit":
                give_defaults(config.trainer.logger, str(config.trainer.default_root_dir), config.run_name)
            super().instantiate_classes()
            check_told(told, self.datamodule)
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
        check_fit(self._stored, self.model, self.parsed("ckpt_path"), is_training=self.subcommand == "fit")
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
                kept = resolve_checkpoints(self.made("checkpoint"), self.config["fit"].checkpoint, self.model)
                callbacks += [*kept.callbacks(), self._signals, RunSummary(image_macs)]
            callbacks.append(self._peers)
            if logger:
                callbacks.append(LearningRateLogger())
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
        trainer.strategy.checkpoint_io = SafeCheckpointIO(self._opened)
        self._timeout_s = set_timeout(trainer.strategy, self.made("strategy_timeout"))
        if config.sync_batchnorm:  # Lightning's own needs a GPU, and not every strategy of Lightning's looks at it
            leave_batchnorm_alone(trainer.strategy)
            DeviceSyncBatchNorm().apply(self.model)
        return trainer

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
            derived += take_found_lr(self.config["fit"], self.model, self.datamodule, self.trainer, self._stored)
        if hasattr(self.datamodule, "preprocessing"):
            say(describe_input(self.datamodule.preprocessing, self._input_taken))
        for line in describe_schedule(self.model):
            say(line)
        if derived:
            say(f"Derived:    {', '.join(derived)}")
        if self._continued is not None and self._run_folder.path is not None:
            remove_leftovers(self._run_folder.path)
        self._opened = None  # the file keeps its place on the disk as long as it is open

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
        begin_evaluation(self.datamodule, self.trainer, self._stored or {}, "validate")

    def before_test(self) -> None:
        """Choose the images that go with the checkpoint."""
        begin_evaluation(self.datamodule, self.trainer, self._stored or {}, "test")

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
