"Every record is whole, and what the README claims of MNIST is in them."
import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from afd_nb.results.choice import unseen
from afd_nb.results.experiments import LEADING, OF_ROW, SELECTED
from afd_nb.results.paper import recorded_accuracy, recorded_answers
from afd_nb.robustness.records import over_seeds, read_record, read_results
from afd_nb.robustness.lowest_accuracy import yardstick
from afd_nb.support.comparison import compare, judge
from afd_nb.support.statistics import holm

ROOT = Path(__file__).resolve().parent.parent
OLD = ('74d8891b101f1d4526135b6416cbfa4b'
       'bac5e50cb57178734e5c7106415a768d')
RECORDS = sorted([*(ROOT/'results').glob('*/*/*.json'),
                  *(ROOT/'results'/'old').glob('*/*/*.json')])


@pytest.mark.parametrize('path', RECORDS, ids=lambda p: p.stem)
def test_record_is_whole_and_in_its_place(path):
    rec = read_record(path)
    r = rec['recipe']
    assert path.parts[-3:-1] == (r['dataset'], r['method'])
    assert rec['seconds'] > 0 and rec['versions']['torch']
    done = len(rec['history']['valid_robust'])
    assert done < r['epochs'] if 'stopped' in rec else done == r['epochs']
    # Table A2 twice, and the checks; since schema 2 with all answers
    assert path.stat().st_size < (40_000 if rec['schema'] == 1 else 150_000)
    assert max(map(len, path.read_text().splitlines())) < 6000 # a line a row


@pytest.mark.parametrize('path', [p for p in RECORDS if 'old' not in p.parts],
                         ids=lambda p: '-'.join(p.parts[-3:]))
def test_new_records_name_images_and_machine(path):
    rec = read_record(path)
    assert rec['schema'] == 2
    for row in rec['evaluations']:
        assert row['order'].startswith('shuffled-') and row['by_class']
        made = rec['measured'][row['measured']]
        assert made['threads'] > 0 and made['device']
        assert {'afd_nb', 'torch', 'foolbox', 'advertorch', 'pyautoattack'
                } <= set(made['versions'])
        counts, = [c['counts'] for c in rec['class_counts'] if all(
            c[k] == row[k] for k in ('split', 'order', 'n'))]
        assert sum(counts) == row['n']
        assert all(k <= of for k, of in zip(row['by_class'], counts))


@pytest.mark.parametrize('root', ['results', 'results/old'])
def test_a_worst_case_on_record_is_above_none_that_it_names(root):
    df, pairs = read_results(ROOT/root, '*/*/*.json'), 0
    for _, g in df.groupby(['dataset', 'method', 'run', 'split', 'order',
                            'norm', 'n', 'eps'], dropna=False):
        for w in g[g.attack == 'worst case'].itertuples():
            named = g[g.attack.isin(json.loads(w.settings)['of'])]
            assert named.groupby('attack').accuracy.max(
                ).ge(w.accuracy - 1e-9).all(), (w.method, w.run, w.eps)
            pairs += named.attack.nunique()
    assert pairs > 400


def numbers(path):
    "A hash of all that a record says, but how its recipe is written."
    rec = json.loads(path.read_text())
    said = {k: v for k, v in rec.items() if k not in ('recipe', 'checksum')}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()
                          ).hexdigest()


def test_older_records_say_what_they_said_when_they_were_written():
    "Recipes were rewritten once, when methods came to own their settings."
    old = [(p.relative_to(ROOT).as_posix(), numbers(p)) for p in sorted(
        (ROOT/'results'/'old').glob('*/*/*.json'))]
    assert hashlib.sha256(json.dumps(old).encode()).hexdigest() == OLD
    for p in RECORDS:
        r = read_record(p)['recipe']
        assert 'settings' in r and not {'game', 'beta', 'fast'} & r.keys()


def test_yardstick_of_older_records():
    old = read_results(ROOT/'results'/'old', 'mnist/*/seed*.json')
    t = yardstick(old)
    assert set(t.order) == {'as filed'} and not t.answers.any()
    assert (t.gap >= 0).all() and len(t) == len(old)
    worst = t[(t.attack == 'autoattack') & (t.norm == 'linf')]
    assert not worst.weak.any()
    l2 = t[(t.attack == 'pgd-l2') & (t.eps == 2) & (t.method == 'afd')]
    assert l2.weak.any() # AutoAttack leaves 2.5 % where this leaves 86.5


READ = read_results(ROOT/'results', 'mnist/*/*.json')


def found(method, attack, eps, variant='', n=1000, norm='linf'):
    return recorded_accuracy(READ, 'mnist', method, attack, eps, n=n,
                             variant=variant, norm=norm)


def test_what_the_readme_found_is_in_the_records():
    "Every number of the section, made again from the records."
    text = (ROOT/'README.md').read_text()
    text = text.split('## What was found')[1].split('\n## ')[0]
    afd, at = (found(m, 'autoattack', .3) for m in ('afd', 'at'))
    best = {m: recorded_accuracy(unseen(READ), 'mnist', m, 'autoattack', .3,
                                 n=1000, variant=v, norm='linf')
            for m, v in SELECTED.items()}
    pgd = [found(m, 'pgd', .3).mean for m in ('afd', 'at')]
    says = [f'{pgd[0]:.1f} % for AFD and {pgd[1]:.1f} % for',
            f'under AutoAttack, four attacks one after another, it is '
            f'{afd.mean:.1f} % and {at.mean:.1f} %',
            f'{afd.seeds} and {at.seeds} trainings',
            f'between {min(afd.values):.1f} and {max(afd.values):.1f} %',
            f'between {min(at.values):.1f} and {max(at.values):.1f} %',
            ', '.join(f"{best[m].mean:.1f} % for {name} ({best[m].seeds})"
                      for m, name in dict(afd='AFD', at='AT',
                                          trades='TRADES').items())]
    far = []
    for m in 'afd', 'at', 'trades':
        v, w = (found(m, 'autoattack', e, SELECTED[m], norm=norm)
                for e, norm in ((2., 'l2'), (.35, 'linf')))
        assert v.seeds == w.seeds == 5 # as the text says
        says.append(f'{v.mean:.1f} % for ')
        far.append(w.mean)
    says.append(f'at most {max(far):.1f} % at Linf eps 0.35')
    claims = pd.read_csv(ROOT/'results'/'verdict.csv')
    many = claims.verdict.value_counts()
    own = (claims.source == 'stated').sum()
    fresh = 50 + claims.value[claims.key == 'premise'].item()
    says += [f"Of {len(claims)} statements, {own} in the paper's words or "
             f'numbers and {len(claims) - own} that',
             f"{many['contradicted']} are contradicted and",
             f"{many['in the direction claimed']} are in the direction",
             f'right about {fresh:.0f} % in these']
    row, = claims[claims.key == 'dims'].itertuples()
    says += [row.ours.replace('AFD ', '').replace('AT ', '').replace(
        ', ', ' in place of ')]
    says += what_the_others_leave(claims)
    by_pgd = between('pgd', SELECTED)
    led = [found(f'{m}-tricks', 'autoattack', .3, LEADING[f'{m}-tricks'][0])
           for m in ('afd', 'at')]
    says += [f'it is {led[0].mean:.1f} % for AFD ({led[0].seeds}) and '
             f'{led[1].mean:.1f} % for AT ({led[1].seeds})']
    differ = (between('autoattack', SELECTED), between('autoattack', {}),
              by_pgd, between('autoattack', {m: LEADING[f'{m}-tricks'][0] for m
                              in ('afd', 'at')}, '-tricks'))
    gradients = compare(*map(after_the_gradients, ('afd', 'at')), images=1000)
    says += [f'{d.value:+.1f} [{d.low:.1f}, {d.high:.1f}]'
             for d in (*differ, gradients)]
    says += [f'(p {f"{by_pgd.p:.3f}"[1:]}; {f"{adjusted():.2f}"[1:]} adjusted']
    assert judge(by_pgd) == 'above' and judge(differ[0]) == 'undecided'
    missing = [s for s in says if s not in text]
    assert not missing, missing


def what_the_others_leave(claims):
    "ATES, DIAL, and what AutoAttack takes from two; none_above: of all."
    def of(m, attack): return recorded_accuracy(
        unseen(READ), 'mnist', m, attack, .3, n=1000, norm='linf',
        variant=OF_ROW.get(m, ''))
    others = claims[claims.key.str.endswith('-at-aa')]
    none_above = ~(others.verdict == 'in the direction claimed')
    assert len(others) == 7 and none_above.all()
    ates, dial = (of(m, 'autoattack') for m in ('ates', 'dial'))
    clothes = read_results(ROOT/'results', 'fashion-mnist/*/*.json')
    t = clothes[(clothes.attack == 'autoattack') & (clothes.eps > 0)]
    worn = 100*t.groupby('method').accuracy.max()
    assert worn.idxmax() == 'at'
    told = [(of(m, 'pgd').mean, of(m, 'autoattack').mean)
            for m in ('feature-scattering', 'llr')]
    for m in 'rst', 'jarn', 'rlfat': # fewer than a third is left of one
        assert min(of(m, 'autoattack').values) < 33
    return [f'ATES has {ates.mean:.1f} % ({ates.seeds})',
            f'images): {dial.mean:.1f} % ({dial.seeds})',
            'from {:.1f} % under PGD-40 to {:.1f} %, LLR'.format(*told[0]),
            'LLR from {:.1f} to {:.1f} %'.format(*told[1]),
            f"above AT ({worn['at']:.1f} %), nor is AFD ({worn['afd']:.1f} %)"]


def after_the_gradients(method):
    "Percent right before Square, of all plain trainings."
    rows = [v for k in range(10) for v in read_record(
        ROOT/f'results/mnist/{method}/seed{k}.json')['evaluations']
        if (v['attack'], v['eps'], v['norm'], v['n'], v['split'])
        == ('autoattack', .3, 'linf', 1000, 'test')]
    assert len(rows) == 10
    return [v['parts']['fab-t']/10 for v in rows]


def adjusted():
    "Holm's p of AFD less AT, chosen, under PGD-40, among In short's cells."
    def answers(of, attack, eps):
        m, _, chosen = of.partition(', ')
        return recorded_answers(
            unseen(READ), 'mnist', m.lower(), attack, eps, n=1000,
            variant=SELECTED[m.lower()] if chosen else '', norm='linf')
    pairs = [('AFD, chosen', 'AT, chosen'), ('AFD', 'AT'),
             ('AFD, chosen', 'TRADES, chosen'), ('AFD, chosen', 'AFD'),
             ('TRADES, chosen', 'AT, chosen'), ('AT, chosen', 'AT')]
    cells = ('pgd', .3), ('pgd', 0.), ('autoattack', .3)
    return holm([compare(answers(a, *c), answers(b, *c)).p
                 for a, b in pairs for c in cells])[0]


def between(attack, variants, more=''):
    "AFD less AT, over trainings that chose nothing and over images."
    return compare(*(recorded_answers(
        unseen(READ), 'mnist', m + more, attack, .3, n=1000,
        variant=variants.get(m, ''), norm='linf') for m in ('afd', 'at')))


def test_afd_on_mnist_three_seeds():
    df = read_results(ROOT/'results', 'old/mnist/afd/seed*.json')
    t = over_seeds(df[(df.attack == 'pgd') & (df.n == 1000)])
    clean, robust = (t[t.eps == e].iloc[0] for e in (0., .3))
    assert clean.seeds == robust.seeds == 3
    assert clean.worst >= .96
    assert robust['mean'] >= .75 and robust.worst >= .65
