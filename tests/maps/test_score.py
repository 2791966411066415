import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import roc_auc_score

from visattn.maps.score import energy_in_object, entropy, pointing_game, rank_auc, saturation
from visattn.types import UsageError

CHANCE = {rank_auc: 0.5, energy_in_object: 0.25, pointing_game: 0.25}


def sample(seed, n=4, side=16, levels=None):
    rng = np.random.default_rng(seed)
    maps = rng.random((n, side, side), dtype=np.float32)
    if levels:
        maps = np.float32(np.floor(maps * levels) / levels)
    masks = np.zeros((n, side, side), bool)
    for mask in masks:
        y, x = rng.integers(0, side - 5, 2)
        mask[y : y + 5, x : x + 4] = True
    return torch.from_numpy(maps), torch.from_numpy(masks)


def quarter(n=1, side=16):
    masks = torch.zeros(n, side, side, dtype=torch.bool)
    masks[:, : side // 2, : side // 2] = True
    return masks


@pytest.mark.parametrize("levels", [None, 5, 2])
def test_auc_agrees_with_scikit_learn_ties_included(levels):
    maps, masks = sample(levels or 0, levels=levels)
    expected = [roc_auc_score(mask.flatten(), values.flatten()) for values, mask in zip(maps, masks, strict=True)]
    assert rank_auc(maps, masks).tolist() == pytest.approx(expected, abs=1e-12)


def test_auc_is_the_share_of_pairs_in_order():
    maps, masks = sample(3, n=2, side=8, levels=4)
    for values, mask, auc in zip(maps, masks, rank_auc(maps, masks), strict=True):
        pairs = values[mask][:, None] - values[~mask][None]
        assert auc.item() == pytest.approx(((pairs > 0).double() + (pairs == 0) / 2).mean().item())


def test_auc_depends_on_order_alone():
    maps, masks = sample(4)
    assert torch.equal(rank_auc(maps, masks), rank_auc(maps.double().exp() + 7, masks))
    assert torch.allclose(rank_auc(maps, masks), 1 - rank_auc(-maps, masks))


def test_maps_are_upsampled_to_the_masks():
    coarse = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert rank_auc(coarse, quarter()).item() > 0.99
    assert pointing_game(coarse, quarter()).item() == 1
    fine = torch.nn.functional.interpolate(coarse[None], (16, 16), mode="bilinear", align_corners=False)[0]
    assert energy_in_object(coarse, quarter()).item() == pytest.approx(
        (fine * quarter()).sum().item() / fine.sum().item()
    )


@pytest.mark.parametrize("score", CHANCE)
@pytest.mark.parametrize("value", [0.0, 0.1, 0.7, 1 / 3])
@pytest.mark.parametrize("side", [1, 3, 7, 16])
def test_a_map_that_says_nothing_is_at_chance(score, value, side):
    maps = torch.full((1, side, side), value)
    for size in (16, 20, 34):  # the weights of the upsampling are no binary fractions, ties must hold all the same
        assert score(maps, quarter(side=size)).item() == pytest.approx(CHANCE[score], abs=1e-12)


@pytest.mark.parametrize("score", CHANCE)
def test_a_planted_object_is_found_and_a_shuffled_map_is_not(score):
    masks = quarter(8)
    assert score(masks.float(), masks).tolist() == [1.0] * 8
    assert score(1 - masks.float(), masks).tolist() == [0.0] * 8
    shuffled = sample(0, n=200, side=16)[0]
    assert score(shuffled, quarter(200)).mean().item() == pytest.approx(CHANCE[score], abs=0.08)


@pytest.mark.parametrize("score", CHANCE)
def test_no_object_and_no_number_give_no_score(score):
    assert math.isnan(score(torch.rand(1, 4, 4), torch.zeros(1, 8, 8, dtype=torch.bool)).item())
    broken = torch.full((1, 8, 8), math.nan)
    assert math.isnan(score(broken, quarter(side=8)).item())
    broken = torch.rand(1, 8, 8).index_fill_(2, torch.tensor([7]), math.nan)
    assert math.isnan(score(broken, quarter(side=8)).item())


def test_no_background_gives_no_auc():
    assert math.isnan(rank_auc(torch.rand(1, 4, 4), torch.ones(1, 8, 8, dtype=torch.bool)).item())


@pytest.mark.parametrize(
    ("maps", "masks"), [((2, 4, 4), (3, 4, 4)), ((2, 1, 4, 4), (2, 4, 4)), ((2, 4, 4), (2, 1, 4, 4)), ((4, 4), (4, 4))]
)
@pytest.mark.parametrize("score", CHANCE)
def test_shapes_that_do_not_fit(score, maps, masks):
    with pytest.raises(UsageError, match=r"maps .N, h, w. and bool masks .N, H, W., got"):
        score(torch.rand(maps), torch.ones(masks, dtype=torch.bool))
    with pytest.raises(UsageError, match="float32"):
        score(torch.rand(2, 4, 4), torch.ones(2, 4, 4))


def test_entropy_agrees_with_scipy():
    maps, _ = sample(5)
    expected = [scipy_entropy(values.flatten().double().numpy(), base=256) for values in maps]
    assert entropy(maps).tolist() == pytest.approx(expected, rel=1e-9)
    assert entropy(torch.stack([torch.ones(3, 3), torch.zeros(3, 3), torch.eye(3) * 0 + 2])).tolist() == pytest.approx(
        [1] * 3
    )
    assert entropy(torch.ones(2, 1, 1)).tolist() == [1, 1]
    assert math.isnan(entropy(torch.full((1, 2, 2), math.nan)).item())


@pytest.mark.parametrize("upper", [1.0, 2.0])
def test_saturation_counts_both_ends_of_the_range(upper):
    gates = upper * torch.tensor([0.0, 0.04, 0.06, 0.5, 0.94, 0.96, 1.0, 0.3]).view(1, 8, 1, 1)
    assert saturation(gates, upper=upper).tolist() == [0.5]
    assert math.isnan(saturation(torch.tensor([[math.nan, 0.5]])).item())
