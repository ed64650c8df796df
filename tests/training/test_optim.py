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


def walk(make, steps=14, size=(3, 4)):
    """Weights after each step on a quadratic whose gradients change, float64; also the gradients seen."""
    torch.manual_seed(1)
    model = nn.Linear(size[1], size[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.randn(size, dtype=torch.float64))
    target = torch.randn(size, dtype=torch.float64)
    optimizer, path, gradients = make(model), [model.weight.detach().clone()], []
    for step in range(steps):
        optimizer.zero_grad()
        ((model.weight - target) ** 2 * (1 + step % 3)).sum().backward()
        gradients.append(model.weight.grad.clone())
        optimizer.step()
        path.append(model.weight.detach().clone())
    return path, gradients


def assert_same_path(path, expected):
    assert (path[-1] - path[0]).abs().max() > 1e-3
    for a, b in zip(path, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("k", "alpha"), [(5, 0.5), (3, 0.8), (1, 0.25)])
def test_lookahead_steps_as_its_algorithm_says(k, alpha):
    path, gradients = walk(lambda m: optim.sgd(m, lr=0.03, momentum=0, weight_decay=0, lookahead=optim.Ahead(k, alpha)))
    slow = fast = path[0]
    expected = [fast]
    for number, gradient in enumerate(gradients, 1):
        fast = fast - 0.03 * gradient
        if number % k == 0:
            slow = slow + alpha * (fast - slow)
            fast = slow
        expected.append(fast)
    assert_same_path(path, expected)


def test_radam_steps_as_its_algorithm_says():
    lr, decay, b1, b2 = 0.02, 0.1, 0.9, 0.999
    path, gradients = walk(lambda m: optim.radam(m, lr=lr, weight_decay=decay))
    w, m, v, longest = path[0], 0.0, 0.0, 2 / (1 - b2) - 1
    expected, rectified = [w], 0
    for t, g in enumerate(gradients, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        length = longest - 2 * t * b2**t / (1 - b2**t)
        w, mean = w * (1 - lr * decay), m / (1 - b1**t)
        if length > 5:
            numerator = (length - 4) * (length - 2) * longest
            r = math.sqrt(numerator / ((longest - 4) * (longest - 2) * length))
            w, rectified = w - lr * r * mean * math.sqrt(1 - b2**t) / (v.sqrt() + 1e-8), rectified + 1
        else:
            w = w - lr * mean
        expected.append(w)
    assert 0 < rectified < len(gradients)
    assert_same_path(path, expected)


def adamp_reference(w, gradients, lr, decay):
    """Heo et al., algorithm 2: (path, number of projected steps) of a matrix."""
    m, v, path, projected = 0.0, 0.0, [w], 0
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p, share = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8 / math.sqrt(1)), 1.0
        for rows in (w.shape[0], 1):  # a filter at a time, or the whole layer
            a, b = w.reshape(rows, -1), g.reshape(rows, -1)
            cosine = ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).abs()
            if cosine.max() < 0.1 / math.sqrt(a.shape[1]):
                unit = a / (a.norm(dim=1, keepdim=True) + 1e-8)
                q = p.reshape(rows, -1)
                p = (q - unit * (unit * q).sum(1, keepdim=True)).reshape(w.shape)
                share, projected = 0.1, projected + 1
                break
        w = w * (1 - lr * decay * share) - lr * p
        path.append(w)
    return path, projected


@pytest.mark.parametrize("invariant", [True, False])
def test_adamp_steps_as_its_algorithm_says(invariant):
    torch.manual_seed(2)
    model = nn.Linear(6, 3, bias=False, dtype=torch.float64)
    target = torch.randn(3, 6, dtype=torch.float64)
    optimizer = optim.adamp(model, lr=0.05, weight_decay=0.2)
    path, gradients = [model.weight.detach().clone()], []
    for _ in range(10):
        optimizer.zero_grad()
        weight = nn.functional.normalize(model.weight, dim=1) if invariant else model.weight  # length does not matter
        ((weight - target) ** 2).sum().backward()
        gradients.append(model.weight.grad.clone())
        optimizer.step()
        path.append(model.weight.detach().clone())
    expected, projected = adamp_reference(path[0], gradients, 0.05, 0.2)
    assert projected == 10 if invariant else projected < 10
    assert_same_path(path, expected)


def test_sgd_looks_ahead_as_nesterov_said():
    path, gradients = walk(lambda m: optim.sgd(m, lr=0.01, momentum=0.8, weight_decay=0))
    velocity, w, expected = 0.0, path[0], [path[0]]
    for g in gradients:
        velocity = 0.8 * velocity + g
        w = w - 0.01 * (g + 0.8 * velocity)
        expected.append(w)
    assert_same_path(path, expected)


FACTORIES = [optim.adam, optim.adamw, optim.adamp, optim.radam, optim.sgd]


class Halves(nn.Module):
    """A network with an encoder and a decoder."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.decoder = nn.Conv2d(2, 1, 1)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("lookahead", [False, True])
def test_the_encoder_gets_a_rate_of_its_own(factory, lookahead):
    model = Halves()
    optimizer = factory(model, lr=0.1, encoder_lr_scale=0.25, lookahead=lookahead)
    got = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {name: 0.025 if name.startswith("encoder") else 0.1 for name, _ in model.named_parameters()}
    assert {name: got[id(p)] for name, p in model.named_parameters()} == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == 0.1  # what the history shows
    optim.cosine(optimizer, 10, None, warmup=4)
    assert {round(group["lr"], 9) for group in optimizer.param_groups} == {0.02, 0.005}


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_model_without_encoder_has_one_rate(factory):
    with pytest.raises(ValueError, match=r"encoder_lr_scale=0\.5: this model has no part called encoder"):
        factory(nn.Linear(2, 2), lr=0.1, encoder_lr_scale=0.5)
    with pytest.raises(ValueError, match="must be positive"):
        factory(Halves(), lr=0.1, encoder_lr_scale=0)
    assert {group["lr"] for group in factory(nn.Linear(2, 2), lr=0.1).param_groups} == {0.1}


@pytest.mark.parametrize("settings", [{"k": 0}, {"alpha": 0.0}, {"alpha": 1.5}])
def test_lookahead_refuses_settings_without_sense(settings):
    with pytest.raises(ValueError, match="k must be 1 or more"):
        optim.Ahead(**settings)


def test_lookahead_is_set_from_the_config():
    from bonepipe import config as configs
    from bonepipe.errors import UsageError

    config = configs.compose(["experiment=debug", "optimizer=sgd", "optimizer.lookahead={k: 7, alpha: 0.3}"])
    optimizer = configs.build(config, "optimizer", Halves())
    group = optimizer.param_groups[0]
    assert (group["lookahead_k"], group["lookahead_alpha"]) == (7, 0.3)
    with pytest.raises(UsageError, match=r"optimizer\.lookahead"):
        configs.compose(["experiment=debug", "optimizer.lookahead={k: 7, beta: 1}"])


def test_polynomial_follows_its_formula():
    used = rates(optim.polynomial, 100, warmup=0.2, power=0.9, floor=0.1)
    for number in (20, 50, 99):
        assert used[number] == pytest.approx(PEAK * (0.1 + 0.9 * (1 - (number - 20) / 80) ** 0.9), rel=1e-12)


def test_step_drops_at_its_milestones():
    used = rates(optim.step, 100, warmup=0, milestones=[0.5, 0.8], gamma=0.1)
    assert used == pytest.approx([PEAK] * 50 + [PEAK / 10] * 30 + [PEAK / 100] * 20)
    with pytest.raises(ValueError, match="milestones"):
        rates(optim.step, 10, milestones=[5])


def test_plateau_drops_as_torchs_own_rule_does():
    scores = [0.1, 0.3, 0.3, 0.2, 0.3, 0.31, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.4, 0.4, 0.4, 0.4]
    ours, theirs = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK) for _ in range(2))
    schedule = optim.plateau(ours, 100, None, warmup=0, factor=0.5, patience=2, floor=0.1)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode="max", factor=0.5, patience=2, threshold=0, min_lr=0.1 * PEAK
    )
    seen = []
    for score in scores:
        ours.step()
        schedule.step()
        schedule.observe(score)
        reference.step(score)
        seen.append(ours.param_groups[0]["lr"])
        assert seen[-1] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
    assert [round(rate / PEAK, 6) for rate in dict.fromkeys(seen)] == [1, 0.5, 0.25, 0.125, 0.1]


def test_plateau_waits_behind_the_warm_up():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule, used = optim.plateau(optimizer, 100, None, warmup=4, factor=0.5, patience=0), []
    for _ in range(8):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        schedule.observe(0.5)
    # the score at the warm-up's end is the first that counts; each equal one after it halves the rate
    assert used == pytest.approx([PEAK * share for share in (0.2, 0.4, 0.6, 0.8, 1, 0.5, 0.25, 0.125)])


@pytest.mark.parametrize("settings", [{"factor": 1.0}, {"patience": -1}])
def test_plateau_refuses_settings_without_sense(settings):
    with pytest.raises(ValueError, match="factor between 0 and 1"):
        rates(optim.plateau, 10, **settings)


def test_a_negative_warm_up_is_refused():
    with pytest.raises(ValueError, match="warmup=-1"):
        rates(optim.cosine, 10, warmup=-1)
