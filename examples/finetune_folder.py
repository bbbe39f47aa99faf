"""Fine-tune on a folder of images from Python, without the command line.

Usage: python examples/finetune_folder.py [FOLDER] [--epochs N] [--batch_size N]

FOLDER has CLASS/*.jpg, or train/CLASS/*.jpg and val/CLASS/*.jpg; without it, the embedded images are used.
"""

import argparse
import sys

from lightning.pytorch import Trainer, seed_everything

from inceptionnext_lit.data import ImageFolderDataModule, InputOptions
from inceptionnext_lit.errors import UserError
from inceptionnext_lit.tasks import ClassificationTask
from inceptionnext_lit.training.callbacks.checkpoints import BestCheckpoint
from inceptionnext_lit.training.callbacks.progress import RunProgressBar
from inceptionnext_lit.training.schedule import Schedule


def main() -> None:
    """Train, and print the path of the best checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="sample")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=64)
    args = parser.parse_args()

    seed_everything(0, workers=True)
    # For photographs: image_size=224, name="inceptionnext_tiny" and pretrained=True below. Weights of other models may
    # need another mean and std; models.pretrained_input.pretrained_input(NAME, True) returns them.
    data = ImageFolderDataModule(
        root=args.folder, image_size=28, batch_size=args.batch_size, input=InputOptions(crop_pct=1.0)
    )
    task = ClassificationTask(
        name="inceptionnext_iso_micro",
        data_spec=data.data_spec,
        lr=3e-3,
        schedule=Schedule(warmup_epochs=1),
    )
    best = BestCheckpoint(monitor="val/acc1")
    trainer = Trainer(
        max_epochs=args.epochs,
        callbacks=[best, RunProgressBar()],
        default_root_dir="runs/finetune_folder",
        logger=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data)
    print(f"best val/acc1 {float(best.best_model_score):.3f} in {best.best_model_path}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
