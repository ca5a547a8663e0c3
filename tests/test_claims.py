"Claims are judged from either form of records, and never from a mixture."
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from afd_nb.results.claims import read_claims, read_side
from afd_nb.robustness.lowest_accuracy import Records
from afd_nb.results.judged_claims import judge_claims, read_claim
from afd_nb.robustness.verdict_words import ONE, RIGHT, WRONG, plot_claims
from afd_nb.method.recipe import Recipe
from afd_nb.support.curves import pack_answers
from afd_nb.robustness.records import record_text

ROOT = Path(__file__).resolve().parent.parent
CLAIMS = {c.key: c for c in read_claims(ROOT/'results')}


def row(attack, answers, eps=.3, norm='linf', new=True):
    "A row of a record, of either form."
    r = dict(attack=attack, norm=norm, settings={}, split='test',
             n=len(answers), eps=eps, right=int(answers.sum()), upper_bound=1.)
    return r | dict(order='shuffled-0', measured=0,
                    answers=pack_answers(answers)) if new else r


def write(root, method, seed, rows, new=True):
    "A record of a training that never was."
    recipe = Recipe(dataset='mnist', method=method, seed=seed)
    rec = dict(schema=1 + new, recipe=dataclasses.asdict(recipe),
               shortened=[], best_epoch=1, seconds=1., device='cpu',
               versions={}, history={}, evaluations=rows)
    if new: rec |= dict(measured=[{}], class_counts=[])
    file = root/'mnist'/method/f'seed{seed}.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(record_text(rec))


def answers(share, n=400, seed=0):
    return np.random.default_rng(seed).permutation(n) < share*n


def judged(key, root):
    return judge_claims([CLAIMS[key]], root).iloc[0]


def both_forms(root):
    "Old trainings say one thing, later ones the other."
    for s in range(3):
        for m, share in (('afd', .7 + s/100), ('at', .8 + s/100)):
            write(root/'old', m, s, [row('autoattack', answers(share),
                                         new=False)], new=False)
    for m, share in (('afd', .9), ('at', .8)):
        write(root, m, 0, [row('autoattack', answers(share))])


def test_forms_are_never_mixed(tmp_path):
    both_forms(tmp_path)
    t = judged('aa-at', tmp_path)
    assert (t.verdict, t['sample']) == (WRONG, 'old sample')
    assert t.value == pytest.approx(-10) and '10.0' in t.these_networks
    shutil.rmtree(tmp_path/'old')
    t = judged('aa-at', tmp_path) # new records only
    assert (t.verdict, t['sample'], t.test) == (ONE[RIGHT], '', 'McNemar')
    assert t.value == pytest.approx(10) and t.evidence.startswith(
        'results/mnist')


def test_old_records_alone(tmp_path):
    both_forms(tmp_path)
    shutil.rmtree(tmp_path/'mnist')
    t = judged('aa-at', tmp_path)
    assert t.verdict == WRONG and t.these_networks == ''


def test_one_training_never_contradicts(tmp_path):
    for m, share in (('afd', .5), ('at', .9)):
        write(tmp_path, m, 0, [row('autoattack', answers(share))])
    assert judged('aa-at', tmp_path).verdict == ONE[WRONG]


@pytest.mark.parametrize('sides', [('afd', 'at'), ('at', 'afd')])
def test_a_weak_attack_carries_nothing(tmp_path, sides):
    "Whichever of the two it flatters."
    for m, share in zip(sides, (.95, .6)):
        rows = [row('fgsm', answers(share)),
                row('autoattack', answers(.3 if share > .9 else .55))]
        write(tmp_path, m, 0, rows)
    t = judged('fgsm-at', tmp_path)
    assert t.verdict == 'attack too weak' and np.isnan(t.p)


def test_an_attack_that_nothing_was_held_against(tmp_path):
    for m, share in (('afd', .9), ('at', .6)):
        write(tmp_path, m, 0, [row('fgsm', answers(share))])
    assert judged('fgsm-at', tmp_path).verdict == 'attack not checked'


def test_equal_networks_are_equivalent_or_undecided(tmp_path):
    same = answers(.8, 2000)
    for m in ('afd', 'at'): write(tmp_path, m, 0, [row('autoattack', same)])
    assert judged('aa-at', tmp_path).verdict == 'equivalent'


def test_nothing_on_record(tmp_path):
    shutil.copytree(ROOT/'results'/'paper', tmp_path/'paper')
    t = judge_claims(root=tmp_path)
    assert set(t.verdict) == {'not run'} and len(t) == len(CLAIMS)


def test_areas_of_answers_are_paired(tmp_path):
    u = answers(.9)
    v = u & (np.random.default_rng(1).random(400) < .95)
    settings = '{"steps": 40, "rel_step": 0.033}'
    import json
    for m, a in (('afd', u), ('at', v)):
        write(tmp_path, m, 0, [
            row('pgd-linf', a if e else u, e) | dict(
                settings=json.loads(settings)) for e in (0., .1, .3)]
            + [row('autoattack', a, e) for e in (.1, .3)])
    r = read_claim(CLAIMS['area-pgd-linf'], Records(tmp_path))
    assert r.weak == '' and r.d.low > 0 and r.d.unit == 'one training'


def test_the_chosen_afd_is_reported_on_other_seeds():
    s = read_side(Records(ROOT/'results', old=True),
                  'afd/chosen under autoattack linf 0.3')
    assert set(s.rows.seed) == {1, 2}


def test_every_claim_has_its_place_in_the_paper():
    for c in CLAIMS.values():
        assert c.where and c.claim and c.sign in '><='
        assert (c.paper_a == c.paper_a) == (c.paper_b == c.paper_b), c.key
    assert sum(c.headline for c in CLAIMS.values()) <= 5


def test_printed_numbers_are_those_of_the_tables():
    import pandas as pd
    read = lambda k: pd.read_csv(next((ROOT/'results'/'paper').glob(
        f'{k}_*.csv'))).query("dataset == 'MNIST'")
    t1 = read('table1').query("replicated == 'yes'").set_index('method')
    t2, a3 = (read(k).set_index('method') for k in ('table2', 'tableA3'))
    a4, a5 = (read(k).set_index('method') for k in ('tableA4', 'tableA5'))
    assert CLAIMS['pgd-trades'].paper_b == t1.pgd_linf_wb['TRADES']
    assert CLAIMS['fgsm-bb-trades'].paper_b == t1.fgsm_bb['TRADES']
    for k in ('pgd-linf', 'pgd-l2', 'pgd-l1', 'fgsm', 'mim', 'ddn',
              'deepfool', 'cw'):
        c = CLAIMS[f'area-{k}']
        assert (c.paper_a, c.paper_b) == tuple(
            round(100*t2[k.replace('-', '_')][m]) for m in ('AFD', 'AT'))
    assert CLAIMS['aa-trades'].paper_b == a3.autoattack['TRADES']
    assert CLAIMS['at-transfer-trades'].claimed == pytest.approx(
        a4.at_transfer['AFD'] - a4.at_transfer['TRADES'])
    assert CLAIMS['units'].claimed == a5.units['AFD'] - a5.units['AT']


def test_the_picture_holds_only_what_was_judged(tmp_path):
    import matplotlib.pyplot as plt
    both_forms(tmp_path)
    t = judge_claims([CLAIMS[k] for k in ('aa-at', 'pgd-at')], tmp_path)
    ax = plot_claims(t)
    assert len(ax.get_yticklabels()) == 1 # the other was not run
    plt.close(ax.figure)
