"The other systems of Table 1: what every method must hold."
import dataclasses
import json
import math
import os
import subprocess
import sys

import pytest
import torch

from afd_nb.method.networks import create_model
from afd_nb.method.recipe import Recipe, from_json, to_json
from afd_nb.method.settings import HOMES, get_method, settings_class
from afd_nb.method.run_folder import load_run
from afd_nb.method.training import fit
from afd_nb.support.random_numbers import generator
from afd_nb.tools.commands import afd_train

RIVALS = [k for k, v in HOMES.items() if v.startswith('rivals.')]
SHORT = dict(network='small', eps=.1, steps=2, epochs=2, batch_size=32,
             n_train=64, n_valid=40, valid_steps=1)
BAD = { # a setting that is refused, and another
    'ates': (dict(ramp=-1.), dict(bound_start=.5, bound_end=.1)),
    'feature-scattering': (dict(smoothing=1.), dict(blur=0.)),
    'yopo': (dict(outer=0), dict(inner=0)),
    'mart': (dict(kl_weight=-1.), dict(kl_weight='5')),
    'dial': (dict(adv_weight=-1.), dict(adv_loss='mse')),
    'llr': (dict(gap_weight=-1.), dict(slope_weight=None)),
    'elle': (dict(gap_weight=-1.), dict(gap_weight=math.nan)),
    'jarn': (dict(beta=-1.), dict(d_every=0), dict(inputs='pgd'),
             dict(game_start=1.5), dict(lr_adaptor=-.1)),
    'rlfat': (dict(blocks=0), dict(eta=-1.), dict(form='mart')),
    'rst': (dict(unlabelled=-1), dict(natural_epochs=0), dict(beta=-1.),
            dict(natural=3))}
PGD_ALONE = 'ates', 'feature-scattering', 'yopo', 'llr', 'jarn', 'rst'


def made(name, classes=3, shape=(1, 8, 8), network='small', seed=0, **kw):
    "A method on a small network, in train mode."
    model = create_model(network, shape, classes, seed=seed).train()
    return get_method(name)(model, Recipe(method=name, **dict(
        eps=.1, steps=2) | kw), generator(seed))


def some(n=6, classes=3, shape=(1, 8, 8), seed=0):
    "Random images and labels."
    x = torch.rand(n, *shape, generator=generator(seed))
    return x, torch.arange(n) % classes


def weights(model):
    return torch.cat([v.flatten().double()
                      for v in model.state_dict().values()])


# ---- every one of them

def test_the_floor_is_loaded_when_a_method_of_it_is_asked_for():
    code = ('import sys; from afd_nb import Recipe, fit; '
            'Recipe(method="at"); Recipe(method="afd"); '
            'seen = lambda: [m for m in sys.modules if "rivals" in m]; '
            'assert not seen(); Recipe(method="ates"); '
            'assert "afd_nb.rivals.ates" in seen(); '
            'assert len(seen()) == 2, seen()') # the floor and the page
    done = subprocess.run([sys.executable, '-c', code], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('name', RIVALS)
def test_a_step_is_finite_and_puts_all_back(name):
    m, (x, y) = made(name), some()
    before = weights(m.model)
    assert all(math.isfinite(v) for v in m.step(x, y).values())
    assert not weights(m.model).equal(before)
    assert all(v.training for v in m.model.modules())
    assert all(p.requires_grad and p.grad is None
               for p in m.model.parameters())
    for bad, words in ((x*2 + .1, r'\[0, 1\]'), (x.long(), 'floating')):
        with pytest.raises((ValueError, TypeError), match=words):
            m.step(bad, y)
    with pytest.raises(ValueError, match='labels must lie'): m.step(x, y + 3)
    assert all(v.training for v in m.model.modules())
    assert all(p.requires_grad and p.grad is None
               for p in m.model.parameters())


@pytest.mark.parametrize('name', RIVALS)
@pytest.mark.parametrize('norm,eps', [('l2', .5), ('l1', 2.), ('linf', 0.)])
def test_a_step_in_the_other_norms_and_without_room(name, norm, eps):
    m, (x, y) = made(name, norm=norm, eps=eps), some()
    assert all(math.isfinite(v) for v in m.step(x, y).values())


@pytest.mark.parametrize('name', RIVALS)
def test_bad_settings_are_refused(name, tmp_path, capsys):
    for bad in BAD[name]:
        key = [*bad][-1]
        with pytest.raises((ValueError, TypeError), match=key):
            Recipe(method=name, **bad)
    with pytest.raises(ValueError, match=f'no setting of {name}'):
        Recipe(method=name, nonsense=1)
    with pytest.raises(SystemExit):
        afd_train(['--method', name, '--nonsense', '1', '--out',
                   str(tmp_path/'run')])
    assert 'nonsense' in capsys.readouterr().err
    for attack in ('mim', 'apgd-ce', 'fgsm'):
        if name in PGD_ALONE:
            with pytest.raises(ValueError, match=attack):
                made(name, attack=attack)
        else: made(name, attack=attack).step(*some())


@pytest.mark.parametrize('name', RIVALS)
def test_recipes_come_back_from_json(name):
    r = Recipe(method=name, seed=3)
    assert from_json(to_json(r)) == r and not r.modules
    assert dataclasses.is_dataclass(settings_class(name))


class Stop(Exception): pass


@pytest.mark.parametrize('name', RIVALS)
def test_stopped_and_resumed_gives_the_same_bits(name, tmp_path):
    r = Recipe(method=name, **SHORT)
    whole = fit(r, out=tmp_path/'whole', device='cpu')
    left = [3] # of four batches

    def stop(*_):
        left[0] -= 1
        if not left[0]: raise Stop
    with pytest.raises(Stop): fit(r, out=tmp_path/'two', progress=stop,
                                  device='cpu')
    assert len(load_run(tmp_path/'two').history) == 1
    two = fit(r, out=tmp_path/'two', resume=True, device='cpu')
    assert weights(two.model).equal(weights(whole.model))
    assert two.history.equals(whole.history)
    for f in ('best', 'last'):
        f = f'{f}.safetensors'
        assert (tmp_path/'two'/f).read_bytes() == (
            tmp_path/'whole'/f).read_bytes()


@pytest.mark.parametrize('name', RIVALS)
def test_a_command_trains_it_on_a_folder_of_images(name, tmp_path):
    from PIL import Image
    g = generator(0)
    for part in ('train', 'test'):
        for k in range(3):
            (tmp_path/'own'/part/f'c{k}').mkdir(parents=True)
            for i in range(6):
                v = torch.randint(256, (8, 8, 3), generator=g)
                Image.fromarray(v.byte().numpy()).save(
                    tmp_path/'own'/part/f'c{k}'/f'{i}.png')
    afd_train(['--dataset', 'folder', '--root', str(tmp_path/'own'),
               '--method', name, '--out', str(tmp_path/'run'), '--device',
               'cpu', *'--network small --eps .1 --steps 2 --epochs 1 '
               '--batch_size 8 --n_train 8 --n_valid 4 --valid_steps 1'
               .split()])
    run = load_run(tmp_path/'run')
    assert run.recipe.method == name and run.finished
    assert run.model.n_classes == 3


# ---- all of them in one launch of two processes

SCRIPT = '''
import json, sys
from afd_nb.method.recipe import Recipe
from afd_nb.method.training import fit
names, short, root = (json.loads(v) for v in sys.argv[1:])
for name in names:
    fit(Recipe(method=name, **short), out=f'{root}/{name}', device='cpu')
'''


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    root = tmp_path_factory.mktemp('two')
    (root/'script.py').write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu',
         '--num_processes', '2', str(root/'script.py'),
         *map(json.dumps, (RIVALS, SHORT, str(root)))], text=True,
        capture_output=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.mark.parametrize('name', RIVALS)
def test_the_curve_is_that_of_one_process(two, name):
    here = fit(Recipe(method=name, **SHORT), device='cpu').history
    there = load_run(two/name)
    assert there.record['processes'] == 2
    losses = [c for c in here if c.startswith('loss')]
    first = (here[losses] - there.history[losses]).abs().iloc[0]
    assert (first < 1e-2*(1 + here[losses].iloc[0].abs())).all()


# ---- JARN

def players(m):
    "Who holds what: copies of the weights of each player."
    who = dict(E=m.model.E, Dc=m.model.Dc, adaptor=m.adaptor, D=m.D)
    return {k: [p.detach().clone() for p in v.parameters()]
            for k, v in who.items()}


def movers(m, call):
    before = players(m)
    call()
    return {k for k, v in players(m).items()
            if not all(a.equal(b) for a, b in zip(v, before[k]))}


@pytest.mark.parametrize('shape', [(1, 8, 8), (3, 2, 5)])
def test_jarn_moves_one_side_at_a_time(shape):
    m, (x, y) = made('jarn', shape=shape, d_every=2), some(shape=shape)
    each, fake = m.gradients(m.noisy(x, y), y)
    assert movers(m, lambda: m.step_classifier(each, fake)) == {
        'E', 'Dc', 'adaptor'}
    one = lambda: m.step_discriminator(x, fake.detach())
    assert [movers(m, one) for _ in range(3)] == [{'D'}, set(), {'D'}]
    assert m.D.calls == 3
    for v in (m.D, m.adaptor):
        assert all(p.requires_grad and p.grad is None
                   for p in v.parameters())


def test_jarn_without_its_game_is_training_on_noise():
    m, (x, y) = made('jarn', beta=0.), some()
    other = made('nt')
    other.step(m.noisy(x, y), y)
    m.generator.manual_seed(0)
    m.step(x, y)
    assert weights(m.model).equal(weights(other.model))


@pytest.mark.parametrize('attack', ['pgd', 'mim', 'apgd-ce', 'fgsm'])
def test_jarn_at1_takes_any_attack(attack):
    m, (x, y) = made('jarn', attack=attack, inputs='attack', steps=1), some()
    assert all(math.isfinite(v) for v in m.step(x, y).values())


def test_jarn_survives_a_network_that_is_sure_of_all():
    m, (x, y) = made('jarn'), some()
    with torch.no_grad(): # a gradient of exactly 0
        m.model.Dc.weight.zero_()
        m.model.Dc.bias.copy_(torch.tensor([200., 0., 0.]))
    each, fake = m.gradients(m.noisy(x, y*0), y*0)
    assert not each.any()
    m.step_classifier(each, fake)
    assert weights(m.model).isfinite().all()


def test_jarn_resumes_between_two_steps_of_its_discriminator(tmp_path):
    r = Recipe(method='jarn', d_every=3, game_start=.2, **SHORT)
    whole, left = fit(r, device='cpu'), [3]

    def stop(*_):
        left[0] -= 1
        if not left[0]: raise Stop
    with pytest.raises(Stop):
        fit(r, out=tmp_path/'two', progress=stop, device='cpu')
    two = fit(r, out=tmp_path/'two', resume=True, device='cpu')
    assert weights(two.model).equal(weights(whole.model))
    assert two.history.equals(whole.history)
    from afd_nb.support.run_records import read_state
    held = read_state(tmp_path/'two'/'state.pt')
    assert {*held['players']} == {'D', 'adaptor'}
    assert held['players']['D']['calls'] == 3 # the first batch had no game


# ---- RLFAT

@pytest.mark.parametrize('form,other', [('pgd', 'at'), ('trades', 'trades')])
def test_rlfat_without_a_shuffle_is_what_it_builds_on(form, other):
    x, y = some()
    end = []
    for name, kw in ((other, {}), ('rlfat', dict(form=form, blocks=1)),
                     ('rlfat', dict(form=form))):
        m = made(name, **kw)
        for _ in range(3): m.step(x, y)
        end.append(weights(m.model))
    assert end[1].equal(end[0]) and not end[2].equal(end[0])


@pytest.mark.parametrize('blocks', [2, 3, 20])
def test_a_block_shuffle_keeps_rows_and_columns_whole(blocks):
    from afd_nb.rivals.rlfat import shuffle_blocks
    rows = torch.arange(5.)[:, None].expand(4, 2, 5, 7)
    cols = torch.arange(7.).expand(4, 2, 5, 7)
    x = torch.cat([rows, cols], 1)
    s = shuffle_blocks(x, blocks, generator(0))
    assert (s[:, :2] == s[:, :2, :, :1]).all()
    assert (s[:, 2:] == s[:, 2:, :1]).all()
    assert s[:, 0, :, 0].sort(1).values.equal(rows[:, 0, :, 0])
    assert s[:, 2, 0].sort(1).values.equal(cols[:, 0, 0])


def test_rlfat_refuses_what_its_form_cannot_attack_with():
    x, y = some()
    made('rlfat', attack='fgsm').step(x, y)
    with pytest.raises(ValueError, match='fgsm'):
        made('rlfat', attack='fgsm', form='trades')


# ---- RST

def digits(n_train=64):
    from afd_nb.method.data import load_data
    return load_data('digits', n_train=n_train)


def rst(data, seed=0, augment=False, **kw):
    "RST on ten classes, with images to label."
    model = create_model('small', (1, 8, 8), 10, seed=seed).train()
    r = Recipe(method='rst', natural_epochs=1, augment=augment,
               **SHORT | dict(n_valid=None) | kw)
    return get_method('rst')(model, r, generator(seed), data)


@pytest.mark.parametrize('kw', [{}, dict(joint_batch=True, beta=2.),
                                dict(augment=True, ema_decay=.5)])
def test_rst_without_unlabelled_images_is_trades(kw):
    "To the bit; and with AWP it is TRADES with AWP."
    runs = [fit(Recipe(method=m, **SHORT, **kw, **more, **awp), device='cpu')
            for awp in ({}, dict(awp_gamma=.005))
            for m, more in (('trades', {}), ('rst', dict(unlabelled=0)))]
    for a, b in (runs[:2], runs[2:]):
        assert weights(a.model).equal(weights(b.model))
        assert a.history.equals(b.history)
    assert not weights(runs[0].model).equal(weights(runs[2].model))
    other = fit(Recipe(method='rst', **SHORT, **kw), device='cpu')
    assert not weights(runs[0].model).equal(weights(other.model))


def test_rst_never_looks_at_the_labels_it_should_not_know():
    ours, blind = digits(), digits()
    from afd_nb.support.splits import TensorSplit, take
    x, y = take(blind.rest)
    blind.rest = TensorSplit(x, torch.full_like(y, -7))
    r = Recipe(method='rst', **SHORT | dict(n_valid=None))
    a, b = (fit(r, d, device='cpu') for d in (ours, blind))
    assert weights(a.model).equal(weights(b.model))
    assert a.history.equals(b.history)


def test_rst_labels_once_and_mixes_every_second_image():
    m, d = rst(digits(), unlabelled=100), digits()
    x, y = d.train.x[:9], d.train.y[:9]
    assert (m.players['labels'].y == -1).all() and len(
        m.players['labels'].y) == 100
    calls, natural = [], m.natural_model

    def counted():
        calls.append(natural())
        return calls[-1]
    m.natural_model = counted
    m.begin()
    for _ in range(3): m.step(x, y)
    assert len(calls) == 1
    from afd_nb.support.splits import take
    u = take(d.rest, 100)[0]
    calls[0].eval()
    with torch.no_grad(): says = calls[0](u).argmax(1)
    assert m.players['labels'].y.equal(says)
    x2, y2 = m.half_labelled(x, y)
    assert x2[::2].equal(x[::2]) and y2[::2].equal(y[::2])
    of = {v.numpy().tobytes(): k for v, k in zip(u, says.tolist())}
    assert [of[v.numpy().tobytes()] for v in x2[1::2]] == y2[1::2].tolist()
    assert not of.keys() & {v.numpy().tobytes() for v in d.valid.x}
    again = rst(digits(), unlabelled=100, augment=True)
    assert again.half_labelled(x, y)[0].shape == x.shape


def test_rst_resumes_without_its_natural_model(tmp_path):
    "The labels are in the state: the run that gave them may be gone."
    import shutil
    d = digits()
    nt = Recipe(method='nt', **SHORT | dict(n_valid=None))
    fit(nt, d, out=tmp_path/'nt', device='cpu')
    r = Recipe(method='rst', natural=str(tmp_path/'nt'), awp_gamma=.005,
               **SHORT | dict(n_valid=None))
    whole, left = fit(r, d, device='cpu'), [3]

    def stop(*_):
        left[0] -= 1
        if not left[0]: raise Stop
    with pytest.raises(Stop):
        fit(r, d, out=tmp_path/'two', progress=stop, device='cpu')
    shutil.rmtree(tmp_path/'nt')
    two = fit(r, d, out=tmp_path/'two', resume=True, device='cpu')
    assert weights(two.model).equal(weights(whole.model))
    assert two.history.equals(whole.history)
    with pytest.raises(FileNotFoundError, match='nt is not a run'):
        fit(r, d, device='cpu')


def test_rst_refuses_data_without_images_to_label(tmp_path):
    r = Recipe(method='rst', **SHORT | dict(n_train=None))
    with pytest.raises(ValueError, match='needs n_train'):
        fit(r, out=tmp_path/'run', device='cpu')
    assert not (tmp_path/'run').exists()
    with pytest.raises(ValueError, match='unlabelled=9999 beside'):
        rst(digits(), unlabelled=9999)


def test_rst_attacks_the_weights_of_trades_alone():
    "The natural model is trained without AWP, and once."
    from dataclasses import replace
    d = digits()
    plain = rst(d)
    awp = get_method('rst')(plain.model, replace(
        plain.recipe, awp_gamma=.005), generator(0), d)
    for m in (plain, awp): m.begin()
    assert plain.players['labels'].y.equal(awp.players['labels'].y)
