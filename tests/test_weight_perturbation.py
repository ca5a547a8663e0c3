"Adversarial weight perturbation on any method, and the epoch by APGD-T."
import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from afd_nb.method.data import load_data
from afd_nb.method.networks import create_model
from afd_nb.method.recipe import Recipe, from_json, to_json
from afd_nb.method.run_folder import load_run
from afd_nb.method.settings import HOMES, get_method
from afd_nb.method.training import fit
from afd_nb.support.random_numbers import generator, seeded
from afd_nb.support.training_steps import (awp_step, rehearsal,
                                           weight_perturbation)

SHORT = dict(network='small', eps=.1, steps=2, epochs=2, batch_size=32,
             n_train=64, n_valid=40, valid_steps=1)
METHODS = [k for k in HOMES if k != 'yopo']


def made(name, data=None, **kw):
    "A method on a small network, in train mode."
    model = create_model('small', (1, 8, 8), 10).train()
    r = Recipe(method=name, **dict(eps=.1, steps=2, epochs=2,
                                   batch_size=32) | kw)
    with seeded(1):
        return get_method(name)(model, r, generator(0), data)


def batch(n=16):
    d = load_data('digits', n_train=64)
    return d, d.train.x[:n], d.train.y[:n]


def everything(m):
    "All that a step changes."
    nets = [m.model, *m.players.values()]
    flat = [v.flatten().double() for p in nets
            for v in p.state_dict().values()]
    for o in m.optimizers.values():
        flat += [v.flatten().double() for s in o.state.values()
                 for v in s.values() if v is not None]
    return torch.cat([*flat, m.generator.get_state().double()])


@pytest.mark.parametrize('name', METHODS)
def test_a_perturbation_lost_to_rounding_leaves_the_plain_step(name):
    "So nothing but v differs: attack, noise, statistics, momentum."
    d, x, y = batch()
    one, two = (made(name, d, n_train=64) for _ in range(2))
    for m in (one, two): m.begin()
    for k in range(3):
        said = one.step(x, y)
        same = awp_step(two, x, y, 1e-30)
        assert {k: float(v) for k, v in said.items()} == {
            k: float(v) for k, v in same.items()}
    assert everything(one).equal(everything(two))


@pytest.mark.parametrize('name', METHODS)
def test_it_moves_what_it_should_and_leaves_no_trace(name):
    d, x, y = batch()
    m, plain = (made(name, d, n_train=64) for _ in range(2))
    for v in (m, plain):
        v.begin()
        v.step(x, y)
    plain.step(x, y)
    before, attrs = everything(m), {*vars(m)}
    with rehearsal(m) as (grads, seen): m.step(x, y)
    assert everything(m).equal(before) and {*vars(m)} == attrs
    assert grads
    awp_step(m, x, y, .1)
    assert not everything(m).equal(everything(plain))
    assert {*vars(m)} == attrs
    for o in m.optimizers.values(): assert 'step' not in vars(o)
    for net in (m.model, *m.players.values()):
        assert all(p.grad is None and p.requires_grad and p.isfinite().all()
                   for p in net.parameters())
        assert all(v.training for v in net.modules())


def test_the_attack_is_made_once_at_the_weights_themselves():
    d, x, y = batch()
    m, plain = made('at'), made('at')
    calls, learnt = [], []
    forward, cast = m.perturb, m.cast

    def perturb(*args, **kw):
        calls.append(forward(*args, **kw))
        return calls[-1]

    def noted(f):
        def g(x_adv):
            learnt.append(x_adv)
            return cast(f)(x_adv)
        return g
    m.perturb, m.cast = perturb, noted
    awp_step(m, x, y, .3)
    assert len(calls) == 1 and len(learnt) == 2
    assert learnt[0] is learnt[1] is calls[0]
    assert calls[0].equal(plain.perturb(x, y))
    assert m.perturb is perturb


def test_of_two_steps_each_is_by_its_formula():
    "Against the plain way, by hand, on AT without weight decay."
    d, x, y = batch()
    kw = dict(weight_decay=0., momentum=0., lr=.5)
    m, twin = made('at', **kw), made('at', **kw)
    for _ in range(2):
        x_adv = twin.perturb(x, y)
        net = create_model('small', (1, 8, 8), 10).train()
        loss = lambda: nn.functional.cross_entropy(net(x_adv), y)
        net.load_state_dict(twin.model.state_dict())
        ps = [*net.parameters()]
        v = weight_perturbation(dict(zip(ps, torch.autograd.grad(
            loss(), ps))), .05)
        net.load_state_dict(twin.model.state_dict()) # and statistics
        with torch.no_grad():
            for p, u in v.items():
                assert u.norm().item() == pytest.approx(
                    .05*p.norm().item(), rel=1e-4)
                p.add_(u)
        there = torch.autograd.grad(loss(), ps)
        state = twin.model.state_dict() | {
            k: b for k, b in net.named_buffers()}
        twin.model.load_state_dict(state)
        with torch.no_grad():
            for p, g in zip(twin.model.parameters(), there):
                p.sub_(.5*g)
        awp_step(m, x, y, .05)
        for p, q in zip(m.model.parameters(), twin.model.parameters()):
            assert torch.allclose(p, q, atol=1e-5)
        for p, q in zip(m.model.buffers(), twin.model.buffers()):
            assert torch.allclose(p, q, atol=1e-5)
        assert all((p.ndim > 1) == (p in v) for p in ps)


class Stop(Exception): pass


@pytest.mark.parametrize('when', [1, 2])
def test_an_error_in_either_pass_leaves_the_weights(when):
    d, x, y = batch()
    m, left = made('afd'), [when]
    before = {k: v.clone() for k, v in m.model.named_parameters()}
    own = m.step_classifier

    def step_classifier(*args):
        left[0] -= 1
        if not left[0]: raise Stop
        return own(*args)
    m.step_classifier = step_classifier
    with pytest.raises(Stop): awp_step(m, x, y, .1)
    for k, p in m.model.named_parameters(): assert p.equal(before[k])
    assert all('step' not in vars(o) for o in m.optimizers.values())


def same(a, b):
    a, b = (r.model.state_dict() for r in (a, b))
    return all(v.equal(b[k]) for k, v in a.items())


@pytest.mark.parametrize('name', ['afd', 'trades'])
def test_off_is_off_and_a_stopped_run_ends_with_the_same_bits(tmp_path,
                                                              name):
    r = Recipe(method=name, awp_gamma=.01, ema_decay=.5, augment=True,
               select_by='apgd-t', **SHORT)
    whole, left = fit(r, out=tmp_path/'whole', device='cpu'), [3]

    def stop(*_):
        left[0] -= 1
        if not left[0]: raise Stop
    with pytest.raises(Stop):
        fit(r, out=tmp_path/'two', progress=stop, device='cpu')
    assert len(load_run(tmp_path/'two').history) == 1
    two = fit(r, out=tmp_path/'two', resume=True, device='cpu')
    assert same(whole, two) and whole.history.equals(two.history)
    assert load_run(tmp_path/'two').recipe == r == from_json(to_json(r))
    plain = Recipe(method=name, **SHORT)
    off = Recipe(method=name, awp_gamma=0., select_by='pgd', **SHORT)
    assert plain == off and not same(fit(plain, device='cpu'), whole)


SCRIPT = '''
import sys
from afd_nb.method.recipe import from_json
from afd_nb.method.training import fit
for text, out in zip(sys.argv[1::2], sys.argv[2::2]):
    fit(from_json(text), out=out, device='cpu')
'''


@pytest.mark.long
def test_two_processes_have_the_step_of_one(tmp_path):
    (tmp_path/'script.py').write_text(SCRIPT)
    kinds = {m: Recipe(method=m, awp_gamma=.01, select_by='apgd-t', **SHORT
                       | dict(epochs=1, n_train=32)) for m in ('at', 'afd')}
    words = [w for m, r in kinds.items()
             for w in (to_json(r), str(tmp_path/m))]
    done = subprocess.run(
        [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu',
         '--num_processes', '2', str(tmp_path/'script.py'), *words],
        capture_output=True, text=True,
        env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-3000:]
    for m, r in kinds.items():
        here, there = fit(r, device='cpu').history, load_run(tmp_path/m)
        assert there.record['processes'] == 2
        for c in [c for c in here if c.startswith(('loss', 'grad'))]:
            a, b = here[c][0], there.history[c][0]
            assert abs(a - b) < 1e-4*(1 + abs(a)), (m, c)


def test_where_it_makes_no_sense_it_is_refused():
    for kw, says in ((dict(method='yopo'), 'yopo'), # attack_in_step
                     (dict(method='afd-tricks', sam_rho=.1), 'sam_rho'),
                     (dict(method='at-tricks', sam_rho=.1), 'sam_rho')):
        with pytest.raises(ValueError, match=says):
            Recipe(awp_gamma=.01, **kw)
        Recipe(**kw)
    Recipe(method='at-tricks', awp_gamma=.01)


# ---- the epoch by APGD-T

def test_it_is_refused_where_the_method_picks_otherwise(tmp_path):
    with pytest.raises(ValueError, match="select_by='apgd-t' is no use"):
        fit(Recipe(method='nt', select_by='apgd-t', **SHORT),
            out=tmp_path/'run', device='cpu')
    assert not (tmp_path/'run').exists()


@pytest.mark.parametrize('norm,eps', [('linf', .1), ('l2', 1.), ('l1', 3.)])
def test_apgd_t_is_no_weaker_than_its_steps_allow(norm, eps):
    from dataclasses import replace
    from afd_nb.method.training import validate
    d = load_data('digits', n_train=256)
    run = fit(Recipe(method='at', **SHORT | dict(n_train=256, epochs=3)),
              device='cpu')
    r = Recipe(norm=norm, eps=eps, valid_steps=10, select_by='apgd-t')
    x, y = d.valid.x, d.valid.y
    got = validate(run.model, x, y, r)
    assert {*got} == {'valid_clean', 'valid_robust', 'valid_apgd_t'}
    assert got['valid_apgd_t'] <= got['valid_robust'] + .05
    none = validate(run.model, x, y, replace(r, eps=0.))
    assert none['valid_apgd_t'] == none['valid_clean']
    plain = validate(run.model, x, y, replace(r, select_by='pgd'))
    assert plain == {k: v for k, v in got.items() if k != 'valid_apgd_t'}


def test_the_command_takes_both(tmp_path):
    from afd_nb.tools.commands import afd_train
    afd_train(['--out', str(tmp_path/'run'), '--device', 'cpu', '--method',
               'at', '--awp_gamma', '.01', '--select_by', 'apgd-t',
               *(w for k, v in SHORT.items() for w in (f'--{k}', str(v)))])
    r = load_run(tmp_path/'run').recipe
    assert (r.awp_gamma, r.select_by) == (.01, 'apgd-t')
    assert json.loads(to_json(r))['awp_gamma'] == .01


# ---- what a method prepares

def test_begin_is_called_once_before_the_first_batch_and_is_timed(tmp_path):
    import time
    from afd_nb.method.baselines import NT
    from afd_nb.method.settings import REGISTRY
    calls, drawn = [], []

    class Prepared(NT):
        def begin(self):
            calls.append('begin')
            drawn.append(torch.rand(1).item())
            time.sleep(.5)

        def step(self, x, y):
            calls.append('step')
            if len(calls) == 4: raise Stop # in the second epoch
            return super().step(x, y)
    REGISTRY['nt'] = Prepared
    try:
        outside = torch.get_rng_state()
        r = Recipe(method='nt', **SHORT)
        with pytest.raises(Stop): fit(r, out=tmp_path/'run', device='cpu')
        assert calls == ['begin', 'step', 'step', 'step']
        run = fit(r, out=tmp_path/'run', resume=True, device='cpu')
        assert calls.count('begin') == 1 and run.record['seconds'] >= .5
        assert torch.get_rng_state().equal(outside)
        calls[:] = ['none']*9
        fit(r, device='cpu')
        assert drawn[0] == drawn[1]
    finally: REGISTRY['nt'] = NT


def test_a_validate_of_its_own_must_give_what_chooses(monkeypatch):
    "Said at the first epoch, with the name of the column."
    few = lambda self, model, x, y: dict(valid_clean=1., valid_robust=1.)
    monkeypatch.setattr(get_method('at'), 'validate', few)
    with pytest.raises(ValueError, match="at's validate gives no valid_ap"):
        fit(Recipe(method='at', select_by='apgd-t', **SHORT),
            load_data('digits', n_train=64, n_valid=40))


# ---- a stranger's attack

def own_attack(declared):
    "A method that makes x' in its step, and says so or does not."
    from afd_nb.method.baselines import OneLoss
    from afd_nb.method.pgd import pgd

    class OwnAttack(OneLoss):
        def loss(self, x, y):
            x_adv = pgd(self.model, x, y, eps=.1, steps=2,
                        generator=self.generator)
            return nn.functional.cross_entropy(self.model(x_adv), y)
    if declared: OwnAttack.attack_in_step = True
    return OwnAttack


@pytest.mark.parametrize('declared', [True, False])
def test_an_attack_in_the_step_of_a_stranger_is_refused(tmp_path, declared):
    from afd_nb.method.settings import REGISTRY
    REGISTRY['own'] = own_attack(declared)
    try:
        fit(Recipe(method='own', **SHORT), device='cpu') # without AWP
        if declared: # the recipe itself
            with pytest.raises(ValueError, match='no use with own'):
                Recipe(method='own', awp_gamma=.01, **SHORT)
            return
        r, out = Recipe(method='own', awp_gamma=.01, **SHORT), tmp_path/'r'
        with pytest.raises(ValueError, match='no use with OwnAttack'):
            fit(r, out=out, device='cpu')
        assert not (out/'history.csv').exists() # at the first batch
        d, x, y = batch()
        m = made('own')
        before = everything(m)
        with pytest.raises(ValueError, match='self.perturb'):
            awp_step(m, x, y, .01)
        assert before[:-m.generator.get_state().numel()].isclose(
            everything(m)[:-m.generator.get_state().numel()]).float(
            ).mean() > .9 # weights are back; the second pass moved BatchNorm
        for p, q in zip(m.model.parameters(), made('own').model.parameters()):
            assert p.equal(q)
    finally: del REGISTRY['own']
