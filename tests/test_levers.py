"The levers: nothing when off; when on, what their formulas say."
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from afd_nb.method import levers
from afd_nb.method.data import load_data
from afd_nb.method.discriminator import Discriminator
from afd_nb.method.losses import GAMES
from afd_nb.method.networks import create_model
from afd_nb.method.pgd import pgd
from afd_nb.method.recipe import Recipe
from afd_nb.method.settings import get_method
from afd_nb.method.run_folder import load_run
from afd_nb.method.training import fit
from afd_nb.support.training_steps import optimizer_step
from afd_nb.support.freezing import frozen
from afd_nb.support.random_numbers import generator, seeded

SHORT = dict(epochs=2, n_train=192, n_valid=64, batch_size=32, steps=3,
             valid_steps=2, depth=1)
SHARED = dict(sam_rho=.05, steps_first=1)
ON = dict(da_target=.9, r1_weight=.5, through=1., unlabelled=100,
          spectral_norm=False, **SHARED)
KINDS = {'afd': ON, 'at': SHARED, 'trades': SHARED}


def recipe(method, **more):
    own = SHORT if 'afd' in method else {
        k: v for k, v in SHORT.items() if k != 'depth'}
    return Recipe(method=method, **{**own, **more})


def made(method='afd-tricks', **more):
    "A method on the small network, and a batch of digits."
    model = create_model('small', (1, 8, 8), 10).train()
    with seeded(1):
        m = get_method(method)(model, recipe(method, **more), generator(0))
    d = load_data('digits')
    return m, d.train.x[:32], d.train.y[:32]


def same(a, b):
    a, b = (r.model.state_dict() for r in (a, b))
    return all(v.equal(b[k]) for k, v in a.items())


class Stop(Exception):
    pass


def stop_after(n):
    left = [n]

    def tick(*_):
        left[0] -= 1
        if left[0] < 0: raise Stop
    return tick


# ---- off

PLAIN = [('afd', {}), ('afd', dict(game='hinge', gp_weight=1., da_steps=2)),
         ('afd', dict(joint_batch=False, ema_decay=.9, augment=True)),
         ('at', {}), ('at', dict(attack='fgsm')), ('trades', {}),
         ('trades', dict(joint_batch=True))]


@pytest.mark.parametrize('method, more', PLAIN)
def test_with_all_off_the_bits_are_those_of_the_plain_method(method, more):
    plain = fit(recipe(method, **more))
    off = fit(recipe(f'{method}-tricks', **more))
    assert same(plain, off) and plain.history.equals(off.history)


@pytest.mark.parametrize('method, name', [
    (m, k) for m, on in KINDS.items() for k in on if k != 'spectral_norm'])
def test_each_lever_changes_the_training(method, name):
    def after(**more):
        m, x, y = made(f'{method}-tricks', **more)
        for m.progress in (0., .3): m.step(x, y)
        Da = getattr(m, 'Da', nn.Module())
        return torch.cat([v.flatten().float() for p in (m.model, Da)
                          for v in p.state_dict().values()])
    assert not after(**{name: KINDS[method][name]}).equal(after())


# ---- resume, processes, the shell

@pytest.mark.parametrize('method', KINDS)
def test_all_on_a_stopped_run_ends_with_the_same_bits(tmp_path, method):
    r = recipe(f'{method}-tricks', **KINDS[method])
    whole = fit(r, out=tmp_path/'whole')
    with pytest.raises(Stop):
        fit(r, out=tmp_path/'two', progress=stop_after(9)) # of 12 batches
    assert len(load_run(tmp_path/'two').history) == 1
    two = fit(r, out=tmp_path/'two', resume=True)
    assert same(whole, two) and whole.history.equals(two.history)
    assert load_run(tmp_path/'two').recipe == r
    assert same(whole, fit(r))


SCRIPT = '''
import sys
from afd_nb.method.recipe import from_json
from afd_nb.method.training import fit
for text, out in zip(sys.argv[1::2], sys.argv[2::2]):
    fit(from_json(text), out=out)
'''


@pytest.mark.long
def test_two_processes_have_the_step_of_one(tmp_path):
    "To rounding; after it, signs of the attack's gradients may differ."
    from afd_nb.method.recipe import to_json
    (tmp_path/'script.py').write_text(SCRIPT)
    own = dict(epochs=1, steps=2)
    kinds = {f'{m} {n} {k}': recipe(f'{m}-tricks', n_train=n, **own, **kw)
             for m, on in KINDS.items() for n in (32, 64)
             for k, kw in dict(all=on, **{
                 k: {k: v} for k, v in on.items()}).items()}
    words = [w for m, r in kinds.items()
             for w in (to_json(r), str(tmp_path/m))]
    done = subprocess.run(
        [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu',
         '--num_processes', '2', str(tmp_path/'script.py'), *words],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for m, r in kinds.items():
        here, there = fit(r).history, load_run(tmp_path/m)
        assert there.record['processes'] == 2
        for c in [c for c in here if c.startswith(('loss', 'grad'))]:
            a, b = here[c][0], there.history[c][0]
            most = (1e-5 if r.n_train == 32 else # batches of 32
                    .01 if 'trades' in m else 1e-3) # plain TRADES' too
            assert abs(a - b) < most*(1 + abs(a)), (m, c)


def test_the_command_knows_names_and_settings(children, tmp_path):
    for method, on in KINDS.items():
        said = children.finish(tmp_path/'log', 'shell', 'afd_train',
                               ['--method', f'{method}-tricks', '--help'])
        assert all(f'--{k} ' in said for k in on if k != 'spectral_norm')


# ---- what is refused

@pytest.mark.parametrize('bad, says', [
    (dict(da_target=1.1), 'da_target=1.1'),
    (dict(da_target=.4), 'da_target=0.4'),
    (dict(da_target=.9, game='wgan'), "da_target=0.9 is for the softplus"),
    (dict(r1_weight=-1.), 'r1_weight=-1'),
    (dict(r1_weight=1., gp_weight=1.), 'r1_weight and gp_weight'),
    (dict(through=-1.), 'through=-1'),
    (dict(through=float('nan')), 'through=nan'),
    (dict(sam_rho=-.1), 'sam_rho=-0.1'),
    (dict(steps_first=0), 'steps_first=0'),
    (dict(unlabelled=-1), 'unlabelled=-1')])
def test_bad_settings_are_refused_by_name(bad, says):
    with pytest.raises(ValueError, match=says):
        Recipe(method='afd-tricks', **bad)


@pytest.mark.parametrize('method, bad, says', [
    ('afd', dict(steps_first=4), 'steps_first=4 must be'),
    ('at', dict(steps_first=4), 'steps_first=4 must be'),
    ('trades', dict(steps_first=4), 'steps_first=4 must be'),
    ('at', dict(steps_first=1, attack='fgsm'), 'needs an attack with steps'),
    ('trades', dict(attack='fgsm'), "attack='fgsm' is no use"),
    ('afd', dict(through=1., attack='apgd-ce'), 'through=1.0 needs'),
    ('afd', dict(unlabelled=5, n_train=None), 'unlabelled=5 needs n_train'),
    ('afd', dict(unlabelled=9999), 'unlabelled=9999 beside n_train=192')])
def test_what_does_not_fit_the_recipe_is_refused_before_a_trace(
        tmp_path, method, bad, says):
    with pytest.raises(ValueError, match=says):
        fit(recipe(f'{method}-tricks', **bad), out=tmp_path/'run')
    assert not (tmp_path/'run').exists()


def test_what_is_no_lever_of_a_method_is_refused():
    for k in ('through', 'r1_weight', 'da_target', 'unlabelled'):
        for m in ('at-tricks', 'trades-tricks', 'afd'):
            with pytest.raises(ValueError, match=f'{k} is no field'):
                Recipe(method=m, **{k: 1})


# ---- one by one

def linear(w, e=None):
    "Da(h, y) = w·h, or with a vector a class (w + e_y)·h."
    Da = Discriminator(len(w), 2, depth=0, projection=e is not None,
                       spectral_norm=False)
    Da.w.weight.data, Da.w.bias.data = torch.tensor([w]), torch.zeros(1)
    if e is not None: Da.e.weight.data = torch.tensor(e)
    return Da


def test_r1_of_a_linear_da_is_its_closed_form():
    h = torch.randn(6, 2, generator=generator(0)).requires_grad_()
    y = torch.arange(6) % 2
    r1 = lambda Da: levers.r1_penalty(Da(h, y), h)
    assert r1(linear([3., 4.])).item() == pytest.approx(12.5)
    Da = linear([3., 4.], [[0., 0.], [-3., 8.]]) # slopes 5 and 12
    assert r1(Da).item() == pytest.approx((25 + 144)/4)
    Da = linear([3., 4.])
    r1(Da).backward() # d/dw ||w||^2/2 = w
    assert Da.w.weight.grad.flatten().tolist() == pytest.approx([3., 4.])
    assert h.grad is None or not h.grad.any()


def test_r1_enters_step_2_with_its_weight_and_moves_da_alone():
    m, x, y = made(r1_weight=2., spectral_norm=False)
    h, h_adv = m.both_features(x, m.perturb(x, y))
    h, h_adv = h.detach(), h_adv.detach()
    before = [p.clone() for p in m.model.parameters()]
    clean = m.Da(leaf := h.clone().requires_grad_(), y)
    want = (m.game.discriminator(clean, m.Da(h_adv, y))
            + 2*levers.r1_penalty(clean, leaf)).item()
    said = m.step_discriminator(h, h_adv, y)
    assert said['loss_discriminator'].item() == pytest.approx(want, rel=1e-5)
    assert all(a.equal(b) for a, b in zip(before, m.model.parameters()))
    assert not h.requires_grad
    assert all(p.grad is None for p in [*m.Da.parameters(),
                                        *m.model.parameters()])


@pytest.mark.parametrize('game', GAMES)
def test_through_goes_against_e_also_by_hand(game):
    m, *_ = made(through=1., game=game)

    class Pixels(nn.Module):
        def forward(self, x): return x.flatten(1)
    m.model.E, m.model.Dc = Pixels(), nn.Linear(2, 2)
    for p in m.model.Dc.parameters(): p.data.zero_()
    m.Da = linear([1., -1.])
    x = torch.full((3, 1, 1, 2), .5)
    x_adv = m.perturb(x, torch.tensor([0, 1, 0])).flatten(1)
    assert torch.allclose(x_adv, torch.tensor([.3, .7]).expand(3, 2))


def test_through_is_pgd_on_the_sum_of_both_losses():
    m, x, y = made(through=3., spectral_norm=False)
    for _ in range(5): m.step(x, y)
    m.generator = generator(3)
    got = m.perturb(x, y)
    both = lambda z, y: (nn.functional.cross_entropy(
        m.model.Dc(z), y, reduction='none')
        + 3*nn.functional.softplus(-m.Da(z, y)))
    with frozen(m.Da, m.model.Dc):
        want = pgd(m.model.E, x, y, eps=.2, steps=3, loss=both,
                   generator=generator(3))
    assert (got - want).abs().max() < 1e-5
    assert all(p.requires_grad and p.grad is None
               for p in [*m.Da.parameters(), *m.model.parameters()])
    assert m.Da.training and m.model.training


def test_through_raises_s_more_the_more_it_weighs():
    m, x, y = made(spectral_norm=False)
    for _ in range(10): m.step(x, y)
    seen = []
    for weight in (0., 1., 10.):
        m.settings = replace(m.settings, through=weight)
        x_adv = m.perturb(x, y)
        with frozen(m.model, m.Da), torch.no_grad():
            seen.append(m.game.embedding(m.Da(m.model.E(x_adv), y)).item())
    assert seen[0] < seen[1] <= seen[2] + 1e-3


def test_sam_leaves_weights_and_sees_a_batch_once():
    m, x, y = made(sam_rho=.5, lr=0., weight_decay=0.)
    before = {k: v.clone() for k, v in m.model.state_dict().items()}
    m.step_classifier(x, y)
    after = m.model.state_dict()
    for k, p in m.model.named_parameters(): assert p.equal(before[k]), k
    once, *_ = made(lr=0., weight_decay=0.)
    once.step_classifier(x, y)
    for k, v in once.model.named_buffers(): assert v.equal(after[k]), k
    assert after['E.net.0.1.num_batches_tracked'] == 1


def test_an_error_in_the_second_pass_leaves_all_as_it_was():
    m, x, y = made(sam_rho=.5)
    before = {k: v.clone() for k, v in m.model.named_parameters()}
    calls = []

    def loss(f):
        if calls: raise Stop
        calls.append(1)
        return nn.functional.cross_entropy(f(x), y)
    with pytest.raises(Stop): m.descend(loss, m.opt_EDc)
    assert all(p.equal(before[k]) and p.grad is None
               for k, p in m.model.named_parameters())


def test_sam_is_ascent_then_the_gradient_there():
    "Against the plain way: move the weights, backward, move them back."
    m, x, y = made(sam_rho=.3, weight_decay=0., momentum=0., lr=1.)
    net = create_model('small', (1, 8, 8), 10).train()
    net.load_state_dict(m.model.state_dict())
    ps = [*net.parameters()]
    loss = lambda: nn.functional.cross_entropy(net(x), y)
    g = torch.autograd.grad(loss(), ps)
    far = .3/torch.cat([v.flatten() for v in g]).norm()
    with torch.no_grad():
        for p, v in zip(ps, g): p.add_(far*v)
    g2 = torch.autograd.grad(loss(), ps)
    with torch.no_grad():
        for p, v, u in zip(ps, g, g2): p.sub_(far*v).sub_(u)
    m.step_classifier(x, y)
    for p, q in zip(ps, m.model.parameters()):
        assert torch.allclose(p, q, atol=1e-5)


def test_sam_on_a_quadratic_by_hand():
    class Bowl(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([3., 4.]))
        def forward(self, x): return self.w.square().sum()/2 + 0*x.sum()
    net, x = Bowl(), torch.zeros(1)
    low = levers.uphill(net, net(x), .5)(x) # w (1 + .5/5)
    assert low.item() == pytest.approx(12.5*1.1**2)
    opt = torch.optim.SGD(net.parameters(), 1.)
    optimizer_step(low, opt)
    assert net.w.tolist() == pytest.approx([-.3, -.4])


def test_sam_takes_tied_and_unused_weights():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = self.b = nn.Linear(2, 2)
            self.never = nn.Linear(2, 2)
        def forward(self, x): return self.b(self.a(x))
    net, x = Odd(), torch.ones(1, 2)
    low = net(x).square().sum()
    high = levers.uphill(net, low, .01)(x).square().sum()
    assert high > low


def test_the_target_bounds_the_best_logit():
    game, z = levers.smoothed_game(.9), torch.linspace(-6, 6, 12001)
    one = torch.zeros(1)
    pays = torch.stack([game.discriminator(v[None], one) for v in z[::10]])
    assert z[::10][pays.argmin()].item() == pytest.approx(math.log(9),
                                                          abs=.02)
    low = torch.stack([game.discriminator(one, v[None]) for v in z[::10]])
    assert low.argmin() == 0 # perturbed features keep the target 0
    assert game.embedding(z).equal(GAMES['softplus'].embedding(z))


def test_steps_rise_in_the_attack_of_each_method(monkeypatch):
    for method in KINDS:
        m, x, y = made(f'{method}-tricks', steps_first=1, steps=5)
        seen, forward = [], m.perturb

        def perturb(x, y, **kw):
            seen.append(kw.get('steps', m.recipe.steps)
                        + (method == 'trades')) # one is its own
            return forward(x, y, **kw)
        m.perturb, full = perturb, m.recipe
        for m.progress in (0., .25, .5, .75, .99): m.step(x, y)
        assert seen == [1, 2, 3, 4, 5], method
        assert m.recipe is full
        m.progress = 0.
        with pytest.raises((ValueError, TypeError)): m.step(x.long(), y)
        assert m.recipe is full


def test_images_without_labels_stay_out_of_step_1():
    m, x, y = made(unlabelled=100)
    d = load_data('digits', n_train=192, n_valid=64)
    of = lambda t: {v.numpy().tobytes() for v in t}
    extra = of(m.extra)
    assert len(m.extra) == 100
    assert not extra & (of(d.train.x) | of(d.valid.x) | of(d.test.x))
    seen = {}
    for k in ('step_classifier', 'both_features', 'step_discriminator',
              'step_embedding', 'perturb'):
        def spy(*args, k=k, f=getattr(m, k), **kw):
            seen[k] = args
            return f(*args, **kw)
        setattr(m, k, spy)
    state = {k: v.clone() for k, v in m.model.state_dict().items()}
    m.step(x, y)
    assert seen['step_classifier'][0] is x and seen['step_classifier'][1] is y
    x_game = seen['both_features'][0]
    assert x_game[::2].equal(x[::2]) and of(x_game[1::2]) <= extra
    then = create_model('small', (1, 8, 8), 10)
    then.load_state_dict(state)
    with torch.no_grad(): says = then.eval()(x_game[1::2]).argmax(1)
    for k, i in (('step_discriminator', 2), ('step_embedding', 1),
                 ('perturb', 1)):
        label = seen[k][i]
        assert label[::2].equal(y[::2]) and label[1::2].equal(says), k
    assert seen['perturb'][0] is x_game


# ---- where the images without labels come from

def images_of(split):
    from afd_nb.support.splits import take
    return {v.numpy().tobytes() for v in take(split)[0]}


def write_images(root, n=12, shade=0):
    "A folder of two classes, each image its own."
    from PIL import Image
    for part in ('train', 'test'):
        for k in range(n):
            d = root/part/'ab'[k % 2]
            d.mkdir(parents=True, exist_ok=True)
            Image.new('L', (8, 8), 10*k + shade).save(d/f'{k:02}.png')


@pytest.mark.parametrize('stream', [False, True])
def test_unlabelled_images_come_from_the_root_that_was_given(
        tmp_path, monkeypatch, stream):
    from afd_nb.method.data import load_data
    for name, shade in (('ours', 0), ('other', 5)):
        write_images(tmp_path/name, shade=shade)
    monkeypatch.setenv('AFD_DATA', str(tmp_path/'other'))
    r = Recipe(method='afd-tricks', dataset='folder', network='small',
               n_train=4, n_valid=2, unlabelled=5, batch_size=4, epochs=1,
               steps=1, valid_steps=1)
    data = load_data('folder', root=tmp_path/'ours', n_train=4, n_valid=2,
                     stream=stream)
    assert data.rest.made is None and len(data.rest) == 6
    from afd_nb.method.training import start_loop
    m = start_loop(r, data, torch.device('cpu')).method
    every = load_data('folder', root=tmp_path/'ours', n_valid=2)
    got = {v.numpy().tobytes() for v in m.extra}
    assert len(got) == 5 and got < images_of(every.train)
    assert not got & (images_of(data.train) | images_of(data.valid))
    assert not got & images_of(load_data('folder').train)
    assert fit(r, data, device='cpu').finished


def test_the_command_takes_unlabelled_images_from_its_root(
        tmp_path, monkeypatch):
    from afd_nb.tools.commands import afd_train
    write_images(tmp_path/'ours')
    monkeypatch.setenv('AFD_DATA', str(tmp_path/'nowhere'))
    afd_train(['--dataset', 'folder', '--root', str(tmp_path/'ours'),
               '--out', str(tmp_path/'run'), '--device', 'cpu',
               *'--method afd-tricks --unlabelled 4 --network small '
               '--n_train 4 --n_valid 2 --batch_size 4 --steps 1 --epochs 1 '
               '--valid_steps 1 --eps .1'.split()])
    assert load_run(tmp_path/'run').finished


def test_images_of_another_source_may_stand_in(monkeypatch):
    from afd_nb.support.splits import TensorSplit
    d = load_data('digits', n_train=192, n_valid=64)
    x = torch.rand(10, 1, 8, 8, generator=generator(5))
    d.rest = TensorSplit(x, torch.zeros(10).long() - 1) # nobody looks
    r = recipe('afd-tricks', unlabelled=10, epochs=1)
    from afd_nb.method.training import start_loop
    assert start_loop(r, d, torch.device('cpu')).method.extra.equal(x)
    assert fit(r, d, device='cpu').finished
    for bad, says in ((x[:, :, :4], 'rest are'), (x + 1, r'\[0, 1\]')):
        d.rest = TensorSplit(bad, torch.zeros(10).long())
        with pytest.raises(ValueError, match=says): fit(r, d, device='cpu')
    d.rest = None
    with pytest.raises(ValueError, match='unlabelled=10 needs n_train, or'):
        fit(r, d, device='cpu')


@pytest.mark.parametrize('name', ['mnist', 'cifar10'])
def test_torchvision_sets_are_read_again_from_their_root(
        monkeypatch, name, tmp_path):
    from afd_nb.method import data as module
    seen = []

    class Filed:
        classes = 'ab'

        def __init__(self, root, train, download):
            seen.append((str(root), train))
            n = torch.arange(20)
            more = (28, 28) if name == 'mnist' else (32, 32, 3)
            self.data = n.view(-1, *[1]*len(more)).repeat(1, *more).byte()
            self.targets = n % 2
    monkeypatch.setattr(f'torchvision.datasets.{module.SETS[name]}', Filed)
    d = module.load_data(name, root=tmp_path, n_train=8, n_valid=4, seed=3)
    before = len(seen)
    whole = module.load_data(name, root=tmp_path, n_valid=4, seed=3)
    assert whole.rest is None and len(d.rest) == 8
    assert len(seen) == 2*before
    rest = d.to('cpu').unlabelled(8)
    from afd_nb.support.splits import take
    x, y = take(rest)
    assert x.equal(whole.train.x[8:]) and y.equal(whole.train.y[8:])
    assert {r for r, _ in seen} == {str(tmp_path)}
