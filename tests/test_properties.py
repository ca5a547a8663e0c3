"""Good input gives what is documented, bad input a sentence.

Each property is tried on 25 cases, the same ones in every run;
`pytest --hypothesis-profile=long tests/test_properties.py` tries 200.
Good input is drawn at large (shapes, float types, constant images, batch
sizes, labels, eps from 0 to 1e300), and what comes is held against the
contract. Bad input is good input with one thing spoiled: it must end in a
ValueError or a TypeError that names what is wrong, before a number comes,
and leave the model as it was.
"""
import json
import math
import re
import warnings
from contextlib import contextmanager
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from afd_nb.method import data, more_attacks, pgd as attacks
from afd_nb.robustness import (attack_zoo as zoo, lowest_accuracy as lowest,
                               sweeps)
from afd_nb.support import splits
from afd_nb.representations import (
    dimensionality as dimensions,
    discriminator_curves, feature_sensitivity as sensitivity,
    feature_visualisation as features, features as representations,
    input_gradients as gradients, perturbation_angles as angles,
    robust_error_bound as bound, theorem, tsne_maps as tsne)
from afd_nb.results import robustness_over_training as over_training
from afd_nb.method.baselines import sensitivity_loss, trades_loss
from afd_nb.support import curves
from afd_nb.support.backends import distances
from afd_nb.support.carlini_wagner import STARTS
from afd_nb.support.checks import check_choice, check_images, check_labels
from afd_nb.support.random_numbers import generator
from afd_nb.method.discriminator import (Discriminator, DiscriminatorProbe,
                                          random_halves)
from afd_nb.robustness.evaluation import evaluate
from afd_nb.method.losses import GAMES, gradient_penalty, kl
from afd_nb.robustness.gradient_checks import fosc, loss_surface
from afd_nb.robustness.masking import diagnose
from afd_nb.support.layers import features_of
from afd_nb.method.recipe import Recipe, from_json, to_json
from afd_nb.robustness.masking_power import compare_diagnoses
from afd_nb.robustness.signs import bounds, row
from afd_nb.support import statistics
from afd_nb.support.statistics import holm
from afd_nb.method.settings import get_method
from afd_nb.robustness.transfer_attacks import transfer

NAN, INF = math.nan, math.inf
NORMS = ('linf', 'l2', 'l1')

# words of Python and torch that name no argument of ours
INNER = re.compile('cannot be interpreted|not supported between|mat1 and|'
                   "ambiguous|unhashable|No objects to concat|"
                   "'NoneType' object|"
                   'invalid combination|must match the size|not iterable|'
                   'out of bounds|Expected (tensor|input)')


def refused(f, words):
    "f() must end in a ValueError or TypeError that says `words`."
    with pytest.raises((ValueError, TypeError)) as e: f()
    said = str(e.value)
    assert re.search(words, said) and not INNER.search(said), said


# ---- what is drawn

class Net(nn.Module):
    "A linear classifier with features, and an odd mix of modes and flags."
    def __init__(self, d, classes, width=3, dtype=torch.float32, seed=0):
        super().__init__()
        self.E = nn.Linear(d, width, dtype=dtype)
        self.drop = nn.Dropout(.5)
        self.Dc = nn.Linear(width, classes, dtype=dtype)
        for k, p in enumerate(self.parameters()):
            p.data = torch.randn(p.shape, generator=generator(seed + k)
                                 ).to(dtype)
            p.requires_grad_(k % 2 == 0)
        self.drop.train(seed % 2 == 0)
        self.E.train(seed % 3 == 0)
    def features(self, x): return self.E(x.flatten(1))
    def forward(self, x): return self.Dc(self.drop(self.features(x)))


class Answers(Net):
    "`Net`, whose answer goes through a function."
    def __init__(self, f, *args, **kw):
        super().__init__(*args, **kw)
        self.f = f
    def forward(self, x): return self.f(super().forward(x))


# name: (what becomes of the logits, what is said of it)
ODD_MODELS = {
    'NaN': (lambda z: z*NAN, 'NaN'),
    'one NaN': (lambda z: torch.cat([z[:1]*NAN, z[1:]]), 'NaN'),
    'infinite': (lambda z: z/0, 'NaN|infinit'),
    'flat': (lambda z: z[:, 0], 'logits'),
    'too deep': (lambda z: z[:, None], 'logits'),
    'a tuple': (lambda z: (z, z), 'logits'),
    'a half batch': (lambda z: torch.cat([z, z]), 'logits'),
    'nothing': (lambda z: None, 'logits')}


@contextmanager
def untouched(*models):
    "Weights, modes, flags and gradients are afterwards what they were."
    look = lambda: [(m.training, *((p.requires_grad, p.grad is None) for p
                                   in m.parameters(recurse=False)))
                    for model in models for m in model.modules()]
    weights = lambda: [v for m in models for v in m.state_dict().values()]
    before, kept = look(), [v.clone() for v in weights()]
    try: yield
    finally:
        assert look() == before
        assert all(a.equal(b) or a.isnan().any()
                   for a, b in zip(weights(), kept))


class Case:
    "Images, labels and a model for them."
    def __init__(self, shape, classes, kind, dtype, seed):
        g = generator(seed)
        x = torch.rand(shape, generator=g)
        if kind == 'binary': x = x.round()
        if isinstance(kind, float): x = torch.full(shape, kind)
        self.x, self.classes, self.seed = x.to(dtype), classes, seed
        self.y = torch.randint(classes, shape[:1], generator=g)
        self.d = math.prod(shape[1:])
        self.dtype = dtype
    def net(self, f=None, **kw):
        kw = dict(dtype=self.dtype, seed=self.seed) | kw
        args = self.d, self.classes
        return Net(*args, **kw) if f is None else Answers(f, *args, **kw)
    def __repr__(self):
        return (f'Case({tuple(self.x.shape)}, {self.classes} classes, '
                f'{self.dtype}, [{self.x.min():.2g}, {self.x.max():.2g}], '
                f'seed {self.seed})')


@st.composite
def cases(draw, most=6, least=1, classes=(2, 5), dtypes=('float32',)):
    "Images of any small shape; some are constant, some black and white."
    shape = (draw(st.integers(least, most)), draw(st.sampled_from([1, 3])),
             draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return Case(shape, draw(st.integers(*classes)),
                draw(st.sampled_from(['any', 'any', 'binary', 0., .5, 1.])),
                getattr(torch, draw(st.sampled_from(dtypes))),
                draw(st.integers(0, 99)))


FLOATS = ('float16', 'float32', 'float64')
radii = st.one_of(st.sampled_from([0., 0, 1e-320, 1e-9, .1, .5, 1, 2., 1e9]),
                  st.floats(0, 3))
vast = st.one_of(radii, st.sampled_from([1e30, 1e300, 10**9]))
seeds = st.integers(0, 2**31)

# argument: what it may be spoiled with, and what is then said
BAD_NUMBERS = [(v, name) for v, name in (
    (-.1, 'must be >'), (NAN, 'nan must be >'), (INF, 'inf must be >'),
    (-INF, 'inf must be >'))]
BAD_X = [
    (lambda x: (x*255).to(torch.uint8), 'floating point'),
    (lambda x: x.long(), 'floating point'),
    (lambda x: x > .5, 'floating point'),
    (lambda x: x.to(torch.complex64), 'floating point'),
    (lambda x: x.tolist(), 'torch tensor'),
    (lambda x: x.float().numpy(), 'torch tensor'),
    (lambda x: None, 'torch tensor'),
    (lambda x: x + 1.1, r'lie in \[0, 1\]'),
    (lambda x: -x - .1, r'lie in \[0, 1\]'),
    (lambda x: x + INF, r'lie in \[0, 1\]'),
    (lambda x: torch.where(torch.arange(x.numel()).reshape(x.shape) == 0,
                           NAN, x), 'NaN'),
    (lambda x: x[0], 'shape'),
    (lambda x: x[None], 'shape'),
    (lambda x: x[:0], 'empty'),
    (lambda x: x[..., :0], 'empty')]
BAD_Y = [
    (lambda y, c: y.double(), 'int64'),
    (lambda y, c: y.int(), 'int64'),
    (lambda y, c: y.to(torch.uint8), 'int64'),
    (lambda y, c: y > 0, 'int64'),
    (lambda y, c: y.tolist(), 'int64'),
    (lambda y, c: y.numpy(), 'int64'),
    (lambda y, c: None, 'int64'),
    (lambda y, c: y[:, None], 'shape'),
    (lambda y, c: y[:-1], 'shape'),
    (lambda y, c: torch.cat([y, y]), 'shape'),
    (lambda y, c: y - c, r'labels must lie in \[0'),
    (lambda y, c: y + c, r'labels must lie in \[0')]


@st.composite
def spoiled(draw, case, **table):
    "x, y and keywords of a case, one of them bad; and what is said of it."
    x, y, kw = case.x, case.y, {}
    what = draw(st.sampled_from(['x', 'y', *table]))
    if what == 'x':
        f, words = draw(st.sampled_from(BAD_X))
        x = f(x)
    elif what == 'y':
        f, words = draw(st.sampled_from(BAD_Y))
        y = f(y, case.classes)
    else:
        v, words = draw(st.sampled_from(table[what]))
        kw[what] = v
    return x, y, kw, words


def ball_holds(x_adv, x, eps, norm, dtype=torch.float32):
    "In the ball and the box, to what rounding in `dtype` allows."
    loose = {torch.float16: 4e-3, torch.float32: 2e-6, torch.float64: 1e-9}
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype
    assert not x_adv.requires_grad and x_adv.isfinite().all()
    assert 0 <= x_adv.min() and x_adv.max() <= 1
    most = min(float(eps), float(x[0].numel()))
    far = distances(x_adv.double() - x.double(), norm).max()
    room = loose[dtype]*x[0].numel()**(1/attacks.NORMS[norm].p)
    assert far <= most*(1 + loose[dtype]) + room, (far, eps)


# ---- the attacks of this project

OWN = dict(fgsm=attacks.fgsm, pgd=attacks.pgd, mim=more_attacks.mim,
           apgd=more_attacks.apgd)


@st.composite
def own_attacks(draw):
    "Name, norm, keywords; called with a new generator each time."
    name = draw(st.sampled_from([*OWN]))
    kw = dict(norm=draw(st.sampled_from(NORMS)))
    if name != 'fgsm':
        kw['steps'] = draw(st.sampled_from([0, 1, 2, 3, 7, np.int64(2)]))
        kw['fuse_bn'] = draw(st.booleans())
    if name in ('pgd', 'mim'):
        kw['step_size'] = draw(st.sampled_from([None, .01, 3, 1e300]))
    if name in ('pgd', 'apgd'):
        kw['eot'] = draw(st.integers(1, 2))
        kw['loss'] = draw(st.sampled_from(['ce', 'margin']))
        kw['restarts'] = draw(st.integers(1, 2))
        kw['early_stop'] = draw(st.booleans())
    seed = draw(seeds)
    def f(model, x, y, **more):
        if name in ('pgd', 'apgd'): more['generator'] = generator(seed)
        return OWN[name](model, x, y, **{**kw, **more})
    return name, kw, f


@given(cases(dtypes=FLOATS), own_attacks(), vast)
def test_own_attacks_stay_in_the_ball(c, attack, eps):
    (name, kw, f), net, kept = attack, c.net(), c.x.clone()
    with untouched(net):
        x_adv = f(net, c.x, c.y, eps=eps)
        assert f(net, c.x, c.y, eps=eps).equal(x_adv) # the same seed
        assert f(net, c.x, c.y, eps=0.).equal(c.x)
    assert c.x.equal(kept)
    ball_holds(x_adv, c.x, eps, kw['norm'], c.dtype)


@given(cases(), st.sampled_from(NORMS), st.floats(0, 1))
def test_fgsm_does_what_a_linear_model_allows(c, norm, eps):
    "Of two classes, the margin falls by no more than eps times a norm."
    net = c.net()
    x_adv = attacks.fgsm(net, c.x, c.y, eps=eps, norm=norm)
    W = (net.Dc.weight@net.E.weight).double()
    dual = dict(linf=1, l2=2, l1=INF)[norm]
    with torch.no_grad():
        z, z_adv = (net.eval()(v).double() for v in (c.x, x_adv))
    for k in range(c.classes):
        fall = ((z - z_adv)[:, k] - (z - z_adv)[torch.arange(len(z)), c.y])
        reach = eps*(W[c.y] - W[k]).norm(p=dual, dim=1)
        assert (fall.abs() <= reach*(1 + 1e-4) + 1e-4).all()


@given(st.data(), cases(dtypes=FLOATS), own_attacks())
def test_own_attacks_refuse_bad_input(draw, c, attack):
    (name, kw, f), net = attack, c.net()
    if 'steps' in kw: kw['steps'] = 2 # 0 would ask nothing of the model
    table = dict(eps=BAD_NUMBERS, norm=[('l3', 'norm'), (2, 'norm')])
    if 'steps' in kw: table['steps'] = [
        (-1, 'steps'), (2.5, 'steps'), ('3', 'steps'), (True, 'steps')]
    if 'step_size' in kw: table['step_size'] = [
        (0, 'step_size'), (-1, 'step_size'), (NAN, 'step_size'),
        (INF, 'step_size')]
    if 'restarts' in kw: table['restarts'] = [
        (0, 'restarts'), (1.5, 'restarts'), (None, 'restarts')]
    if name == 'mim': table['decay'] = [(NAN, 'decay'), (-1, 'decay')]
    if name == 'pgd': table['start'] = [
        (c.x[:, :, :0], 'start'), (c.x*NAN, 'start'), (c.x + INF, 'start'),
        (c.x.tolist(), 'start'), (c.x.bfloat16(), 'start')]
    x, y, bad, words = draw.draw(spoiled(c, **table))
    with untouched(net):
        refused(lambda: f(net, x, y, **{'eps': .1, **bad}), words)


@given(cases(dtypes=FLOATS), own_attacks(), st.sampled_from([*ODD_MODELS]))
def test_own_attacks_refuse_odd_models(c, attack, odd):
    (name, kw, f), (g, words) = attack, ODD_MODELS[odd]
    net = c.net(g)
    if 'steps' in kw: kw['steps'] = 3
    with untouched(net):
        refused(lambda: f(net, c.x, c.y, eps=.1), words)


@given(cases(dtypes=FLOATS), own_attacks())
def test_own_attacks_refuse_what_has_no_gradient_or_another_type(c, attack):
    name, kw, f = attack
    if 'steps' in kw: kw['steps'] = 3
    other = torch.float64 if c.dtype != torch.float64 else torch.float32
    for net, words in ((c.net(lambda z: z.round().detach()), 'gradient'),
                       (c.net(dtype=other), 'the model is torch.float')):
        with untouched(net):
            refused(lambda: f(net, c.x, c.y, eps=.1), words)


# ---- the attacks of libraries, by name

QUICK = { # few steps; what is left out draws from thousands
    'fgsm': {}, 'pgd-linf': dict(steps=3), 'pgd-l2': dict(steps=3),
    'pgd-l1': dict(steps=3), 'mim': dict(steps=3), 'ddn': dict(steps=3),
    'deepfool': dict(steps=3), 'deepfool-l2': dict(steps=3),
    'cw': dict(steps=3), 'boundary': dict(steps=2), 'bb-l2': dict(steps=2),
    'bb-linf': dict(steps=2), 'apgd-ce': dict(steps=3),
    'apgd-t': dict(steps=3), 'fab-t': dict(steps=2),
    'square': dict(queries=3), 'pgd': dict(steps=3), 'apgd': dict(steps=3),
    'margin-pgd': dict(steps=3), 'targeted-pgd': dict(steps=2, n_targets=2),
    'target-feature': dict(steps=2, restarts=2),
    'feature': dict(steps=2, restarts=2)}
in_float32 = cases(classes=(4, 6)) # AutoAttack's DLR losses need four


def test_no_library_attack_is_left_out():
    assert {*QUICK} == {*zoo.attack_names(), *zoo.OWN_ATTACKS} - {'autoattack'}


@given(st.data(), in_float32, st.sampled_from([*QUICK]), radii,
       st.integers(0, 99))
def test_library_attacks_stay_in_the_ball(draw, c, name, eps, seed):
    norms = NORMS if name in zoo.OWN_ATTACKS else zoo.attack_norms(name)
    norm, net = draw.draw(st.sampled_from(norms)), c.net()
    more = (dict(start=draw.draw(st.sampled_from(STARTS)))
            if name == 'cw' else {})
    a = zoo.attack(name, norm=norm, seed=seed, **QUICK[name], **more)
    with untouched(net), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        out = a.run(net, c.x, c.y, eps=eps)
        again = a.run(net, c.x, c.y, eps=eps)
        still = a.run(net, c.x, c.y, eps=0)
    assert out.x_adv.equal(again.x_adv) and out.failed.equal(again.failed)
    assert still.x_adv.equal(c.x) or a.kind != 'fixed-budget'
    ball_holds(out.x_adv, c.x, eps, norm)
    ball_holds(still.x_adv, c.x, 0, norm)
    assert out.failed.shape == c.y.shape and out.failed.dtype == torch.bool


@given(st.data(), in_float32, st.sampled_from([*QUICK]))
def test_library_attacks_refuse_bad_input(draw, c, name):
    a, net = zoo.attack(name, **QUICK[name]), c.net()
    x, y, bad, words = draw.draw(spoiled(c, eps=BAD_NUMBERS))
    with untouched(net):
        refused(lambda: a(net, x, y, **{'eps': .1, **bad}), words)
        for other in (torch.float64, torch.float16):
            refused(lambda: a(net, c.x.to(other), c.y, eps=.1), 'float')
        refused(lambda: a(lambda x: x, c.x, c.y, eps=.1), 'torch.nn.Module')


@given(in_float32, st.sampled_from([*QUICK]), st.sampled_from([*ODD_MODELS]))
def test_library_attacks_refuse_odd_models(c, name, odd):
    f, words = ODD_MODELS[odd]
    a, net = zoo.attack(name, **QUICK[name]), c.net(f)
    with untouched(net):
        refused(lambda: a(net, c.x, c.y, eps=.1), words)


@given(st.sampled_from([k for k in QUICK if k not in zoo.OWN_ATTACKS]),
       st.sampled_from([
    (dict(steps=0), 'steps'), (dict(steps=-1), 'steps'),
    (dict(steps=2.5), 'steps'), (dict(steps=None), 'steps'),
    (dict(steps=True), 'steps'), (dict(restarts=0), 'restarts'),
    (dict(step_size=NAN), 'step_size'), (dict(step_size=-1), 'step_size'),
    (dict(magic=1), 'magic'), (dict(norm='l3'), 'norm')]))
def test_library_attacks_refuse_bad_settings(name, bad):
    settings, words = bad
    net, x, y = Net(4, 4), torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    refused(lambda: zoo.attack(name, **settings)(net, x, y, eps=.1),
            f'{words}|no setting')


# ---- evaluation

CALM = ('fgsm', 'pgd-linf', 'pgd-l2', 'mim', 'ddn', 'deepfool', 'pgd',
        'apgd', 'margin-pgd', 'targeted-pgd', 'apgd-ce')
grids = st.lists(st.floats(0, 2), min_size=1, max_size=3, unique=True)


@given(in_float32, st.sampled_from(CALM), grids, st.integers(1, 7))
def test_evaluation_keeps_its_contract(c, name, epsilons, size):
    net, epsilons = c.net(), [*{0., *epsilons}]
    run = lambda **kw: evaluate(net, c.x, c.y, attack=name,
                                epsilons=epsilons, **QUICK[name], **kw)
    with untouched(net): e, same = run(), run()
    with torch.no_grad(): right = net.eval()(c.x).argmax(1) == c.y
    assert e.epsilons == sorted(epsilons) and e.n == len(c.x)
    assert (e.robust == same.robust).all()
    assert (e.robust[:, 0] == right.numpy()).all() # eps 0 is clean
    assert (np.diff(e.robust.astype(int), axis=1) <= 0).all()
    t = e.table()
    assert (0 <= t.low).all() and (t.high <= 1).all()
    assert (t.low <= t.accuracy + 1e-12).all()
    assert (t.accuracy <= t.high + 1e-12).all()
    assert (0 < t.upper_bound).all() and (t.upper_bound <= 1).all()
    if len(epsilons) > 1: assert 0 <= e.auc <= 1
    parts = run(batch_size=size) # with a remainder, or one by one
    assert abs(int(parts.robust.sum()) - int(e.robust.sum())) <= (
        name in ('apgd-ce',)) # the library's starts go by place in a batch


@given(st.data(), in_float32, st.sampled_from(CALM))
def test_evaluation_refuses_bad_input(draw, c, name):
    net = c.net()
    x, y, bad, words = draw.draw(spoiled(c,
        epsilons=[([], 'epsilons'), ([-.1], 'eps'), ([.1, .1], 'twice'),
                  ([NAN], 'eps'), ([.1, INF], 'eps'), (-1, 'eps')],
        attack=[('magic', 'attack'), (3, 'attack'), (None, 'attack')],
        norm=[('l3', 'norm')], batch_size=[(0, 'batch_size'),
                                           (-3, 'batch_size')],
        **{} if name in zoo.OWN_ATTACKS else dict(n_steps=[(3, 'n_steps')],
                                        steps=[(0, 'steps')])))
    kw = dict(attack=name, epsilons=[0, .1], **QUICK[name])
    with untouched(net):
        refused(lambda: evaluate(net, x, y, **kw | bad),
                f'{words}|no setting')


@given(in_float32, st.sampled_from(CALM), st.sampled_from([*ODD_MODELS]))
def test_evaluation_refuses_odd_models(c, name, odd):
    f, words = ODD_MODELS[odd]
    net = c.net(f)
    with untouched(net):
        refused(lambda: evaluate(net, c.x, c.y, attack=name,
                                 epsilons=[.1], **QUICK[name]), words)


@given(in_float32, grids)
def test_sweeps_and_worst_cases(c, epsilons):
    net, epsilons = c.net(), sorted({0., *epsilons})
    plan = [(k, epsilons) for k in ('fgsm', 'ddn', 'deepfool')]
    with untouched(net):
        both = sweeps.evaluate_all(net, (c.x, c.y), plan)
        t = sweeps.sweep(net, (c.x, c.y), plan)
    assert len(t) == 3*len(epsilons) and t.accuracy.between(0, 1).all()
    for w in lowest.worst_cases(both):
        for e in both:
            if e.norm == w.norm: assert (w.robust <= e.robust).all()
    refused(lambda: lowest.worst_case([both[0], both[1]]), 'not about')


@given(st.data(), st.integers(1, 10**6), st.floats(.5, .999))
def test_wilson_holds_the_share(draw, n, confidence):
    k = draw.draw(st.integers(0, n))
    low, high = statistics.wilson(k, n, confidence)
    assert 0 <= low <= k/n + 1e-9 and k/n - 1e-9 <= high <= 1
    wide = statistics.wilson(k, n, (1 + confidence)/2)
    assert wide[0] <= low + 1e-9 and high <= wide[1] + 1e-9


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 1)), min_size=2,
                unique_by=lambda v: v[0]))
def test_area_lies_between_the_extremes(points):
    e, a = zip(*sorted(points))
    if e[-1] - e[0] < 1e-6 or min(np.diff(e)) == 0: return
    assert min(a) - 1e-9 <= statistics.auc(e, a) <= max(a) + 1e-9
    refused(lambda: statistics.auc(e[::-1], a), 'increasing')
    refused(lambda: statistics.auc(e[:1], a[:1]), 'two or more')


@given(cases(), st.floats(0, 2), st.sampled_from(NORMS))
def test_a_constant_classifier_reaches_no_upper_bound(c, eps, norm):
    top = curves.accuracy_upper_bound(c.x, c.y, eps, norm)
    most = c.y.bincount().max().item()/len(c.y)
    assert most - 1e-7 <= top <= 1 # the same answer always is robust


# ---- the masking report

@given(cases(least=2, classes=(4, 5)), st.sampled_from([.05, .3, 2.]))
def test_the_report_is_whole(c, eps):
    net = c.net()
    with torch.no_grad(): c.y = net.eval()(c.x).argmax(1)
    with untouched(net):
        d = diagnose(net, c.x, c.y, eps=eps, steps=2, queries=3,
                     autoattack=dict(version='rand', steps=2, restarts=1))
    assert len(d) == 18 and set(d.verdict) <= {'ok', 'suspicious', 'not run'}
    assert (d.value.isna() == (d.verdict == 'not run')).all()
    ran = d[d.verdict != 'not run']
    assert (ran.low <= ran.value + 1e-9).all()
    assert (ran.value <= ran.high + 1e-9).all()
    same = compare_diagnoses(d, d)
    assert not {'more', 'less'} & {*same.verdict}


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=60),
       st.sampled_from(['paired', 'share', 'median']),
       st.floats(1e-4, .4))
def test_an_amount_lies_in_its_interval(v, kind, level):
    if kind != 'paired': v = [abs(u) for u in v] # shares, and FOSC
    value, low, high = bounds(v, kind, level)
    assert low <= value + 1e-9 and value <= high + 1e-9
    wider = bounds(v, kind, level/2)
    assert wider[1] <= low + 1e-9 and high <= wider[2] + 1e-9


@given(cases(least=1), st.floats(1e-3, 3), st.sampled_from(NORMS))
def test_fosc_is_a_share_of_what_can_be_climbed(c, eps, norm):
    g = torch.randn(c.x.shape, generator=generator(0))
    best, worst = (
        (c.x + attacks.NORMS[norm].steepest(s*g, c.x, eps)).clamp(0, 1)
        for s in (1, -1))
    for x_adv, want in ((best, 0), (worst, 1)):
        found = fosc(x_adv, c.x, g, eps, norm)
        assert (found - want).abs().nan_to_num(0).max() < .02


@given(st.data(), in_float32)
def test_the_report_refuses_bad_input(draw, c):
    net = c.net()
    x, y, bad, words = draw.draw(spoiled(c, eps=BAD_NUMBERS + [(0, 'eps')],
                                         norm=[('l3', 'norm')]))
    with untouched(net):
        refused(lambda: diagnose(net, x, y, **{'eps': .1, **bad}), words)


@given(in_float32, st.sampled_from([*ODD_MODELS]))
def test_the_report_refuses_odd_models(c, odd):
    f, words = ODD_MODELS[odd]
    with untouched(net := c.net(f)):
        refused(lambda: diagnose(net, c.x, c.y, eps=.1), words)


@given(in_float32, st.floats(0, .5), st.integers(2, 5))
def test_a_loss_surface_has_its_points(c, eps, points):
    with untouched(net := c.net()):
        t = loss_surface(net, c.x[:1], c.y[:1], eps=eps, points=points)
    assert len(t) == points**2 and np.isfinite(t.loss).all()


# ---- transfer

@given(in_float32, st.sampled_from(CALM), st.floats(.01, 2),
       st.integers(1, 7))
def test_transfer_counts_every_image(c, name, eps, size):
    nets = dict(a=c.net(), b=c.net(seed=c.seed + 7))
    with untouched(*nets.values()):
        t = transfer(nets, nets, c.x, c.y, eps=eps, attack=name,
                     batch_size=size, **QUICK[name])
    assert len(t) == 4 and (t.n == len(c.x)).all()
    assert (t.right <= t.n).all() and (t.low <= t.accuracy + 1e-12).all()
    assert (t.accuracy <= t.high + 1e-12).all()


@given(st.data(), in_float32, st.sampled_from([*ODD_MODELS]))
def test_transfer_refuses_bad_input(draw, c, odd):
    net, (f, words) = c.net(), ODD_MODELS[odd]
    call = lambda s, t, x=c.x, y=c.y, **kw: transfer(
        s, t, x, y, **{'eps': .1, 'attack': 'fgsm', **kw})
    with untouched(net, broken := c.net(f)):
        refused(lambda: call(dict(a=net), dict(a=broken)), words)
        refused(lambda: call(dict(a=broken), dict(a=net)), words)
        refused(lambda: call({}, dict(a=net)), 'sources')
        refused(lambda: call(dict(a=net), [net]), 'targets')
        x, y, bad, words = draw.draw(spoiled(c,
            eps=BAD_NUMBERS + [(0, 'eps')], batch_size=[
                (0, 'batch_size'), (.5, 'batch_size'), (None, 'batch_size')]))
        refused(lambda: call(dict(a=net), dict(a=net), x, y, **bad), words)


# ---- discriminator and losses

@st.composite
def features_pairs(draw, least=2, dtypes=('float32', 'float64')):
    "h, h_adv, y, number of classes."
    n, d = draw(st.integers(least, 9)), draw(st.integers(2, 4))
    g = generator(draw(seeds))
    dtype = getattr(torch, draw(st.sampled_from(dtypes)))
    h, h_adv = torch.randn(2, n, d, generator=g).to(dtype)
    k = draw(st.integers(1, 4))
    return h, h_adv, torch.randint(k, (n,), generator=g), k


def bad_pairs(h, h_adv, y, k):
    "The same with one thing spoiled."
    return [(h*NAN, h_adv, y, 'NaN'), (h, h_adv/0, y, 'NaN|infinit'),
            (h.long(), h_adv, y, 'float'), (h, h_adv[:-1], y, r'\('),
            (h, h_adv[:, :1], y, r'\('), (h[:0], h_adv[:0], y[:0],
            'label|numbers|empty|shape|two'), (h[0], h_adv[0], y, r'\('),
            (h, h_adv, y.double(), 'int64'), (h, h_adv, y[:, None], r'\('),
            (h.numpy(), h_adv, y, 'tensor'), (h, h_adv, y + k, 'labels must'),
            (h, h_adv, y - k, 'labels must')]


@given(features_pairs(least=1), st.integers(0, 2), st.booleans(),
       st.booleans())
def test_the_discriminator_answers_in_one_number(v, depth, spectral, project):
    h, _, y, k = v
    Da = Discriminator(h.shape[1], k, depth=depth, spectral_norm=spectral,
                       projection=project).to(h).eval()
    out = Da(h, y)
    assert out.shape == y.shape and out.isfinite().all()
    assert torch.allclose(torch.cat([Da(h[:1], y[:1]), Da(h[1:], y[1:])]),
                          out, atol=1e-5)
    refused(lambda: Da(h[:, :1], y), r'features .* got')
    refused(lambda: Da(h, y[:-1]), r'labels .* got')
    refused(lambda: Da(h.long(), y), 'floating')
    refused(lambda: Da(h, y.int()), 'int64')
    if project: refused(lambda: Da(h, y + k), 'labels must lie')


@given(st.sampled_from(['n_features', 'n_classes', 'depth']),
       st.sampled_from([-1, 2.5, None, '3', True]))
def test_a_discriminator_of_bad_size_is_refused(what, v):
    kw = dict(n_features=2, n_classes=2, depth=1) | {what: v}
    refused(lambda: Discriminator(**kw), what)


@given(st.data(), features_pairs(least=4), st.integers(0, 3),
       st.integers(1, 3))
def test_a_probe_learns_or_refuses(draw, v, steps, every):
    *features, k = v
    probe = lambda **kw: DiscriminatorProbe(**dict(
        n_classes=k, steps=steps, every=every) | kw)
    a, b = probe().fit(*features), probe().fit(*features)
    assert a.curve.equals(b.curve) and 0 <= a.accuracy() <= 1
    t = a.curve
    assert t.accuracy.between(0, 1).all() and t.step.max() == steps
    assert (t.low <= t.accuracy + 1e-12).all()
    assert (t.accuracy <= t.high + 1e-12).all()
    *bad, words = draw.draw(st.sampled_from(bad_pairs(*v)))
    refused(lambda: probe().fit(*bad), words)
    for kw in (dict(steps=-1), dict(steps=.5), dict(batch_size=0),
               dict(batch_size=1.5), dict(n_classes=0), dict(n_classes=1.5),
               dict(every=0), dict(every=.5)):
        refused(lambda: probe(**kw), [*kw][0])
    for n in (0, 3, -1, 4.5):
        refused(lambda: random_halves(n, 0), 'halved|n=')


@given(features_pairs(least=1, dtypes=FLOATS), st.sampled_from([*GAMES]))
def test_games_are_averages(v, name):
    game, (c, p) = GAMES[name], (t[:, 0] for t in v[:2])
    both, own = game.discriminator(c, p), game.embedding(p)
    one = [game.discriminator(c[i:i + 1], p[i:i + 1]) for i in range(len(c))]
    assert torch.allclose(torch.stack(one).mean(), both, atol=2e-2)
    assert own.shape == () and own.isfinite()
    if name != 'wgan': assert both >= 0
    for bad in (p[:-1], p[:, None], p[:0], p.long(), p.tolist(), None):
        refused(lambda: game.discriminator(c, bad), 'a loss needs')
    for bad in (p[:, None], p[:0], p.long(), None):
        refused(lambda: game.embedding(bad), 'a loss needs')


@given(features_pairs(), seeds)
def test_the_penalty_is_no_less_than_0(v, seed):
    h, h_adv, y, k = v
    Da = Discriminator(h.shape[1], k, depth=1).to(h)
    p = gradient_penalty(Da, h, h_adv, y, generator(seed))
    assert p >= 0 and p.isfinite()
    for bad in (h_adv[:-1], h_adv[:, :1], h_adv.long(), h_adv[0]):
        refused(lambda: gradient_penalty(Da, h, bad, y), 'a loss needs')
    refused(lambda: gradient_penalty(Da, h, h_adv, y + k), 'labels must lie')


@given(features_pairs(least=1, dtypes=FLOATS), st.floats(0, 10))
def test_divergences_are_no_less_than_0(v, beta):
    z, z_adv, y, k = v
    y = y % z.shape[1]
    assert (kl(z, z_adv) >= -1e-2).all() and kl(z, z).abs().max() <= 1e-3
    loss = trades_loss(z, z_adv, y, beta)
    clean = nn.functional.cross_entropy(z, y)
    assert loss >= clean - 1e-2*(1 + beta) and loss.isfinite()
    assert trades_loss(z, z_adv, y, 0).equal(clean)
    assert sensitivity_loss(z, z_adv) >= 0 == sensitivity_loss(z, z)
    for bad in (z_adv[:-1], z_adv[:, :1], z_adv.long(), z_adv[0], None):
        for f in (kl, sensitivity_loss,
                  lambda a, b: trades_loss(a, b, y, beta)):
            refused(lambda: f(z, bad), 'a loss needs')
    for b in (-1, NAN, INF):
        refused(lambda: trades_loss(z, z_adv, y, b), 'beta')
    for bad in (y + z.shape[1], y - 9, y.double(), y[:-1], None):
        refused(lambda: trades_loss(z, z_adv, bad, beta), 'labels must')


@given(st.sampled_from(['nt', 'at', 'trades', 'rm', 'afd']),
       st.sampled_from([0., .1, .3]), st.integers(2, 5), st.integers(0, 9))
def test_a_step_of_each_method_is_finite_and_puts_all_back(name, eps, n, seed):
    from afd_nb.method.networks import create_model
    model = create_model('small', (1, 8, 8), 3, seed=seed).train()
    m = get_method(name)(model, Recipe(method=name, eps=eps, steps=2),
                       generator(seed))
    g = generator(seed)
    x, y = torch.rand(n, 1, 8, 8, generator=g), torch.arange(n) % 3
    assert all(math.isfinite(v) for v in m.step(x, y).values())
    assert all(v.training for v in model.modules())
    assert all(p.requires_grad and p.grad is None
               for p in model.parameters())
    for bad, words in ((x*2 + .1, r'\[0, 1\]'), (x.long(), 'floating')):
        if name != 'nt': refused(lambda: m.step(bad, y), words)
    if name not in ('nt', 'trades'):
        refused(lambda: m.step(x, y + 3), 'labels must lie')


# ---- analyses

def bad_models(c):
    "Models whose features cannot be looked at, and what is said."
    class Of(Net):
        def __init__(self, f):
            super().__init__(c.d, c.classes)
            self.f = f
        def features(self, x): return self.f(super().features(x))
        def forward(self, x): return self.Dc(super().features(x))
    return [(Of(lambda h: h*NAN), 'NaN'), (Of(lambda h: h/0), 'infinit'),
            (Of(lambda h: h.long()), 'floating point'),
            (Of(lambda h: h[:, 0]), 'must give a tensor'),
            (Of(lambda h: None), 'must give a tensor'),
            (nn.Flatten(), 'no features'), (len, 'torch.nn.Module'),
            (c.net(dtype=torch.float64), 'the model is')]


some = cases(least=2, classes=(3, 4))
EPS = dict(eps=BAD_NUMBERS)
BATCH = dict(batch_size=[(0, 'batch_size'), (-1, 'batch_size'),
                         (1.5, 'batch_size'), (None, 'batch_size')])
GRID = dict(epsilons=[([], 'epsilons'), ([-.1], 'eps'), ([.1, .1], 'twice'),
                      ([NAN], 'eps'), ([.1, INF], 'eps'), (-1, 'eps')])


@given(st.data(), some, st.integers(1, 7))
def test_features_do_not_depend_on_the_batch(draw, c, size):
    net = c.net()
    with untouched(net):
        h = representations.represent(net, c.x, size)
        assert torch.allclose(h, representations.represent(net, c.x),
                              atol=1e-5)
        a = representations.resolve_attack('pgd', steps=2)
        for (h, h_adv) in representations.pairs(net, c.x, c.y, a, 0., size):
            assert torch.allclose(h, h_adv, atol=1e-5)
        x, y, bad, words = draw.draw(spoiled(c, **BATCH, **EPS))
        refused(lambda: [*representations.pairs(
            net, x, y, a, **{'eps': .1, **bad})], words)
    net, words = draw.draw(st.sampled_from(bad_models(c)))
    refused(lambda: representations.represent(net, c.x), words)


@given(some, st.sampled_from(['E', 'Dc', 'drop']), st.booleans())
def test_features_of_a_layer_are_flat(c, layer, pool):
    with untouched(net := c.net().eval()):
        h = features_of(net, layer, pool)(c.x)
    assert h.ndim == 2 and len(h) == len(c.x)
    refused(lambda: features_of(net, 'magic'), 'layer')
    refused(lambda: features_of(nn.Flatten()), 'features')
    refused(lambda: features_of(None), 'torch.nn.Module')


@given(st.data(), some, grids)
def test_sensitivity(draw, c, epsilons):
    net, epsilons = c.net(), sorted({0., *epsilons})
    with untouched(net):
        t = sensitivity.sensitivity(net, c.x, c.y, epsilons=epsilons, steps=2)
        assert len(t) == len(epsilons)*len(c.x)
        assert (t[t.eps == 0].sensitivity == 0).all()
        assert (t.sensitivity >= 0).all()
        x, y, bad, words = draw.draw(spoiled(c, **GRID, **BATCH))
        refused(lambda: sensitivity.sensitivity(
            net, x, y, **{'steps': 2, **bad}), words)
    net, words = draw.draw(st.sampled_from(bad_models(c)))
    refused(lambda: sensitivity.sensitivity(net, c.x, c.y, steps=2), words)


@given(features_pairs(), st.lists(st.floats(0, 1), max_size=6))
def test_changes_and_their_tests(v, p):
    h, h_adv, y, k = v
    s = sensitivity.relative_change(h, h_adv)
    assert s.shape == y.shape and (s >= 0).all()
    assert (sensitivity.relative_change(h, h) == 0).all()
    for bad in (h_adv*NAN, h_adv[:-1], h_adv[:, :1], h_adv.long(), h_adv[0]):
        refused(lambda: sensitivity.relative_change(h, bad), 'NaN|needs')
    q = holm(p)
    assert (q >= np.array(p)).all() and (q <= 1).all()
    assert -1 <= sensitivity.rank_biserial(p) <= 1
    for bad in (NAN, INF, -1.5, 1.5):
        refused(lambda: holm([*p, bad]), 'p=')
    refused(lambda: sensitivity.rank_biserial([*p, NAN]), 'nan')


@given(st.data(), some, st.integers(1, 7), st.sampled_from([*ODD_MODELS]))
def test_gradient_norms(draw, c, size, odd):
    net = c.net()
    with untouched(net):
        t = gradients.gradients(net, c.x, c.y)
        b = gradients.gradients(net, c.x, c.y, batch_size=size)
        seen = t.n > 0
        assert len(t) == c.classes**2 and (t['mean'][seen] >= 0).all()
        assert t['mean'][~seen].isna().all()
        assert np.allclose(t['mean'], b['mean'], atol=1e-5, equal_nan=True)
        x, y, bad, words = draw.draw(spoiled(c, **BATCH))
        refused(lambda: gradients.gradients(net, x, y, **bad), words)
    f, words = ODD_MODELS[odd]
    with untouched(net := c.net(f)):
        refused(lambda: gradients.gradients(net, c.x, c.y), words)
    refused(lambda: gradients.gradients(c.net(lambda z: z.detach()), c.x,
                                        c.y), 'gradient')
    refused(lambda: gradients.gradients(c.net(dtype=torch.float64), c.x,
                                        c.y), 'the model is')


@given(st.data(), some, st.integers(1, 7))
def test_dimensions(draw, c, size):
    net = c.net()
    with untouched(net):
        t = dimensions.dimensions(net, c.x, batch_size=size)
        x, _, bad, words = draw.draw(spoiled(c, **BATCH).filter(
            lambda v: v[1] is c.y))
        refused(lambda: dimensions.dimensions(net, x, **bad), words)
    assert (t.variance >= 0).all() and (np.diff(t.variance) <= 0).all()
    with torch.no_grad(): h = net.features(c.x).double()
    total = h.var(0, correction=0).sum().item()
    assert math.isclose(t.variance.sum(), total, rel_tol=1e-4, abs_tol=1e-6)
    refused(lambda: dimensions.dimensions(net, c.x[:1]), 'two images')
    net, words = draw.draw(st.sampled_from(bad_models(c)))
    refused(lambda: dimensions.dimensions(net, c.x), words)
    for n in (0, len(h) + 1, 2.5):
        refused(lambda: dimensions.spectrum([h], n), 'rows|n=')
    for share in (0, 1.5, NAN):
        refused(lambda: dimensions.dimensions_summary(t, share), 'share')


@given(st.integers(8, 12), st.integers(2, 4), st.floats(.5, 40), seeds)
def test_maps(n, d, perplexity, seed):
    h = torch.randn(n, d, generator=generator(seed))
    xy = tsne.embed(h, perplexity=perplexity, seed=seed)
    assert xy.shape == (n, 2) and np.isfinite(xy).all()
    assert (xy == tsne.embed(h.numpy(), perplexity=perplexity, seed=seed)
            ).all()
    kept = tsne.neighbours_kept(h, xy, 3)
    assert kept.shape == (n,) and (0 <= kept).all() and (kept <= 1).all()


@given(st.data(), some, features_pairs())
def test_maps_refuse_bad_input(draw, c, v):
    h = v[0].repeat(8, 1)
    for bad, kw, words in ((h*NAN, {}, 'NaN'), (h/0, {}, 'infinit'),
                           (h[:7], {}, 'images'), (h[:, :1], {}, 'features'),
                           (h[0], {}, 'features'), (h*0, {}, 'the same'),
                           (h, dict(perplexity=0), 'perplexity'),
                           (h, dict(perplexity=NAN), 'perplexity')):
        refused(lambda: tsne.embed(bad, **kw), words)
    for k in (0, len(h), 1.5):
        refused(lambda: tsne.neighbours_kept(h, h[:, :2], k), 'k=')
    refused(lambda: tsne.neighbours_kept(h, h[:-1, :2]), 'go together')
    c = Case((8, *c.x.shape[1:]), c.classes, 'any', c.dtype, c.seed)
    with untouched(net := c.net()):
        x, y, bad, words = draw.draw(spoiled(c, **BATCH, perplexity=[
            (0, 'perplexity'), (INF, 'perplexity')], epsilons=[
            ([-.1], 'eps'), ([NAN], 'eps')]))
        refused(lambda: tsne.tsne(net, x, y, **{'steps': 2, **bad}),
                f'{words}|images')


@given(st.data(), cases(least=4, classes=(3, 4)))
def test_discriminator_curves(draw, c):
    net, curves = c.net(), discriminator_curves.discriminator_curves
    kw = dict(steps=2)
    with untouched(net):
        a = curves(net, c.x, c.y, eps=.1, **kw)
        assert a.equals(curves(net, c.x, c.y, eps=.1, **kw))
        x, y, bad, words = draw.draw(spoiled(c, **EPS, **BATCH, steps=[
            (0, 'steps'), (1.5, 'steps')]))
        refused(lambda: curves(net, x, y, **{'eps': .1, **kw, **bad}), words)
    net, words = draw.draw(st.sampled_from(bad_models(c)))
    refused(lambda: curves(net, c.x, c.y, eps=.1, **kw), words)
    for lacks in ('epoch', 'da_clean', 'da_adv'):
        h = pd.DataFrame(dict(epoch=[1], da_clean=[.5], da_adv=[.5]))
        refused(lambda: discriminator_curves.co_trained(h.drop(
            columns=lacks)), lacks)


@given(features_pairs(least=1, dtypes=FLOATS), st.floats(1e-3, 1e3))
def test_angles_lie_between_0_and_pi(v, scale):
    a, b, y, _ = v
    w = angles.angle(a, b)
    assert w.shape == y.shape
    assert (w.isnan() | (w >= 0) & (w <= math.pi + 1e-9)).all()
    d, c = a.double()*scale, a.double()
    one = angles.angle(c, d, tiny=0)
    assert (one.isnan() | (one < 1e-6)).all()
    for bad in (b*NAN, b/0, b[:-1], b[:, :1], b.long(), b[0], None):
        refused(lambda: angles.angle(a, bad), 'NaN|infinit|needs')
    for tiny in (-1, NAN): refused(lambda: angles.angle(a, b, tiny), 'tiny')


@given(st.data(), some, st.integers(1, 7), st.floats(.01, 1))
def test_angles_of_attacks(draw, c, size, eps):
    net = c.net()
    plan = [('pgd', zoo.attack('pgd-linf', steps=2), eps),
            ('signs', zoo.attack(angles.random_signs), eps)]
    call = lambda m=net, x=c.x, y=c.y, **kw: angles.angles(
        m, x, y, **{'attacks': plan, 'batch_size': size, **kw})
    with untouched(net):
        t = call()
        assert len(t) == 2*len(c.x)
        assert (t[t.attack == 'pgd'].angle.fillna(0) < 1e-6).all()
        x, y, bad, words = draw.draw(spoiled(c, **BATCH, attacks=[
            ([], 'attacks'), ([('pgd', plan[0][1], -1)], 'eps'),
            ([('pgd', plan[0][1], NAN)], 'eps')]))
        refused(lambda: call(x=x, y=y, **bad), words)
    net, words = draw.draw(st.sampled_from(bad_models(c)))
    refused(lambda: call(net), words)


@given(cases(dtypes=FLOATS), vast, seeds)
def test_random_signs(c, eps, seed):
    f = lambda **kw: angles.random_signs(
        None, c.x, None, **{'eps': eps, 'generator': generator(seed), **kw})
    assert f().equal(f()) and f(eps=0).equal(c.x)
    ball_holds(f(), c.x, eps, 'linf', c.dtype)
    for v, words in BAD_NUMBERS: refused(lambda: f(eps=v), words)


@given(st.sampled_from(['linf', 'l2', 'l1']), st.sampled_from([0, -1, NAN]))
def test_radii_of_plans(norm, bad):
    full = dict(linf=.1, l2=.2, l1=.3)
    for f in (sweeps.attacks_at, angles.angle_attacks):
        f('mnist', radii=full)
        refused(lambda: f('mnist', radii=full | {norm: bad}), 'eps')
        refused(lambda: f('mnist', radii={
            k: v for k, v in full.items() if k != norm}), f'lacks {norm}')
        refused(lambda: f('svhn'), 'dataset')


@given(st.data(), some, st.integers(1, 4),
       st.sampled_from([1e-9, .2, 3., 1e300]), st.sampled_from([*ODD_MODELS]))
def test_walks_toward_a_class(draw, c, steps, size, odd):
    net = c.net()
    with untouched(net):
        moved, g = features.walk(net, c.x, c.y, steps=steps, step_size=size)
        assert moved.shape == g.shape == c.x.shape and g.isfinite().all()
        assert 0 <= moved.min() and moved.max() <= 1
        far = (moved - c.x).flatten(1).norm(dim=1).max()
        assert far <= min(steps*size, c.d**.5)*(1 + 1e-5) + 1e-5
        x, y, bad, words = draw.draw(spoiled(c, steps=[
            (0, 'steps'), (1.5, 'steps')], step_size=[
            (0, 'step_size'), (NAN, 'step_size'), (INF, 'step_size')]))
        for f in (features.walk, features.features):
            refused(lambda: f(net, x, y, **{'steps': 2, **bad}), words)
        t = features.features(net, c.x, c.y, steps=2)
        assert t[['before', 'after', 'moved']].stack().between(0, 1).all()
    f, words = ODD_MODELS[odd]
    for call in (features.walk, features.features):
        with untouched(net := c.net(f)):
            refused(lambda: call(net, c.x, c.y, steps=2), words)
    refused(lambda: features.walk(c.net(lambda z: z.detach()), c.x, c.y),
            'gradient')


@given(st.floats(0, 1), st.integers(1, 40), seeds, st.floats(0, 3),
       st.sampled_from(['gradient', 'pgd']))
def test_the_toy_of_theorem_1(keep, n, seed, size, policy):
    x, t = theorem.toy_data(n, seed)
    toy = theorem.Toy(keep)
    p = toy(x).softmax(1)
    assert p.shape == (n, 2) and p.isfinite().all()
    moved = theorem.toy_attack(toy, x, t, policy=policy, size=size)
    far = (moved - x).norm(dim=1).max()
    assert moved.shape == x.shape
    if policy == 'pgd': assert far <= size*(1 + 1e-5) + 1e-5
    for v in (-.1, 1.1, NAN): refused(lambda: theorem.Toy(v), 'keep')
    for v in (0, -3, 2.5): refused(lambda: theorem.toy_data(v), 'n=')
    for v in (-1, NAN, INF):
        refused(lambda: theorem.toy_attack(toy, x, t, policy=policy, size=v),
                'size')
    refused(lambda: theorem.toy_attack(toy, x, t, policy='magic', size=1),
            'policy')
    for bad in (t + 2, t - 2, t.double(), t[:, None]):
        refused(lambda: theorem.likelihood_gradient(toy, x, bad), 'labels')
    for kw in (dict(n=99), dict(n=100.5), dict(keeps=[]), dict(policies=[])):
        refused(lambda: theorem.theorem(**kw), [*kw][0])


@given(st.data(), features_pairs(least=4), st.integers(0, 3))
def test_the_bound_is_made_of_its_terms(draw, v, steps):
    h, h_adv, y, k = v
    right = torch.arange(len(y)) % 2 == 0
    t = bound.bound_from(h, h_adv, y, right, ~right, steps=steps)
    for k in ('divergence', 'on_sample', 'ideal'):
        assert t[k].between(0, 2).all()
    assert np.allclose(t.bound, t.clean_error + t.on_sample/2 + t.ideal
                       + t.vc_term)
    for kw in (dict(delta=0), dict(delta=1.5), dict(delta=NAN)):
        refused(lambda: bound.bound_from(h, h_adv, y, right, right, steps=1,
                                         **kw), 'delta')


# ---- recipes

FIELDS = { # a field, and values that are none
    'dataset': ['svhn', None, 3], 'method': [None, 3], 'network': ['vgg', 3],
    'norm': ['l3', None, 3], 'attack': ['magic', None], 'game': ['go', None],
    'schedule': ['never', None], 'precision': ['int8', None],
    'eps': [-.1, NAN, INF, '1', True], 'steps': [-1, 2.5, '3', True],
    'step_size': [0, -1, NAN, INF, '1'], 'epochs': [0, 1.5, '2', True],
    'batch_size': [0, -1, 1.5, None, '2'], 'seed': [1.5, None, '0', True],
    'depth': [-1, 1.5, None], 'gp_weight': [-1, NAN, None],
    'da_steps': [0, 1.5], 'beta': [-1, NAN, INF, 'x'],
    'momentum': [-.1, NAN, INF], 'gamma': [-1, NAN], 'ema_decay': [-1, 1, NAN],
    'awp_gamma': [-.1, NAN, INF, None, '1'], 'select_by': ['best', None, 1],
    'lr_embedding': [-1, NAN, INF, 'x', None], 'weight_decay': [-1, NAN],
    'lr': [-1, NAN, None], 'wd_embedding': [-1, NAN, 'x'],
    'attack_objective': ['both', None], 'da_init': ['zeros', None],
    'joint_batch': [None, 1], 'on_failure': ['cry', None],
    'n_train': [0, -1, 1.5], 'n_valid': [0, 'x'], 'image_size': [0, 1.5],
    'milestones': [(1.5,), ('1',), 3, 'ab'], 'augment': [1, 'yes'],
    'projection': [None, 1], 'fuse_bn': [2, None], 'valid_steps': [0, None]}


@given(st.data(), st.sampled_from([*FIELDS]))
def test_recipes_refuse_bad_fields(draw, field):
    bad = draw.draw(st.sampled_from(FIELDS[field]))
    of = {} if field == 'method' else dict(method={
        'beta': 'trades', 'attack_objective': 'rm'}.get(field, 'afd'))
    refused(lambda: Recipe(**of, **{field: bad}), field)


@given(st.sampled_from(['digits', 'mnist', 'cifar10', 'folder']),
       st.sampled_from(['nt', 'at', 'trades', 'rm', 'afd']), radii,
       st.integers(0, 9), st.lists(st.integers(1, 99), max_size=3),
       st.integers(-9, 2**40))
def test_recipes_come_back_from_json(dataset, method, eps, steps, stones,
                                     seed):
    r = Recipe(dataset=dataset, method=method, eps=eps, steps=steps,
               milestones=stones, seed=seed)
    assert from_json(to_json(r)) == r
    fewer = {k: v for k, v in json.loads(to_json(r)).items()
             if k in ('dataset', 'method')}
    assert from_json(json.dumps(fewer)) == Recipe(dataset=dataset,
                                                  method=method)


@given(st.one_of(
    st.text(), st.recursive(st.none() | st.booleans() | st.floats()
                            | st.text(), st.lists).map(json.dumps),
    st.dictionaries(st.text(), st.integers(), min_size=1).map(json.dumps),
    st.sampled_from(['{', '[]', '{"eps": 1e999}', '{"eps": NaN}', '3',
                     '{"steps": 2.5}', 'null'])
    ).filter(lambda v: v.strip() != '{}'))
def test_what_is_no_recipe_is_refused(text):
    refused(lambda: from_json(text, 'r.json'), 'r.json|eps|steps')


# ---- data

@given(st.integers(1, 9), st.integers(1, 12), st.booleans(), seeds)
def test_batches_give_each_image_once(n, size, shuffled, seed):
    split = splits.TensorSplit(torch.rand(n, 1, 2, 2), torch.arange(n))
    f = lambda size=size: [*splits.batches(
        split, size, generator=generator(seed) if shuffled else None)]
    if shuffled and size > n: return refused(f, 'batch_size')
    seen = torch.cat([y for _, y in f()])
    assert len(seen.unique()) == len(seen) == (n//size*size if shuffled
                                               else n)
    for bad in (0, -1, 1.5, None, '2'):
        refused(lambda: f(bad), 'batch_size')
    for bad in (0, n + 1, .5): refused(lambda: splits.take(split, bad), 'n=')
    assert splits.take(split)[1].equal(split.y)
    refused(lambda: splits.TensorSplit(split.x, split.y[:-1]), 'go together')
    x = splits.augment_batch(split.x, generator(seed), pad=1)
    assert x.shape == split.x.shape and 0 <= x.min() and x.max() <= 1
    refused(lambda: splits.augment_batch(split.x, generator(0), pad=-1), 'pad')


@given(st.sampled_from([
    ('n_train', 0), ('n_train', 1.5), ('n_train', 10**6), ('n_valid', 0),
    ('n_valid', '3'), ('n_valid', 1437), ('image_size', 0),
    ('image_size', 2.5), ('workers', -1), ('workers', None), ('seed', 1.5),
    ('seed', None), ('device', 'magic'), ('device', 'cuda:77')]))
def test_load_data_refuses_bad_settings(bad):
    k, v = bad
    refused(lambda: data.load_data('digits', **{k: v}), k)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "An image folder of four images."
    from PIL import Image
    root = tmp_path_factory.mktemp('images')
    for part in ('train', 'test'):
        for k in range(4):
            d = root/part/'ab'[k % 2]
            d.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (4, 4), (60*k, 9, 9)).save(d/f'{k}.png')
    return root


def files():
    "Bytes of an image, true or torn, and its ending."
    import io
    from PIL import Image
    def image(kind, mode, size):
        out = io.BytesIO()
        Image.new(mode, size, 1).save(out, kind)
        return out.getvalue()
    kinds = [(k, m) for k in ('PNG', 'BMP', 'TIFF', 'GIF', 'PPM', 'JPEG')
             for m in ('L', 'RGB', 'P', '1', 'I;16', 'RGBA')
             if not (k == 'JPEG' and m in ('P', 'I;16', 'RGBA')
                     or k == 'PPM' and m == 'P'
                     or k in ('BMP', 'GIF') and m == 'I;16')]
    whole = st.builds(lambda km, w, h: (image(*km, (w, h)), km[0]),
                      st.sampled_from(kinds), st.integers(1, 5),
                      st.integers(1, 5))
    torn = st.builds(lambda v, at, b: (v[0][:at % len(v[0])] + b, v[1]),
                     whole, st.integers(0, 999), st.binary(max_size=9))
    noise = st.tuples(st.binary(max_size=60), st.just('PNG'))
    flipped = st.builds(lambda v, at, b: (
        v[0][:at % len(v[0])] + bytes([b]) + v[0][at % len(v[0]) + 1:], v[1]),
        whole, st.integers(0, 999), st.integers(0, 255))
    bmp = image('BMP', 'RGB', (4, 3)) # of which Pillow fears a bomb
    known = st.sampled_from([(b'P6\n4 .\n255\n' + 36*b'\1', 'PPM'), (
        bmp[:22] + b'\0\0\x0b\3' + bmp[26:], 'BMP')])
    return st.one_of(whole, torn, noise, flipped, known)


@pytest.mark.filterwarnings('ignore::UserWarning')
@given(st.data(), st.booleans(), st.sampled_from([None, 3]))
def test_an_image_folder_is_read_or_names_the_file(folder, draw, stream, size):
    content, kind = draw.draw(files())
    path = folder/'train'/'a'/f'odd.{kind.lower()}'
    path.write_bytes(content)
    try:
        d = data.load_data('folder', root=folder, n_valid=1, stream=stream,
                           image_size=size)
        xs = [x for split in (d.train, d.valid, d.test)
              for x, y in splits.batches(split, 2)]
    except ValueError as e: assert str(path) in str(e), e
    else:
        for x in xs:
            assert x.dtype == torch.float32 and x.shape[1:] == d.shape
            assert 0 <= x.min() and x.max() <= 1
    finally: path.unlink()


# ---- single cases, by page: a call, and a word that its error says

torch.manual_seed(0)
X, Y, NET = torch.rand(5, 1, 4, 4), torch.arange(5) % 4, Net(16, 4).eval()
H, R, C = torch.randn(8, 3), torch.arange(8) % 2 == 0, torch.arange(8) % 2
SURE = NET(X).argmax(1)
on = partial(evaluate, NET, X, SURE, attack='fgsm', epsilons=[.1])
all_on = partial(sweeps.evaluate_all, NET, (X, SURE))
number = lambda v: lambda: attacks.fgsm(NET, X, Y, eps=v)
REFUSED = {
 '00_core': [
    (number('a'), 'eps'), (number(None), 'eps'), (number(1j), 'eps'),
    (number(torch.rand(3)), 'eps'), (number(np.ones(3)), 'eps'),
    (number(True), 'eps'), (number(10**400), 'eps'),
    (lambda: check_labels(Y[:0]), 'labels'),
    (lambda: check_choice('norm', [], {'a': 1}), 'norm'),
    (lambda: check_choice('norm', 'x', [1, 'a']), 'norm'),
    (lambda: check_images(X.to(torch.float8_e4m3fn)), 'images'),
    (lambda: check_images(X.to_sparse()), 'images'),
    (lambda: check_images(X.to('meta')), 'images')],
 '07_attack_zoo': [
    (lambda: zoo.attack('pgd', n_steps=3), 'n_steps'),
    (lambda: zoo.attack('pgd', steps=-1), 'steps'),
    (lambda: zoo.attack(attacks.fgsm, steps=1), 'steps'),
    (lambda: zoo.attack('fgsm', seed=1.5), 'seed'),
    (lambda: zoo.attack('pgd', seed='a'), 'seed'),
    (lambda: zoo.attack('pgd-linf', step_size='a'), 'step_size'),
    (lambda: on(attack=lambda m, x, y, *, eps: None), 'attack gave')],
 '08_recipe': [
    (lambda: Recipe(method=[]), 'method'),
    (lambda: Recipe(steps=10**400), 'steps'),
    (lambda: Recipe(seed=10**30), 'seed'),
    (lambda: Recipe(milestones=(-3,)), 'milestones'),
    (lambda: Recipe(milestones=(True,)), 'milestones'),
    (lambda: from_json('['*100000, 'r.json'), 'r.json'),
    (lambda: from_json('{"steps": ' + '1'*5000 + '}', 'r.json'), 'r.json'),
    (lambda: from_json(b'\xff', 'r.json'), 'r.json'),
    (lambda: from_json(None, 'r.json'), 'r.json')],
 '12_evaluation': [
    (lambda: statistics.wilson(0, 0), 'n='),
    (lambda: statistics.wilson(5, 3), 'k'),
    (lambda: statistics.wilson(-1, 3), 'k'),
    (lambda: statistics.wilson(NAN, 3), 'k'),
    (lambda: statistics.wilson([1, 4], 3), 'k'),
    (lambda: statistics.wilson(1, 3, 1.), 'confidence'),
    (lambda: statistics.wilson(1, 3, -.5), 'confidence'),
    (lambda: statistics.auc([0, 1], [NAN, 1]), 'accuracy'),
    (lambda: statistics.auc([0, 1], [7, 1]), 'accuracy'),
    (lambda: statistics.auc([0, 1, 2], [1, 1]), 'area'),
    (lambda: statistics.auc([0, NAN], [1, 1]), 'area'),
    (lambda: statistics.auc([0, INF], [1, 1]), 'area'),
    (lambda: curves.accuracy_upper_bound(X, Y, .1, 'l3'), 'norm'),
    (lambda: curves.accuracy_upper_bound(X, Y, NAN), 'eps'),
    (lambda: curves.accuracy_upper_bound(X, Y, -1), 'eps'),
    (lambda: curves.accuracy_upper_bound(X*2, Y, .1), r'\[0, 1\]'),
    (lambda: curves.accuracy_upper_bound(X, Y[:2], .1), 'labels'),
    (lambda: curves.accuracy_upper_bound(X, Y.double(), .1), 'labels'),
    (lambda: curves.accuracy_upper_bounds(X, Y, .1, 3), 'norm'),
    (lambda: lowest.worst_case([]), 'evaluations'),
    (lambda: all_on([('fgsm', [.1])], n=2.5), 'n='),
    (lambda: all_on([('fgsm', [.1])], n=-2), 'n='),
    (lambda: all_on([('fgsm', [.1])], n=0), 'n='),
    (lambda: all_on([('fgsm', [.1])], batch_size=1.5), 'batch_size'),
    (lambda: all_on([]), 'attacks'), (lambda: all_on(['fgsm']), 'attacks'),
    (lambda: sweeps.evaluate_all(NET, X, [('fgsm', [.1])]), 'data'),
    (lambda: on(batch_size=2.5), 'batch_size'),
    (lambda: on(batch_size='2'), 'batch_size'),
    (lambda: on(epsilons='a'), 'epsilons'),
    (lambda: on(epsilons=None), 'epsilons'),
    (lambda: on(epsilons=[[.1, .2]]), 'epsilons'),
    (lambda: on(seed=1.5), 'seed'), (lambda: on(seed='a'), 'seed')],
 '13_masking': [
    (lambda: diagnose(NET, X, SURE, eps=.1, steps=0, queries=1,
                      autoattack=dict(version='rand', steps=1)), 'steps'),
    (lambda: diagnose(NET, X, SURE, eps=.1, steps=1, batch_size=0, queries=1,
                      autoattack=dict(version='rand', steps=1)),
     'batch_size'),
    (lambda: diagnose(NET, X, SURE, eps=.1, batch_size=2.5), 'batch_size'),
    (lambda: diagnose(NET, X, SURE, eps=.1, level=0), 'level')],
 '61_signs': [
    (lambda: row('more steps', NAN), 'no image'),
    (lambda: row('magic', 1), 'check')],
 '49_gradient_checks': [
    (lambda: loss_surface(NET, X, Y, eps=.1, points=3), 'one image'),
    (lambda: loss_surface(NET, X[:1], Y[:1], eps=NAN), 'eps'),
    (lambda: loss_surface(NET, X[:1], Y[:1], eps=.1, points=2.5), 'points'),
    (lambda: fosc(X, X, X, NAN), 'eps'),
    (lambda: fosc(X, X, X, .1, 'l3'), 'norm'),
    (lambda: fosc(X, X[:1], X, .1), 'alike')],
 '29_bound': [
    (lambda: bound.h_divergence(H, H[:5], C, steps=1), r'\('),
    (lambda: bound.h_divergence(H*NAN, H, linear=True), 'features hold'),
    (lambda: bound.h_divergence(H, H[:, :1], linear=True), r'\('),
    (lambda: bound.divergence_of(R[:0], R[:0]), 'empty'),
    (lambda: bound.divergence_of(R, R[:2]), 'alike'),
    (lambda: bound.divergence_of(H[:, 0], H[:, 1]), 'bool'),
    (lambda: bound.vc_term(2.5, 3), 'vc_dim'),
    (lambda: bound.bound_from(H, H, C, R[:3], R, steps=1), 'right'),
    (lambda: bound.bound_from(H, H, C, H[:, 0], R, steps=1), 'right'),
    (lambda: bound.bound_from(H, H, C[:4], R, R, steps=1), r'\(')]}


@pytest.mark.parametrize('f, words', [
    pytest.param(*case, id=f'{page}-{k}') for page, listed in REFUSED.items()
    for k, case in enumerate(listed)])
@pytest.mark.filterwarnings('ignore')
def test_refused_in_words(f, words): refused(f, words)


PARTS = {'own_attacks|fgsm|attack_method': 'own attacks',
         'library': "libraries' attacks", 'folder': 'image folders',
         'evaluation|sweeps|wilson|area|upper_bound|report|surface|transfer':
         'evaluation, masking report, transfer',
         'discriminator_answers|bad_size|probe|games|penalty|divergences|'
         'step_of': 'discriminator, losses, methods',
         'recipe': 'recipes', 'batches|load_data': 'data sets'}


@pytest.fixture(autouse=True)
def counted(request, tally):
    "How many cases a property was tried on, for the page of reliability."
    yield
    said = getattr(request.node, 'hypothesis_statistics', '')
    times = sum(map(int, re.findall(r'(\d+) passing', said)))
    part = next((v for k, v in PARTS.items()
                 if re.search(k, request.node.name)), 'analyses')
    if times: tally(f'bad and odd input: {part}', 'properties, on random '
                    'shapes, types, ranges, models: the documented result or '
                    'a ValueError or TypeError in words', times)
