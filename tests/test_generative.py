"The generative defences: small models whose answers can be known."
import warnings

import pytest
import torch
from torch import nn

from afd_nb import attack, evaluate, load_data
from afd_nb.rivals.analysis_by_synthesis import (
    ABS, latent_descent, posterior, read_abs, save_abs, train_abs)
from afd_nb.rivals.defense_gan import (
    BPDA, GRADIENTS, Generator, Projection, defense_gan, read_generator,
    save_generator, tangent, train_wgan)
from afd_nb.rivals.generative_on_mnist import (
    ALL, COLUMNS, hop_skip_jump, measure, read_generative, trained,
    with_lowest)
from afd_nb.support.random_numbers import generator
from afd_nb.support.statistics import wilson
from afd_nb.testing import LinearModel, check_text


@pytest.fixture(scope='module')
def data(): return load_data('digits')


@pytest.fixture(scope='module')
def model(data):
    return train_abs(data, epochs=20, samples=100, steps=5)


@pytest.fixture(scope='module')
def G(data): return train_wgan(data, steps=20, hidden=32)


class Rounding(nn.Module):
    "A front end without a gradient."
    def forward(self, x): return x.round()


def test_abs_learns_and_is_attacked(data, model):
    x, y = data.test.x[:30], data.test.y[:30]
    for a in ('pgd', latent_descent):
        e = evaluate(model, x, y, attack=a, epsilons=[0, .3], steps=3)
        assert e.accuracy[0] > .6 >= 0 and e.accuracy[.3] <= e.accuracy[0]
    assert torch.allclose(posterior(model, x).sum(1),
                          torch.ones(30).double())


def test_more_samples_never_lower_the_score(data, model):
    x = data.test.x[:20]
    with torch.no_grad():
        low, high = (model.score(x.flatten(1), model.infer(
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
    kept = (tmp_path/'a.safetensors').read_bytes()
    (tmp_path/'odd').write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(ValueError, match='not as it was written'):
        read_abs(tmp_path/'odd')


def test_a_file_keeps_the_generator(tmp_path, data, model, G):
    save_abs(model, tmp_path/'a.safetensors')
    save_generator(G, tmp_path/'g.safetensors')
    z = torch.randn((3, G.latents), generator=generator(0))
    with torch.no_grad():
        assert read_generator(tmp_path/'g.safetensors')(z).equal(G(z))
    with pytest.raises(ValueError, match='no generator'):
        read_generator(tmp_path/'a.safetensors')
    with pytest.raises(ValueError, match='no ABS model'):
        read_abs(tmp_path/'g.safetensors')
    (tmp_path/'torn').write_bytes(b'x')
    with pytest.raises(ValueError, match='torn'):
        read_generator(tmp_path/'torn')


def test_bpda_brings_back_a_gradient(data):
    x, y = data.test.x[:10], data.test.y[:10]
    last = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    bare = nn.Sequential(Rounding(), last)
    bpda = nn.Sequential(BPDA(Rounding()), last)
    assert bare(x).equal(bpda(x))
    v = x.clone().requires_grad_()
    g, = torch.autograd.grad(bare(v).sum(), v)
    assert not g.any()
    g, = torch.autograd.grad(bpda(v).sum(), v)
    assert g.any()


def test_projection_is_deterministic_and_alone(data, G):
    x, y = data.test.x[:8], data.test.y[:8]
    front = Projection(G, steps=5, restarts=2)
    with torch.no_grad():
        whole = front(x)
        assert whole.equal(front(x))
        parts = torch.cat([front(v) for v in x.split(3)])
        assert torch.allclose(parts, whole, atol=1e-4)
        drawn = Projection(G, steps=0, restarts=1, seed=None)
        assert not drawn(x).equal(drawn(x))


def test_no_gradient_is_an_error_and_three_others_are_none(data, G):
    x, y = data.test.x[:8], data.test.y[:8]
    last = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    hidden = defense_gan(G, last, steps=3, backward='none')
    with pytest.raises(ValueError, match='gradient'):
        attack('pgd', steps=2)(hidden, x, y, eps=.1)
    for backward in GRADIENTS[1:]:
        m = defense_gan(G, last, steps=3, backward=backward)
        assert evaluate(m, x, y, attack='pgd', epsilons=[0, .1],
                        steps=2).accuracy[.1] <= 1


def test_all_gradients_have_the_same_answers(data, G):
    x = data.test.x[:8]
    with torch.no_grad():
        made = [Projection(G, steps=3, backward=k)(x) for k in GRADIENTS]
    for v in made: assert torch.allclose(v, made[0], atol=1e-4)


def test_unrolled_gradient_is_that_of_finite_differences(data):
    x = data.test.x[:2].double()
    G = Generator((1, 8, 8), 3, 8).double()
    class Double(Projection):
        def starts(self, x): return super().starts(x).double()
    front = Double(G, steps=4, restarts=1, backward='unroll')
    v, w = x.clone().requires_grad_(), torch.rand_like(x)
    g, = torch.autograd.grad((front(v)*w).sum(), v)
    step = 1e-5*torch.randn(x.shape, generator=generator(0)).double()
    with torch.no_grad():
        got = ((front(x + step) - front(x - step))*w).sum()/2
    assert torch.allclose(got, (g*step).sum(), rtol=1e-3)


def test_the_tangent_is_a_projection():
    G = Generator((1, 8, 8), 16, 32).double()
    z = torch.randn((4, 16), generator=generator(0)).double()
    v = torch.rand((4, 1, 8, 8), generator=generator(1)).double()
    once = tangent(G, z, v, 0.)
    assert torch.allclose(tangent(G, z, once, 0.), once, atol=1e-5)
    assert (once.flatten(1).norm(dim=1) <= v.flatten(1).norm(dim=1)).all()
    rest = (v - once)*once # what is left out stands at right angles
    assert rest.flatten(1).sum(1).abs().max() < 1e-5
    damped = tangent(G, z, v, 1.)
    assert (damped.flatten(1).norm(dim=1)
            < once.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize('make', [
    lambda: ABS((1, 8, 8), samples=0), lambda: ABS((1, 8, 8), steps=-1),
    lambda: ABS((1, 8, 8), sigma=-1.), lambda: Generator((1, 8, 8), 0),
    lambda: Projection(Generator((1, 8, 8)), lr=0.),
    lambda: Projection(Generator((1, 8, 8)), backward='other')])
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError): make()


HERE = '4_rivals/12_generative_on_mnist'
SYSTEMS = [('ABS', 'l2', 1.5), ('ABS', 'linf', .3),
           ('Defense-GAN', 'linf', .3)]


def test_the_record_of_mnist_is_whole():
    t = read_generative() # numbers agree with answers
    assert [*t.columns] == [*COLUMNS]
    assert not t.duplicated(['system', 'attack', 'norm', 'eps']).any()
    low, high = wilson(t.right, t.n)
    assert (abs(t.low - low) < 1e-5).all() and (abs(t.high - high) < 1e-5
                                                ).all()
    assert (t.n == 50).all() and (t.order == 'shuffled-0').all()
    assert t.versions.str.contains('torch=').all()
    clean = t[t.eps == 0].set_index('system')
    assert {*clean.index} == {'ABS', 'Defense-GAN'}
    for system, norm, eps in SYSTEMS:
        part = t[(t.system == system) & (t.norm == norm) & (t.eps == eps)]
        assert (part.right <= clean.right[system]).all()
        kinds = {a.split(',')[0] for a in part.attack}
        assert {'transfer', 'Square', 'HopSkipJump', 'AutoAttack'} <= kinds
    assert {'latent descent', 'PGD'} <= {*t.attack[t.system == 'ABS']}
    assert {'BPDA', 'BPDA, EOT', 'tangent', 'unrolled'} <= {
        *t.attack[t.system == 'Defense-GAN']}


def test_the_page_says_what_the_record_says():
    t = with_lowest(read_generative())
    def left(system, norm, eps):
        part = t[(t.system == system) & (t.norm == norm) & (t.eps == eps)]
        r, = part[part.attack == ALL].itertuples()
        assert r.right <= part.right.min()
        return part.set_index('attack').right.to_dict() | dict(
            all=f'{r.right} of {r.n} ({100*r.low:.0f} to {100*r.high:.0f} %)')
    two, top, gan = (left(*s) for s in SYSTEMS)
    leaves = lambda d, *names: ', '.join(
        f'{k.capitalize() if k == "transfer" else k} leaves {d[k]}'
        for k in names)
    check_text(HERE,
        f"transfer leaves {two['transfer']}, "
        f"{leaves(two, 'HopSkipJump', 'latent descent')} and "
        f"{leaves(two, 'PGD')}; all attacks together leave {two['all']}",
        f"{leaves(top, 'transfer', 'HopSkipJump', 'Square')}, "
        f"{leaves(top, 'latent descent')} and {leaves(top, 'PGD')}; "
        f"together {top['all']}",
        f"{leaves(gan, 'transfer')}, the unrolled gradient leaves "
        f"{gan['unrolled']}, {leaves(gan, 'BPDA')}, the tangent leaves "
        f"{gan['tangent']}, and {leaves(gan, 'Square')} with 100 queries",
        f"together {gan['all']}",
        f"of the judge, leaves {gan['BPDA, EOT']}",
        f"says {2*gan['AutoAttack, identity']} % of Defense-GAN by the "
        f"identity and {2*gan['AutoAttack, tangent']} % by the tangent, "
        f"{2*two['AutoAttack']} % of ABS at L2 1.5 and "
        f"{2*top['AutoAttack']} % at Linf 0.3")
    # what the text concludes from them
    assert gan['Square'] < gan['unrolled'] and gan['tangent'] < gan['BPDA']
    assert gan['BPDA, EOT'] > gan['BPDA'] and two['PGD'] < two[
        'latent descent'] and two[ALL] > 10


def test_lowest_takes_the_best_attack_image_by_image(tmp_path):
    x, y = torch.eye(4)[:, None, None], torch.tensor([0, 1, 2, 3])
    model = nn.Flatten()
    def moves(*rows):
        def hit(model, x, y, *, eps, norm='linf'):
            v = x.clone()
            for k in rows: v[k] = x[k].roll(1, -1)
            return v
        return hit
    plan = {k: (attack(moves(*r)), model) for k, r in
            {'first': (0,), 'second': (0, 2)}.items()}
    file = tmp_path/'t.csv'
    t = measure(file, 'eye', model, x, y, plan, eps=1.)
    assert t.right.tolist() == [3, 2] and t.answers.tolist() == ['7', '5']
    before = file.read_bytes()
    measure(file, 'eye', model, x, y, plan, eps=1.)
    assert file.read_bytes() == before # nothing is measured twice
    other = {'first': (attack('pgd', steps=3), model)}
    with pytest.raises(ValueError, match='has first with'):
        measure(file, 'eye', model, x, y, other, eps=1.)
    wide = nn.Linear(4, 4, bias=False)
    with torch.no_grad(): wide.weight.copy_(torch.eye(4))
    with pytest.raises(ValueError, match='other weights'):
        measure(file, 'eye', nn.Sequential(nn.Flatten(), wide), x, y, plan,
                eps=1.)
    assert file.read_bytes() == before
    low = with_lowest(read_generative(file)).iloc[-1]
    assert (low.attack, low.right, low.answers) == (ALL, 2, '5')
    file.write_text(file.read_text().replace(',3,4,', ',2,4,'))
    with pytest.raises(ValueError, match='2 of 4'): read_generative(file)


def test_what_an_attack_warns_of_stands_in_its_row(tmp_path):
    def loud(model, x, y, *, eps, norm='linf'):
        for said in 'a  flat\nloss', 'once', 'once': warnings.warn(said)
        warnings.warn('old', DeprecationWarning) # the code's, not the number's
        return x
    x, y = torch.eye(2)[:, None, None], torch.tensor([0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter('error') # none comes out
        t = measure(tmp_path/'t.csv', 'eye', nn.Flatten(), x, y,
                    {'loud': (attack(loud), nn.Flatten())}, eps=1.)
    assert t.notes.tolist() == ['a flat loss; once']
    assert t.model.nunique() == 1 and len(t.model[0]) == 12


def test_hop_skip_jump_finds_the_boundary_and_stays_in_the_ball():
    plane = LinearModel(torch.ones(16), 8.) # the sum of 16 pixels
    x = torch.stack([torch.full((1, 4, 4), v) for v in (.4, .45, .6)])
    y = torch.tensor([0, 0, 1])
    for norm, by in (('linf', 1), ('l2', 4)): # distances .1, .05, .1
        a = attack(hop_skip_jump, norm=norm, steps=3)
        for eps, fooled in ((.04, 0), (.06, 1), (.12, 3)):
            v = a(plane, x, y, eps=by*eps)
            far = (v - x).flatten(1).norm(p=torch.inf if by == 1 else 2,
                                          dim=1)
            assert far.max() <= by*eps + 1e-5
            assert (plane(v).argmax(1) != y).sum() == fooled
    with pytest.raises(ValueError, match='start from'):
        hop_skip_jump(plane, x[:2], y[:2], eps=.1)
    with pytest.raises(ValueError, match='norm'):
        hop_skip_jump(plane, x, y, eps=.1, norm='l1')


def test_a_trained_model_is_trained_once(tmp_path, data):
    small = dict(steps=2, hidden=8, latents=2)
    G = trained('generator', data, tmp_path/'new', **small)
    again = trained('generator', data, tmp_path/'new')
    for p, q in zip(G.parameters(), again.parameters()): assert p.equal(q)
    m = trained('abs', data, tmp_path, epochs=1, hidden=4, samples=5,
                steps=1)
    assert m(data.test.x[:2]).shape == (2, 10)
    with pytest.raises(FileExistsError, match='settings of its own'):
        trained('generator', data, tmp_path/'new', steps=3)
    with pytest.raises(ValueError, match='name'):
        trained('vae', data, tmp_path)
