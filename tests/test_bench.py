"The recorded benchmark is whole, and was not bought with weaker attacks."
import csv
import json
from pathlib import Path

import pytest

from afd_nb.robustness.attack_zoo import paper_attacks

SPEED = Path(__file__).resolve().parent.parent/'results'/'speed'
FIELDS = 'name ours_s other_s ratio low high what'.split()
NAMES = {'afd_step', 'pgd', 'sweep', 'attack_over_bare', 'import'}


@pytest.mark.parametrize('path', sorted(SPEED.glob('*.json')),
                         ids=lambda p: p.stem)
def test_record_of_the_benchmark(path):
    entries = json.loads(path.read_text())
    assert all([*e] == FIELDS and e['what'] for e in entries)
    names = [e['name'] for e in entries]
    assert NAMES <= set(names) and len(set(names)) == len(names)
    for e in entries:
        assert e['ratio'] > 0
        if e['low'] is not None:
            assert e['low'] <= e['ratio'] <= e['high'], e['name']
            assert e['ours_s'] > 0 and e['other_s'] > 0


def test_the_sweep_that_was_timed_is_no_weaker():
    with open(SPEED/'cpu.sweep.csv') as f: rows = list(csv.DictReader(f))
    assert {r['model'] for r in rows} == {'afd', 'at'}
    cells = {(r['model'], r['attack'], float(r['eps'])) for r in rows}
    assert cells == {(m, a.name, float(e)) for m in ('afd', 'at')
                     for a in paper_attacks('mnist') for e in a.epsilons if e}
    for r in rows:
        assert int(r['n']) == 1000
        assert float(r['ours']) <= float(r['plain']), r
