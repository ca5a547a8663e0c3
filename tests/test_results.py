"Every record is whole, and what the README claims of MNIST is in them."
from pathlib import Path

import pytest

from afd_nb.results import over_seeds, read_record, read_results

ROOT = Path(__file__).resolve().parent.parent
RECORDS = sorted([*(ROOT/'results').glob('*/*/seed*.json'),
                  *(ROOT/'results'/'old').glob('*/*/*.json')])


@pytest.mark.parametrize('path', RECORDS, ids=lambda p: p.stem)
def test_record_is_whole_and_in_its_place(path):
    rec = read_record(path)
    r = rec['recipe']
    assert path.parts[-3:-1] == (r['dataset'], r['method'])
    assert rec['seconds'] > 0 and rec['versions']['torch']
    assert len(rec['history']['valid_robust']) == r['epochs']
    assert path.stat().st_size < 40_000 # Table A2 twice, and the checks


def test_afd_on_mnist_three_seeds():
    df = read_results(ROOT/'results', 'old/mnist/afd/seed*.json')
    t = over_seeds(df[(df.attack == 'pgd') & (df.n == 1000)])
    clean, robust = (t[t.eps == e].iloc[0] for e in (0., .3))
    assert clean.seeds == robust.seeds == 3
    assert clean.worst >= .96
    assert robust['mean'] >= .75 and robust.worst >= .65
