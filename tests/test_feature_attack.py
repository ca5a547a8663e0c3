"The feature attack keeps ball and box, the batch, the seed; what it needs."
import pytest
import torch
from torch import nn

from afd_nb.method.data import load_data
from afd_nb.method.feature_attack import feature_attack
from afd_nb.robustness.attack_zoo import attack
from afd_nb.support.norms import NORMS, PerImage, flat_norm
from afd_nb.testing import digits_net


@pytest.fixture(scope='module')
def small():
    test = load_data('digits').test
    return digits_net(60), test.x[:30], test.y[:30]


@pytest.mark.parametrize('norm, eps', [('linf', .15), ('l2', 1.), ('l1', 4.)])
def test_ball_box_seed_and_batch(small, norm, eps):
    net, x, y = small
    run = lambda x, y, seed=0: feature_attack(
        net, x, y, eps=eps, norm=norm, steps=8, restarts=4,
        references=small[1:], generator=PerImage(seed))
    v = run(x, y)
    assert flat_norm(v - x, NORMS[norm].p).max() <= eps + 1e-5
    assert 0 <= v.min() and v.max() <= 1
    wrong = lambda v, y: net(v).argmax(1) != y
    assert wrong(v, y).sum() > wrong(x, y).sum()
    assert v[~wrong(v, y)].equal(x[~wrong(v, y)])
    parts = torch.cat([run(*b) for b in zip(x.split(7), y.split(7))])
    assert wrong(parts, y).equal(wrong(v, y))
    assert run(x, y).equal(v) and not run(x, y, 1).equal(v)


def test_the_zoo_has_it_by_name(small):
    net, x, y = small
    a = attack('feature', norm='l2', steps=5, restarts=3).among(x, y)
    assert a.cost == 15
    v = a(net, x, y, eps=torch.full((30,), .8))
    assert (net(v).argmax(1) != y).sum() > (net(x).argmax(1) != y).sum()


def test_more_targets_never_save_an_image(small):
    net, x, y = small
    left = [int((net(feature_attack(net, x, y, eps=.12, steps=8, restarts=k,
                                    generator=PerImage(0))).argmax(1) == y
                 ).sum()) for k in (1, 3, 9)]
    assert left == sorted(left, reverse=True) and left[-1] < left[0]


def test_odd_input(small):
    net, x, y = small
    assert feature_attack(net, x, y, eps=0., steps=2, restarts=2).sub(
        x).abs().max() == 0
    assert feature_attack(net, x[:1], y[:1], eps=.3, steps=2).equal(x[:1])
    with pytest.raises(ValueError, match='name a layer'):
        feature_attack(nn.Flatten(), x, y, eps=.1, steps=2)
    with pytest.raises(ValueError, match='eps'):
        feature_attack(net, x, y, eps=-1., steps=2)
