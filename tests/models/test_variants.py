from pathlib import Path

import pytest
import timm
import torch

from inceptionnext_lit.errors import UserError
from inceptionnext_lit.models import check_model_name, model_names
from inceptionnext_lit.models.registry import evenly_spaced

PUBLISHED_PARAMS = {  # millions, as the papers and the authors' README print them
    "inceptionnext_atto": "4.2",
    "inceptionnext_tiny": "28",
    "inceptionnext_small": "49",
    "inceptionnext_base": "87",
    "inceptionnext_base_384": "87",
    "inceptionnext_iso_small": "22",
    "inceptionnext_iso_base": "86",
    "metanext_attn_small": "22",
    "convnext_iso_small": "22",
    "convnext_iso_base": "87",
    "convnext_iso_large": "306",
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED_PARAMS.items())
def test_parameters_round_to_the_published_number(name: str, published: str) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in timm.create_model(name).parameters())
    digits = len(published.partition(".")[2])
    assert f"{count / 1e6:.{digits}f}" == published


def test_the_exact_counts_of_the_three_main_models() -> None:
    with torch.device("meta"):
        models = (timm.create_model(f"inceptionnext_{size}") for size in ("tiny", "small", "base"))
        assert [sum(p.numel() for p in m.parameters()) for m in models] == [28_055_680, 49_374_016, 86_672_136]


def test_timm_knows_every_row_and_its_weights() -> None:
    assert set(model_names()) <= set(timm.list_models())
    pretrained = [name for name in timm.list_pretrained("inceptionnext_*")]
    assert pretrained == [
        "inceptionnext_atto.sail_in1k",
        "inceptionnext_base.sail_in1k",
        "inceptionnext_base_384.sail_in1k_384",
        "inceptionnext_small.sail_in1k",
        "inceptionnext_tiny.sail_in1k",
    ]
    cfg = timm.get_pretrained_cfg("inceptionnext_base_384")
    theirs = timm.get_pretrained_cfg("inception_next_base.sail_in1k_384")
    for key in ("hf_hub_id", "input_size", "pool_size", "crop_pct", "mean", "std", "first_conv", "classifier"):
        assert getattr(cfg, key) == getattr(theirs, key)
    assert cfg.url.endswith("/inceptionnext_base_384.pth")


def test_pretrained_weights_load_with_fewer_classes_and_one_channel() -> None:
    torch.manual_seed(0)
    source = timm.create_model("inception_next_atto").state_dict()
    overlay = {"state_dict": source}
    model = timm.create_model(
        "inceptionnext_atto", pretrained=True, pretrained_cfg_overlay=overlay, num_classes=5, in_chans=1
    )
    loaded = model.state_dict()
    torch.testing.assert_close(loaded["stages.3.blocks.1.gamma"], source["stages.3.blocks.1.gamma"])
    torch.testing.assert_close(loaded["stem.0.weight"], source["stem.0.weight"].sum(1, keepdim=True))
    assert loaded["head.fc2.weight"].shape == (5, 960)


@pytest.mark.parametrize(
    ("count", "indices"), [(18, (3, 8, 12, 17)), (12, (2, 5, 8, 11)), (6, (0, 2, 3, 5)), (4, (0, 1, 2, 3)), (1, (0,))]
)
def test_levels_are_evenly_spaced(count: int, indices: tuple[int, ...]) -> None:
    assert evenly_spaced(count) == indices


@pytest.mark.parametrize(
    "name", ["inceptionnext_iso_nano", "resnet50", "resnet50.a1_in1k", "inceptionnext_base_384.sail_in1k_384"]
)
def test_names_that_timm_can_build_pass(name: str) -> None:
    check_model_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("inceptionnext_tinny", r"^Unknown model 'inceptionnext_tinny'\. The nearest names are: "
                                r"inceptionnext_tiny, .*inception_next_tiny"),
        ("resnet5O", r"The nearest names are: resnet50, "),
        ("zzzzqq", r"^Unknown model 'zzzzqq'\. timm.list_models\(\) lists all names\.$"),
        ("./best.ckpt", r"^Unknown model './best\.ckpt'\. timm.list_models\(\) lists all names\.$"),
        ("inceptionnext_iso_nano.x", r"^inceptionnext_iso_nano has no weights tagged 'x'; it has none\.$"),
        ("inceptionnext_tiny.x", r"^inceptionnext_tiny has no weights tagged 'x'; it has sail_in1k\.$"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_model_name(name)


@pytest.mark.parametrize("name", ["best.ckpt", "resnet50.safetensors", "convnext_tiny.pth.tar"])
def test_files_are_not_taken_for_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    (tmp_path / "resnet50").touch()
    check_model_name("resnet50")
    with pytest.raises(UserError, match=rf"^{name} is a file; give the name of its model instead, such as resnet50\.$"):
        check_model_name(name)
