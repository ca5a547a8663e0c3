"The generative defences: small models whose answers can be known."
import pytest
import torch

from afd_nb import evaluate, load_data
from afd_nb.rivals.analysis_by_synthesis import (
    ABS, latent_descent, posterior, read_abs, save_abs, train_abs)


@pytest.fixture(scope='module')
def data(): return load_data('digits')


@pytest.fixture(scope='module')
def model(data):
    return train_abs(data, epochs=20, samples=100, steps=5)


def test_abs_learns_and_is_attacked(data, model):
    x, y = data.test.x[:30], data.test.y[:30]
    for a in ('pgd', latent_descent):
        e = evaluate(model, x, y, attack=a, epsilons=[0, .3], steps=3)
        assert e.accuracy[0] > .6 >= 0 and e.accuracy[.3] <= e.accuracy[0]
    assert torch.allclose(posterior(model, x).sum(1),
                          torch.ones(30).double())


def test_more_samples_never_lower_the_bound(data, model):
    x = data.test.x[:20]
    with torch.no_grad():
        low, high = (model.bound(x.flatten(1), model.infer(
            x, samples=n, steps=0)) for n in (5, 100))
    assert (high >= low - 1e-3).all()


def test_latent_descent_stays_in_ball_and_box(data, model):
    x, y = data.test.x[:10], data.test.y[:10]
    for norm, p in (('linf', torch.inf), ('l2', 2), ('l1', 1)):
        v = latent_descent(model, x, y, eps=.2, norm=norm, steps=2)
        assert (v - x).flatten(1).norm(p=p, dim=1).max() <= .2 + 1e-4
        assert v.min() >= 0 and v.max() <= 1
    assert latent_descent(model, x, y, eps=0., steps=2).equal(x)


def test_a_file_keeps_the_model(tmp_path, data, model):
    x = data.test.x[:5]
    save_abs(model, tmp_path/'a.safetensors')
    with torch.no_grad():
        assert read_abs(tmp_path/'a.safetensors')(x).equal(model(x))
    (tmp_path/'torn').write_bytes(b'x')
    with pytest.raises(ValueError, match='torn'): read_abs(tmp_path/'torn')


@pytest.mark.parametrize('make', [
    lambda: ABS((1, 8, 8), samples=0), lambda: ABS((1, 8, 8), steps=-1),
    lambda: ABS((1, 8, 8), sigma=-1.)])
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError): make()
