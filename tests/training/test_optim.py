import math

import pytest
import torch
from torch import nn

from bonepipe.training import optim

PEAK = 0.1


def rates(schedule, steps, **settings):
    """The rate that each optimiser step uses."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    hold = settings.pop("hold", None)
    scheduler = schedule(optimizer, steps, hold, **settings)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


def test_cosine_follows_its_formula():
    used = rates(optim.cosine, 100, warmup=0.2, floor=0.1)
    for step in (20, 35, 60, 99):
        progress = (step - 20) / 80
        assert used[step] == pytest.approx(PEAK * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))), rel=1e-12)
    assert used[60] == pytest.approx(PEAK * 0.55)


def test_cosine_ends_near_its_floor():
    assert rates(optim.cosine, 200, warmup=0, floor=0.0)[-1] < 1e-3 * PEAK
    assert rates(optim.cosine, 200, warmup=0, floor=0.25)[-1] == pytest.approx(0.25 * PEAK, rel=1e-3)


@pytest.mark.parametrize("schedule", [optim.cosine, optim.constant])
@pytest.mark.parametrize("warmup", [0.2, 20])
def test_warm_up_is_a_straight_line_from_near_zero_to_the_peak(schedule, warmup):
    used = rates(schedule, 100, warmup=warmup)
    assert used[0] == pytest.approx(PEAK / 21)
    assert used[20] == pytest.approx(PEAK)
    differences = [used[step + 1] - used[step] for step in range(20)]
    assert differences == pytest.approx([PEAK / 21] * 20)
    assert max(used) == pytest.approx(PEAK)


def test_without_warm_up_the_first_step_has_the_peak_rate():
    assert rates(optim.cosine, 10, warmup=0)[0] == PEAK
    assert rates(optim.constant, 10) == [PEAK] * 10


def test_hold_freezes_the_rate():
    free, held = rates(optim.cosine, 50, warmup=0.1), rates(optim.cosine, 50, warmup=0.1, hold=30)
    assert held[:31] == free[:31]
    assert held[30:] == [free[30]] * 20
    assert free[31] < free[30]


def test_a_warm_up_longer_than_the_training_never_overshoots():
    used = rates(optim.cosine, 10, warmup=50)
    assert used == pytest.approx([PEAK * (step + 1) / 51 for step in range(10)])


def network():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    model[2].bias.requires_grad_(False)
    return model


def test_adamw_decays_matrices_only():
    model = network()
    optimizer = optim.adamw(model, lr=0.01, weight_decay=0.3)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {name: 0.3 if name in ("0.weight", "2.weight") else 0.0 for name, _ in model.named_parameters()}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == expected  # the frozen 2.bias as well


def test_adamw_shrinks_matrices_by_rate_times_decay():
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = optim.adamw(model, lr=0.01, weight_decay=0.3)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        factor = 1 - 0.01 * 0.3 if name in ("0.weight", "2.weight") else 1
        torch.testing.assert_close(p.detach(), before[name] * factor)


def test_adam_decays_everything_through_its_gradient():
    model = network()
    optimizer = optim.adam(model, lr=0.02, weight_decay=0.5)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.02, 0.5, 6)
    assert type(optimizer) is torch.optim.Adam


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (0.1, 7), (0.5, 36), (1, 1), (12.0, 12)])
def test_warm_up_is_a_share_or_a_number_of_steps(warmup, steps):
    assert optim.warmup_steps(warmup, 72) == steps
