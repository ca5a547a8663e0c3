"The recorded benchmark is whole, and was not bought with weaker attacks."
import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from afd_nb.robustness.sweeps import paper_attacks
from afd_nb.tools.bench import machine_name
from afd_nb.tools.growth import power

SPEED = Path(__file__).resolve().parent.parent/'results'/'speed'
FIELDS = 'name ours_s other_s ratio low high what'.split()
NAMES = {'afd_step', 'pgd', 'limit', 'attack_over_bare', 'autoattack', 'sweep',
         'training_afd', 'import'}
MACHINE = 'processor cores vector threads device torch'.split()


RECORDS = sorted(SPEED.glob('*.json'))


def test_there_is_a_record():
    assert RECORDS


@pytest.mark.parametrize('path', RECORDS, ids=lambda p: p.stem)
def test_record_of_the_benchmark(path):
    record = json.loads(path.read_text())
    assert [*record['machine']] == MACHINE
    assert machine_name(record['machine']) == path.stem
    entries = record['entries']
    assert all([*e] == FIELDS and e['what'] for e in entries)
    names = [e['name'] for e in entries]
    assert NAMES <= set(names) and len(set(names)) == len(names)
    for e in entries:
        assert e['ratio'] > 0
        if e['low'] is not None:
            assert e['low'] <= e['ratio'] <= e['high'], e['name']
            assert e['ours_s'] > 0 and e['other_s'] > 0


def test_autoattack_has_the_librarys_flags_where_it_was_timed():
    for path in RECORDS:
        e, = (e for e in json.loads(path.read_text())['entries']
              if e['name'] == 'autoattack')
        differ, n = map(int, re.search(r'flags differ on (\d+) of (\d+) '
                                       'images', e['what']).groups())
        assert differ == 0 and n >= 500
        assert 1.75 < e['ratio'] < 2.25 # the page of speed says twice


GROWTH = sorted(SPEED.glob('*.growth.csv'))


def test_there_is_a_record_of_growth():
    assert GROWTH


@pytest.mark.parametrize('path', GROWTH, ids=lambda p: p.stem)
def test_nothing_grows_faster_than_it_has_to(path):
    df = pd.read_csv(path)
    most = dict(images=1, steps=1, batch=0, side=2, classes=.2, width=2)
    memory = dict(images=1, steps=0, batch=1, side=2, classes=.2, width=1)
    assert {*most} == {*df.factor} - {'large'} == {*memory}
    slack = .3 # caches end before the images do; a square would be 1 more
    for k in most:
        g = df[df.factor == k]
        assert power(g[k], g.seconds) <= most[k] + slack, k
        assert power(g[k], g.bytes) <= memory[k] + slack, k
    large = df[df.factor == 'large'].set_index('network')
    assert large.images['small'] == 50_000 and (large.peak < 4e9).all()
    assert {'vit_b_16', 'convnext_tiny'} <= {*large.index}


SWEEPS = sorted(SPEED.glob('*.sweep.csv'))


def test_there_is_a_sweep():
    assert SWEEPS


@pytest.mark.parametrize('path', SWEEPS, ids=lambda p: p.stem)
def test_the_sweep_that_was_timed_is_no_weaker(path):
    with open(path) as f: rows = list(csv.DictReader(f))
    assert {r['model'] for r in rows} == {'afd', 'at'}
    cells = {(r['model'], r['attack'], float(r['eps'])) for r in rows}
    assert cells == {(m, a.name, float(e)) for m in ('afd', 'at')
                     for a in paper_attacks('mnist') for e in a.epsilons if e}
    for r in rows:
        assert int(r['n']) == 1000
        assert float(r['ours']) <= float(r['plain']), r
