"The report's own attacks: errors that are met and lost, features, old rows."
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from afd_nb.method.data import load_data
from afd_nb.method.pgd import pgd
from afd_nb.method.pretrained import load_model, load_sample
from afd_nb.robustness.attack_zoo import attack
from afd_nb.robustness.gradient_checks import (Watched, lost_errors,
                                               no_feature_gradient)
from afd_nb.robustness.masking import AttackRunner, diagnose
from afd_nb.robustness.masking_power import compare_diagnoses
from afd_nb.robustness.records import read_record
from afd_nb.robustness.signs import CHECKS, UNSURE, recorded_diagnosis
from afd_nb.support.norms import PerImage
from afd_nb.testing import Wrapped, digits_net

RESULTS = Path(__file__).resolve().parent.parent/'results'
NEW = 'transfer failure', 'silent success', 'feature attack'
QUICK = dict(eps=.15, steps=10, queries=50,
             autoattack=dict(steps=2, queries=20))


@pytest.fixture(scope='module')
def digits():
    test = load_data('digits').test
    return digits_net(80), test.x[:60], test.y[:60]


class InGradientMode(nn.Module):
    "Pixels are rounded, but not while gradients are asked for."
    def __init__(self, model):
        super().__init__()
        self.model = model
    def forward(self, x):
        return self.model(x if torch.is_grad_enabled() else
                          (2*x).round()/2)


def then_back(model, x, y, *, eps, generator=None):
    "PGD, and then its images undone: the last point is clean."
    model(pgd(model, x, y, eps=eps, steps=10, generator=generator))
    return x.clone()


@pytest.mark.parametrize('norm, eps', [('linf', .15), ('l2', 1.), ('l1', 5.)])
def test_what_was_met_is_an_error_in_ball_and_box(digits, norm, eps):
    net, x, y = digits
    w = Watched(net, x, y, eps=eps, norm=norm)
    pgd(w, x, y, eps=eps, norm=norm, steps=10, generator=PerImage(0))
    assert w.met.any() and (net(w.found[w.met]).argmax(1) != y[w.met]).all()
    far = (w.found - x).flatten(1).norm(
        p=dict(linf=float('inf'), l2=2, l1=1)[norm], dim=1)
    assert far.max() <= eps + 1e-6
    assert 0 <= w.found.min() and w.found.max() <= 1
    assert w.found[~w.met].equal(x[~w.met])


def test_order_and_parts_of_a_batch_do_not_matter(digits):
    net, x, y = digits
    v = pgd(net, x, y, eps=.2, steps=10, generator=PerImage(0))
    whole, parts = (Watched(net, x, y, eps=.2) for _ in range(2))
    whole(v)
    for i in torch.randperm(60, generator=torch.Generator().manual_seed(0)
                            ).split(7): parts(v[i])
    assert whole.met.equal(parts.met) and whole.found.equal(parts.found)
    far = Watched(net, x, y, eps=.01) # none of them is in this ball
    far(v)
    assert not far.met[(net(x).argmax(1) == y)].any()


@pytest.mark.parametrize('name', ['pgd', 'apgd', 'margin-pgd', 'pgd-linf',
                                  'targeted-pgd', 'feature', 'mim'])
def test_honest_attacks_lose_nothing(digits, name):
    net, x, y = digits
    a = attack(name, steps=10)
    for v in lost_errors(a.among(x, y), net, x, y, eps=.15):
        right = net(x).argmax(1) == y
        assert (np.isnan(v) == ~right.numpy()).all()
        assert np.nansum(v) <= 1


def test_the_planted_faults_fire_their_checks(digits):
    net, x, y = digits
    hard = Wrapped(net, before=lambda x: (2*x).round()/2)
    a, eps = attack('pgd', steps=10), dict(eps=.15)
    silent, moved = lost_errors(attack(then_back), net, x, y, **eps)
    assert np.nansum(silent) > 20 and not np.nansum(moved)
    for model, other in ((hard, net), (InGradientMode(net), None)):
        silent, moved = lost_errors(a, model, x, y, surrogate=other, **eps)
        assert np.nansum(moved) > 15 and not np.nansum(silent)
    whole = np.array(lost_errors(a, hard, x, y, surrogate=net, **eps))
    parts = np.array(lost_errors(a, hard, x, y, surrogate=net, size=7, **eps))
    assert np.array_equal(whole, parts, equal_nan=True)


def test_the_report_watches_the_attack_that_it_is_given(digits):
    net, x, y = digits
    before = [p.clone() for p in net.parameters()]
    d = diagnose(net, x, y, attack=then_back, **QUICK)
    verdict = d.set_index('check').verdict
    assert verdict['silent success'] == 'suspicious'
    assert (verdict.drop('silent success') == 'ok').all()
    assert d.about['attack'] == 'then_back'
    assert all(p.equal(q) for p, q in zip(net.parameters(), before))
    d = diagnose(InGradientMode(net), x, y, **QUICK).set_index('check')
    assert d.verdict['transfer failure'] == 'suspicious'


def test_features_behind_a_broken_decoder(digits):
    net, x, y = digits

    class Broken(nn.Module):
        "The right answers, the gradient of another decoder."
        def __init__(self):
            super().__init__()
            self.net, self.other = net, nn.Linear(net.Dc.in_features, 10)
            torch.nn.init.normal_(self.other.weight, generator=
                                  torch.Generator().manual_seed(0))
        def forward(self, x):
            h = self.net.features(x)
            z = self.other(h)
            return self.net.Dc(h).detach() + z - z.detach()
    d = diagnose(Broken(), x, y, **QUICK).set_index('check')
    assert d.verdict['feature attack'] == 'suspicious'
    assert d.verdict['target features'] == 'not run' # no .features


def test_what_has_no_features_or_answers_at_random_is_not_asked(digits):
    net, x, y = digits
    flat = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    assert 'name a layer' in no_feature_gradient(flat, x)
    blocked = Wrapped(net, before=lambda x: x.detach())
    assert 'no gradient' in no_feature_gradient(blocked, x)
    assert not no_feature_gradient(net, x)
    noisy = Wrapped(net, after=lambda z: z + torch.randn_like(z))
    d = diagnose(noisy, x[:12], y[:12], eps=.1, steps=2, queries=5,
                 autoattack=dict(version='rand', steps=2, restarts=1)
                 ).set_index('check').verdict
    assert d['random answers'] == 'suspicious'
    assert {d['transfer failure'], d['silent success']} == {'not run'}


def test_an_attack_of_another_norm_and_a_bad_surrogate_are_refused(digits):
    net, x, y = digits
    three = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)) # classes
    for odd, error, words in (
            (dict(attack='pgd-l2'), ValueError, 'in linf'),
            (dict(attack='magic'), ValueError, 'magic'),
            (dict(attack=3), TypeError, 'a name or a function'),
            (dict(surrogate=three), ValueError, 'label'),
            (dict(surrogate=len), TypeError, 'torch.nn.Module')):
        with pytest.raises(error, match=words):
            diagnose(net, x, y, **QUICK, **odd)


def test_older_reports_are_read_and_compared(digits):
    files = [p for p in RESULTS.glob('*/*/*.json')
             if json.loads(p.read_text()).get('diagnosis')]
    assert len(files) >= 10
    old = {}
    for p in files:
        rec = read_record(p)
        d = old[p] = recorded_diagnosis(rec)
        assert d.verdict.tolist() == [r['verdict'] for r in rec['diagnosis']]
        assert {*d.check} <= {*CHECKS} and len(d) in (14, 15, 18)
        assert not {'more', 'less'} & {*compare_diagnoses(d, d).verdict}
    net, x, y = digits
    new = diagnose(net, x, y, **QUICK)
    assert [*new.check] == [*CHECKS] and len(UNSURE) == 16
    of = next(d for p, d in old.items() if 'digits' in str(p))
    new.about |= {k: of.about[k] for k in ('eps', 'norm')}
    t = compare_diagnoses(new, of)
    assert set(t.check) == {*of.check} & {*new.check}
    assert not t.paired.fillna(False).any() # other images


@pytest.mark.slow
@pytest.mark.parametrize('name', ['mnist-nt', 'mnist-at', 'mnist-trades',
                                  'mnist-afd'])
def test_the_new_checks_are_silent_on_trained_networks(name):
    model, s = load_model(name), load_sample('mnist', 100)
    d = AttackRunner(model, s.x, s.y, eps=.3, norm='linf', steps=40,
                     autoattack={}, queries=1, seed=0, batch_size=100,
                     progress=None)
    rows = d.by_path(attack('pgd', steps=40)) + d.by_adaptive()
    said = {r['check']: r['verdict'] for r in rows}
    assert {said[k] for k in NEW} == {'ok'}, rows
