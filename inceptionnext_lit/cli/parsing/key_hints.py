"""Keys that were probably meant instead of an unknown one."""

import difflib

# what other training scripts call these
_ELSEWHERE = {
    "trainer.devices": ("gpus", "num_gpus", "nproc_per_node"),
    "trainer.default_root_dir": ("output", "output_dir", "save_dir", "work_dir", "project"),
    "trainer.precision": ("amp", "bf16", "fp16", "half"),
    "data.image_size": ("img", "imgsz", "img_size", "input_size", "resolution"),
    "data.root": ("data_dir", "data_path", "dataset"),
    "model.lr": ("learning_rate", "base_lr", "lr0"),
    "model.name": ("arch", "model_name"),
    "model.optimizer.name": ("opt", "optim", "optimizer"),
    "model.pretrained": ("finetune", "weights"),
    "model.weight_decay": ("wd",),
    "ckpt_path": ("ckpt", "resume", "resume_from"),
    "run_name": ("exp_name", "experiment"),
    "seed_everything": ("seed",),
}
_MEANT = {name: key for key, names in _ELSEWHERE.items() for name in names}


def nearest_keys(key: str, known: list[str]) -> list[str]:
    """Return up to three known keys similar to a wrong one.

    They are of its group if that exists; if not, of any group, as for ``max_epochs`` without ``trainer.``, or groups.

    Args:
        key: The wrong key.
        known: Valid keys, nested ones as ``data.root``.
    """
    key = key.replace("-", "_")
    groups = {name.partition(".")[0] for name in known}
    group = key.partition(".")[0]
    if "." not in key and (named := _keys_named(key, known)):
        return named
    if group not in groups:
        near = difflib.get_close_matches(group, sorted(groups), n=3)
        whole = [f"{name}{key.removeprefix(group)}" for name in near]
        return [name for name in whole if name in known] or near
    siblings = {name for name in known if name.count(".") >= key.count(".") and name.startswith(f"{group}.")}
    longer = sorted(name for name in siblings if name.startswith(key))  # the key was abbreviated
    alike = difflib.get_close_matches(key, sorted(siblings), n=3, cutoff=0.7)
    same_words = _with_words(key.rpartition(".")[2], sorted(siblings))
    return list(dict.fromkeys([*longer, *same_words, *alike]))[:3]


def _keys_named(name: str, known: list[str]) -> list[str]:
    """Return up to three keys that have this name in their groups or elsewhere, or that have its words."""
    if _MEANT.get(name) in known:
        return [_MEANT[name]]
    nested = sorted((key for key in known if "." in key), key=lambda key: (key.count("."), key))
    if same := [key for key in nested if _leaf(key) == name]:
        return same[:3]
    if longer := _with_words(name, nested):
        return longer[:3]
    near = difflib.get_close_matches(name, [_leaf(key) for key in nested], n=1, cutoff=0.85)
    return [key for key in nested if _leaf(key) in near][:3]


def _with_words(name: str, keys: list[str]) -> list[str]:
    """Return the keys that have a name's words and the fewest others, as ``max_epochs`` for ``epochs``."""
    longer = [key for key in keys if set(name.split("_")) < set(_leaf(key).split("_"))]
    fewest = min((_leaf(key).count("_") for key in longer), default=0)
    return [key for key in longer if _leaf(key).count("_") == fewest]


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]
