"Two processes with half a batch each: the curve of one with the whole."
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from afd_nb.recipe import Recipe
from afd_nb.training import fit, load_run

SHORT = dict(batch_size=64, n_train=512, n_valid=101, epochs=2, steps=3,
             valid_steps=3)
RECIPES = {
    'afd': dict(method='afd'),
    'wgan': dict(method='afd', game='wgan', penalty=1., da_steps=2,
                 normalize_features=True, joint_batch=False),
    'augmented': dict(method='afd', augment=True, average=.9),
    'plain': dict(method='afd', fast=False, attack='apgd-ce', norm='l2',
                  eps=.5),
    'trades': dict(method='trades'),
    'rm': dict(method='rm', attack='mim'),
    'at': dict(method='at', norm='l1', eps=2.),
    'nt': dict(method='nt')}
SCRIPT = '''
import json, sys
from afd_nb.recipe import Recipe
from afd_nb.training import fit
recipes, root = json.loads(sys.argv[1]), sys.argv[2]
for name, r in recipes.items():
    fit(Recipe(**r), out=f'{root}/{name}', device='auto')
'''


def launch(*args, processes=2):
    done = subprocess.run(
        [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu',
         '--num_processes', str(processes), *map(str, args)], text=True,
        capture_output=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    return done


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    root = tmp_path_factory.mktemp('two')
    (root/'script.py').write_text(SCRIPT)
    recipes = {k: SHORT | r for k, r in RECIPES.items()}
    done = launch(root/'script.py', json.dumps(recipes), root)
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.mark.parametrize('name', RECIPES)
def test_the_curve_is_that_of_one_process(two, name):
    here = fit(Recipe(**SHORT | RECIPES[name])).history
    there = load_run(two/name)
    assert there.record['processes'] == 2
    losses = [c for c in here if c.startswith('loss')]
    first = (here[losses] - there.history[losses]).abs().iloc[0]
    assert (first < 1e-3*(1 + here[losses].iloc[0].abs())).all()
    for c in ('valid_clean', 'valid_robust'): # of 101 images
        assert (here[c] - there.history[c]).abs().max() < .06
    assert np.isfinite(there.history.values).all()


def test_a_batch_that_does_not_divide_is_refused(two):
    bad = {'odd': SHORT | dict(method='nt', batch_size=63)}
    done = launch(two/'script.py', json.dumps(bad), two)
    assert done.returncode != 0
    assert 'batch_size=63 cannot be shared evenly by 2' in done.stderr
    assert not (two/'odd').exists()


def test_commands_in_two_processes_as_on_the_page(tmp_path):
    train, evaluate = map(shutil.which, ('afd_train', 'afd_evaluate'))
    flags = [str(v) for k, v in SHORT.items() for v in (f'--{k}', v)]
    run = tmp_path/'run'
    done = launch(train, '--method', 'at', *flags, '--out', run)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('best epoch') == 1 # said once
    assert len(pd.read_csv(run/'history.csv')) == 2
    again = launch(train, '--method', 'at', *flags, '--out', run)
    assert again.returncode != 0 and 'is not empty' in again.stderr
    how = ['--n', 40, '--attacks', 'pgd', 'ddn', '--eps', .1, .5, '--steps',
           5, '--batch_size', 7]
    done = launch(evaluate, run, *how, '--store', tmp_path/'two')
    assert done.returncode == 0, done.stderr[-3000:]
    alone = subprocess.run([evaluate, str(run), *map(str, how), '--store',
                            str(tmp_path/'one')], text=True,
                           capture_output=True)
    table = lambda text: text[text.index('run '):].split()
    assert table(done.stdout) == table(alone.stdout)


def test_a_run_goes_on_with_another_number_of_processes(two, tmp_path):
    whole = load_run(two/'afd')
    r = Recipe(**SHORT | RECIPES['afd'])

    class Stop(Exception):
        pass

    def stop(*_, left=[12]):
        left[0] -= 1
        if not left[0]:
            raise Stop
    with pytest.raises(Stop):
        fit(r, out=tmp_path/'run', progress=stop)
    done = launch(shutil.which('afd_train'), '--resume', tmp_path/'run')
    assert done.returncode == 0, done.stderr[-3000:]
    here = load_run(tmp_path/'run').history
    assert torch.allclose(torch.tensor(here.loss_classifier.values),
                          torch.tensor(whole.history.loss_classifier.values),
                          atol=1e-2)
