"""ImageNet in its usual layouts, as class folders."""

from inceptionnext_lit.prepare.imagenet.preparing import check_same, prepare_imagenet
from inceptionnext_lit.prepare.imagenet.target import Mode

__all__ = ["Mode", "check_same", "prepare_imagenet"]
