"""The models that the recipes train have the parameters of Tables 5 and 6, as ``budget`` counts them."""

from typing import Any

import pytest
import timm
import torch
import yaml

from inceptionnext_lit.models.cost import DECODERS, count_segmenter
from inceptionnext_lit.models.pyramid import feature_maps
from inceptionnext_lit.models.segmenter import Segmenter
from inceptionnext_lit.reports.budget.paper import TABLES
from tests.recipes import REPO

ADE20K = 150
FORMS = {"upernet": "UperNet", "semantic_fpn": "SemanticFPN"}
# recipe, millions of parameters in the paper, parameters without the norms on the four maps
RECIPES = [
    ("upernet_t", "56", 56_395_460),
    ("upernet_s", "78", 77_713_796),
    ("upernet_b", "115", 114_978_892),
    ("fpn_t", "28", 28_347_438),
    ("fpn_s", "50", 49_665_774),
    ("fpn_b", "85", 84_940_214),
]


def on_meta(recipe: str) -> tuple[Segmenter, str, str]:
    """Create a recipe's model without memory for its weights; return it, its backbone's name and its decoder's."""
    content = yaml.safe_load((REPO / f"configs/segment/{recipe}.yaml").read_text(encoding="utf-8"))
    arguments: dict[str, Any] = content["model"]["init_args"]
    options = arguments["segmentation"]
    with torch.device("meta"):
        maps = feature_maps(timm.create_model(arguments["name"], num_classes=0), arguments["name"])
        model = Segmenter(maps, ADE20K, options["decoder"], options["level_norm"], options.get("decoder_kwargs"))
    return model, arguments["name"], FORMS[options["decoder"]]


def parameters(module: torch.nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


@pytest.mark.parametrize(("recipe", "paper", "exact"), RECIPES)
def test_parameters_of_the_paper(recipe: str, paper: str, exact: int) -> None:
    model, backbone, form = on_meta(recipe)
    norms = 2 * sum(model.maps.channels)
    assert parameters(model.norms) == norms
    counted = parameters(model) - norms
    assert counted == exact
    with torch.device("meta"):
        features = timm.create_model(backbone, features_only=True)
        decoder = DECODERS[form](model.maps.channels, ADE20K)
    assert counted == parameters(features) + parameters(decoder)
    [row] = [row for table in TABLES for row in table.rows if (row.model, row.decoder) == (backbone, form)]
    assert row.params == paper == f"{counted / 1e6:.0f}"


@pytest.mark.parametrize("recipe", ["fpn_t", pytest.param("upernet_t", marks=pytest.mark.slow)])
def test_parameters_that_budget_counts(recipe: str) -> None:
    model, backbone, form = on_meta(recipe)
    found = count_segmenter(backbone, form, (256, 256)).total.params
    assert parameters(model) - parameters(model.norms) == found
