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

from afd_nb.tools.run_commands import afd_evaluate
from afd_nb.method.recipe import Recipe
from afd_nb.method.run_folder import load_run
from afd_nb.method.training import fit

SHORT = dict(batch_size=64, n_train=256, n_valid=101, epochs=2, steps=3,
             valid_steps=3)
# the penalty divides by a gradient's norm: after a few steps rounding is seen
RECIPES = {
    'afd': dict(method='afd'),
    'wgan': dict(method='afd', game='wgan', gp_weight=1., da_steps=2,
                 normalize_features=True, joint_batch=False, n_train=192),
    'augmented': dict(method='afd', augment=True, ema_decay=.9),
    'plain': dict(method='afd', fuse_bn=False, attack='apgd-ce', norm='l2',
                  eps=.5),
    'trades': dict(method='trades'),
    'rm': dict(method='rm', attack='mim'),
    'at': dict(method='at', norm='l1', eps=2.),
    'nt': dict(method='nt')}
SCRIPT = '''
import json, sys
from afd_nb.method.recipe import Recipe
from afd_nb.method.training import fit
recipes, root = json.loads(sys.argv[1]), sys.argv[2]
for name, r in recipes.items():
    try: fit(Recipe(**r), out=f'{root}/{name}', resume=name == 'stopped')
    except (ValueError, OSError) as e: # a line in one write: two processes
        print(f'{name} refused: {e}\\n', end='', flush=True)
fit(Recipe(**recipes['nt']), out=f'{root}/nt')
'''


def launch(*args, processes=2):
    done = subprocess.run(
        [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu',
         '--num_processes', str(processes), *map(str, args)], text=True,
        capture_output=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    return done


class Stop(Exception):
    pass


def stopped(recipe, run):
    "Begin a run in this process, and stop after the first epoch."
    left = [6]

    def stop(*_):
        left[0] -= 1
        if not left[0]: raise Stop
    with pytest.raises(Stop):
        fit(recipe, out=run, progress=stop)
    assert len(load_run(run).history) == 1


@pytest.fixture(scope='module')
def launched(tmp_path_factory):
    "All that needs no command, in one launch: a launch takes seconds."
    root = tmp_path_factory.mktemp('two')
    (root/'script.py').write_text(SCRIPT)
    recipes = {k: SHORT | r for k, r in RECIPES.items()}
    stopped(Recipe(**recipes['afd']), root/'stopped')
    recipes |= {'odd': SHORT | dict(method='nt', batch_size=63),
                'stopped': recipes['afd']}
    return root, launch(root/'script.py', json.dumps(recipes), root)


@pytest.fixture(scope='module')
def two(launched):
    return launched[0]


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


def test_bad_input_is_refused_by_all_processes(launched):
    two, done = launched
    said = 'odd refused: batch_size=63 cannot be shared evenly by 2'
    assert done.stdout.count(said) == 2, done.stdout[-3000:]
    assert not (two/'odd').exists()
    assert done.returncode != 0 # the last one trains where a run is
    assert 'nt is not empty' in done.stderr


def test_commands_in_two_processes_as_on_the_page(tmp_path, capsys):
    train, evaluate = map(shutil.which, ('afd_train', 'afd_evaluate'))
    flags = [str(v) for k, v in SHORT.items() for v in (f'--{k}', v)]
    run = tmp_path/'run'
    done = launch(train, '--method', 'at', *flags, '--out', run)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('best epoch') == 1 # said once
    assert len(pd.read_csv(run/'history.csv')) == 2
    how = ['--n', 40, '--attacks', 'pgd', 'ddn', '--eps', .1, .5, '--steps',
           5, '--batch_size', 7]
    done = launch(evaluate, run, *how, '--store', tmp_path/'two')
    assert done.returncode == 0, done.stderr[-3000:]
    afd_evaluate([str(run), *map(str, how), '--store', str(tmp_path/'one')])
    alone = capsys.readouterr().out
    table = lambda text: text[text.index('run '):].split()
    assert table(done.stdout) == table(alone)


def test_a_run_goes_on_with_another_number_of_processes(two):
    whole, run = load_run(two/'afd'), load_run(two/'stopped')
    assert run.record['processes'] == 2
    here = run.history
    assert torch.allclose(torch.tensor(here.loss_classifier.values),
                          torch.tensor(whole.history.loss_classifier.values),
                          atol=1e-2)


def test_a_shared_mean_has_a_second_derivative(monkeypatch):
    "Batch norm over processes, in losses that hold an input gradient."
    from afd_nb.method import networks

    def with_a_process_of_zeros(tensors):
        for t in tensors: t.data.mul_(.5)
    monkeypatch.setattr(networks, 'mean_over', with_a_process_of_zeros)
    x = torch.tensor([3.], dtype=torch.double, requires_grad=True)
    # the mean is x/2, its square has the gradient x/2 and the slope 1/2
    g, = torch.autograd.grad(networks.Averaged.apply(x).square().sum(), x,
                             create_graph=True)
    slope, = torch.autograd.grad(g.sum(), x)
    assert g.item() == 1.5 and slope.item() == .5
