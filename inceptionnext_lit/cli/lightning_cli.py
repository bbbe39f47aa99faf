"""LightningCLI with this toolkit's tasks, data, run folder and checkpoints."""

import signal
from collections import ChainMap
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from inceptionnext_lit.cli.auto_values import derive, resolve_checkpoints, take_found_lr
from inceptionnext_lit.cli.command_parsing import CommandLineParsing
from inceptionnext_lit.cli.commands.evaluate import run as evaluate
from inceptionnext_lit.cli.errors import explain_failure, user_error_behind
from inceptionnext_lit.cli.metrics_file import SPLITS, MetricsFile, describe_images, evaluated_images, only_defined
from inceptionnext_lit.cli.parsing.optimizers import describe_schedule
from inceptionnext_lit.cli.parsing.predict_options import faster_form, keep_palette, leave_out_done, writer_for
from inceptionnext_lit.cli.parsing.stored_arguments import LINKED
from inceptionnext_lit.cli.preflight import check_end, check_modes, check_start_method, check_told
from inceptionnext_lit.cli.pretrained import describe_input, settle_input, warn_of_shared_images
from inceptionnext_lit.cli.published_weights import apply_published, describe_weights
from inceptionnext_lit.cli.runs.changes import check_fit, leave_out_pretrained
from inceptionnext_lit.cli.runs.latest_run import remove_leftovers, run_name, say
from inceptionnext_lit.cli.runs.loggers import all_loggers, folder_loggers, give_defaults
from inceptionnext_lit.cli.runs.run_folder import RunFolder
from inceptionnext_lit.cli.validation import announce, begin_evaluation, print_metrics
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.lightning_compat import leave_batchnorm_alone
from inceptionnext_lit.models.cost import image_macs
from inceptionnext_lit.predict.writer import check_single_process
from inceptionnext_lit.program import relative
from inceptionnext_lit.tasks.base import BaseTask, run_callbacks
from inceptionnext_lit.tasks.classification import ClassificationTask
from inceptionnext_lit.tasks.segmentation import SegmentationTask
from inceptionnext_lit.training.batchnorm import DeviceSyncBatchNorm
from inceptionnext_lit.training.callbacks.checkpoints import BestCheckpoint
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
        until_end: Holds the run's folder and the signal handlers until the command ends.
        words: The command line, starting with the command.
        *args: Passed to LightningCLI.
        **kwargs: Passed to LightningCLI.
    """

    def __init__(self, until_end: ExitStack, words: list[str], *args: Any, **kwargs: Any) -> None:
        self._until_end = until_end
        super().__init__(until_end.enter_context(RunFolder()), words, *args, **kwargs)

    @property
    def _stored(self) -> dict[str, Any] | None:
        return None if self._opened is None else self._opened.content

    def before_instantiate_classes(self) -> None:
        """Name the run after its recipe, also in the saved config, and claim its folder before the data is scanned."""
        # Lightning's own handlers end a prediction after a batch at the other signals
        signals = (signal.SIGINT,) if self.subcommand == "predict" else SIGNALS
        self._peers = Peers()
        if self.subcommand in SPLITS:
            self._metrics_file = MetricsFile(self.parsed("output"), overwrite=self.parsed("overwrite"))
        if self.subcommand != "predict":  # predict runs on one device
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
        """Instantiate the classes; a constructor's error about a wrong value is raised as is."""
        config = self.config[self.subcommand]
        if self.subcommand == "fit":
            check_end(config.trainer)
        as_given, told = deepcopy(config.trainer.logger), config.model.init_args.get(LINKED)
        try:
            if self.subcommand == "fit":
                give_defaults(config.trainer.logger, str(config.trainer.default_root_dir), config.run_name)
            super().instantiate_classes()
            check_told(told, self.datamodule)
            if self._published is not None:
                apply_published(self._published, self.model)
            if self.subcommand == "fit":
                # the saved config repeats the run, so it has neither this run's paths nor its checkpoint
                config.trainer.logger = as_given
                if self._pretrained is not None:
                    config.model.init_args.pretrained = self._pretrained
                config.ckpt_path = None if self._continued is not None else config.ckpt_path
        except ValueError as error:
            if (cause := user_error_behind(error)) is None:
                raise
            raise cause from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the trainer with this toolkit's loggers, callbacks and checkpoint files."""
        self._check_model()
        config = self.made("trainer")
        named = config.callbacks or []
        callbacks: list[Callback] = [named] if isinstance(named, Callback) else list(named)
        check_modes(callbacks, self.model)
        if self.subcommand == "fit" and not isinstance(self.model, BaseTask):  # a task adds its own
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
                kwargs["default_root_dir"] = tensorboard.log_dir  # for the checkpoints
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
            self.save_config_callback = None  # only training has a run folder
        if self.subcommand == "predict":
            self._writer = writer_for(self.model, self.made)
            callbacks.append(self._writer)
            self.model.compiles_prediction = self.made("compile")
        trainer = super().instantiate_trainer(callbacks=callbacks, logger=logger, **kwargs)
        if self.subcommand != "predict":
            check_start_method(trainer.strategy)  # a notebook's default for several devices
        trainer.strategy.checkpoint_io = SafeCheckpointIO(self._opened)
        self._timeout_s = set_timeout(trainer.strategy, self.made("strategy_timeout"))
        if config.sync_batchnorm:  # Lightning's needs a GPU, and some of its strategies ignore it
            leave_batchnorm_alone(trainer.strategy)
            DeviceSyncBatchNorm().apply(self.model)
        return trainer

    def _check_model(self) -> None:
        """Check that the model fits the checkpoint, if any, and its teacher; both before anything is written."""
        if self.subcommand == "fit" and isinstance(self.model, ClassificationTask):
            self.model.load_distillation()
        check_fit(self._stored, self.model, self.parsed("ckpt_path"), is_training=self.subcommand == "fit")

    def before_fit(self) -> None:
        """Set up the data first, so that its errors are reported before the other ranks start."""
        resumes = self.made("ckpt_path") is not None
        if self.made("report") and not isinstance(self.model, ClassificationTask | SegmentationTask):
            raise UserError(
                f"{type(self.model).__name__} is neither a classifier nor a segmentation model, so --report cannot "
                "evaluate it; leave it out."
            )
        if isinstance(self.model, BaseTask):
            self.model.has_weights |= resumes  # also for the trials before the checkpoint is loaded
            self.model.finetuning.check_weights(are_loaded=self.model.has_weights)
        self.datamodule.trainer = self.trainer
        self.datamodule.prepare_data()
        self.datamodule.setup("fit")
        announce(self.datamodule, "fit")
        distill = getattr(self.model, "distill", None)
        warn_of_shared_images(self._pretrained, None if distill is None else distill.teacher, self.datamodule)
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
        self._opened = None  # an open file occupies its disk space even if deleted

    def fit(self, **kwargs: Any) -> None:
        """Train, and explain known failures in one sentence."""
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

    def after_fit(self) -> None:
        """Evaluate the best checkpoint on the validation images if ``--report`` is given, on the first rank."""
        if not self.made("report") or not self.trainer.is_global_zero:
            return
        kept = next((one for one in self.trainer.checkpoint_callbacks if isinstance(one, BestCheckpoint)), None)
        best = Path(kept.best_model_path if kept is not None else "")
        if not best.is_file():
            say("No report: the run has no best checkpoint.")
            return
        folder = relative(str(best.parents[1] / "report"))
        evaluate([relative(str(best)), "--split", "val", "--output", folder, "--overwrite", "--allow_unreadable"])

    def before_validate(self) -> None:
        """Choose the images to evaluate the weights on."""
        self._say_weights()
        begin_evaluation(self.datamodule, self.trainer, self._stored or {}, "validate")

    def before_test(self) -> None:
        """Choose the images to evaluate the weights on."""
        self._say_weights()
        begin_evaluation(self.datamodule, self.trainer, self._stored or {}, "test")

    def _say_weights(self) -> None:
        """Print which weights are used if they are not a checkpoint's."""
        for line in () if self._published is None else describe_weights(self._published, self.model.preprocessing):
            say(line)

    def validate(self, **kwargs: Any) -> None:
        """Validate, and print the metrics."""
        self._report(self.trainer.validate(**kwargs, verbose=False), "validate")

    def test(self, **kwargs: Any) -> None:
        """Test, and print the metrics."""
        self._report(self.trainer.test(**kwargs, verbose=False), "test")

    def _report(self, results: Sequence[Mapping[str, float]], stage: str) -> None:
        """Print the metrics, and write them to ``--output`` if it is given."""
        metrics = only_defined(dict(ChainMap(*map(dict, results))), self.datamodule)
        images = evaluated_images(self.datamodule, self.trainer, stage)
        print_metrics(self.model, metrics, images)
        if self.trainer.is_global_zero:
            about = {"images": images, **describe_images(self.datamodule, stage), "checkpoint": self.made("ckpt_path")}
            about |= {} if self._published is None else {"weights": str(self._published)}
            if (line := self._metrics_file.write(metrics, about)) is not None:
                say(line)

    def before_predict(self) -> None:
        """Reject several devices before their processes start, and skip images that the output already has."""
        self._say_weights()
        check_single_process(self.trainer)
        keep_palette(self.model, self._stored)
        self._anything_left = leave_out_done(self.datamodule, self._writer, self.model)
        announce(self.datamodule, "predict")
        images = len(self.datamodule.predict_set)
        if (line := faster_form(self.model, self.trainer, images, self.made("ckpt_path"))) is not None:
            say(line)

    def predict(self, **kwargs: Any) -> None:
        """Predict without keeping all predictions in memory twice."""
        if self._anything_left:
            self.trainer.predict(**kwargs, return_predictions=False)
        else:
            self._writer.finish()
