"""``fit``, ``validate``, ``test`` and ``predict``: parse the command line, run it, and explain library errors."""

import signal
import sys
from contextlib import ExitStack

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule

from inceptionnext_lit.allocator import keep_memory
from inceptionnext_lit.cli import COMMANDS
from inceptionnext_lit.cli.errors import explain_setting
from inceptionnext_lit.cli.lightning_cli import CommandLine
from inceptionnext_lit.cli.parsing.parser import CommandParser
from inceptionnext_lit.cli.quiet import silence_library_chatter
from inceptionnext_lit.cli.recipes.default_recipe import add_default_recipe, say_recipe
from inceptionnext_lit.cli.recipes.shipped import resolve_configs
from inceptionnext_lit.cli.runs.latest_run import say
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.training.callbacks.signals import Interrupted
from inceptionnext_lit.training.processes import terminate_with_parent


def run(args: list[str] | None = None) -> None:
    """Parse a command line and run its command.

    Args:
        args: Arguments after the program's name; those of this process if not given.

    Raises:
        UserError: For any error that the user can fix.
        SystemExit: With code 2 if the command line cannot be parsed.
    """
    words = list(sys.argv[1:] if args is None else args)
    if words[1:] == ["--help", "all"]:
        words.pop()
    silence_library_chatter()
    keep_memory()
    terminate_with_parent()
    words, recipe = add_default_recipe(resolve_configs(words))
    if recipe is not None:
        say_recipe(recipe, words)
    try:
        with ExitStack() as until_end:
            CommandLine(
                until_end,
                words,
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                seed_everything_default=0,
                # the run folder is new, so only a run without loggers finds an older file
                save_config_kwargs={"overwrite": True},
                parser_class=CommandParser,
                parser_kwargs={"allow_abbrev": False, words[0]: {"description": COMMANDS[words[0]]}},
                trainer_defaults={"default_root_dir": "runs", "enable_model_summary": False},
            )
    except Interrupted as interruption:
        is_training = words[:1] == ["fit"]
        say(f"\n{interruption}" if is_training else f"Stopped by {signal.Signals(interruption.signum).name}.")
        raise
    except (MisconfigurationException, TypeError, ValueError) as error:
        if (known := explain_setting(error)) is None:
            raise
        raise known from error
    except KeyError as error:
        if not str(error.args[0]).startswith("SLURM_"):
            raise
        raise UserError(
            f"{error.args[0]} is not set: configs/trainer/slurm.yaml is only for jobs started by srun; leave it out "
            "elsewhere."
        ) from error
