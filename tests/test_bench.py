"The recorded benchmark is whole, and was not bought with weaker attacks."
import csv
import json
from pathlib import Path

import pytest

from afd_nb.robustness.attack_zoo import paper_attacks
from afd_nb.tools.bench import machine_name

SPEED = Path(__file__).resolve().parent.parent/'results'/'speed'
FIELDS = 'name ours_s other_s ratio low high what'.split()
NAMES = {'afd_step', 'pgd', 'limit', 'attack_over_bare', 'import'}
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
