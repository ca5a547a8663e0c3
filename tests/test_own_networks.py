"Networks of others: whatever `fit` accepts is read again, by every reader."
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from afd_nb.tools.analyses_command import afd_analyse
from afd_nb.tools.run_commands import afd_evaluate
from afd_nb.method.networks import NETWORKS
from afd_nb.method.baselines import NT
from afd_nb.method.losses import GAMES, Game
from afd_nb.method.recipe import Recipe
from afd_nb.method.settings import REGISTRY, Settings, setting
from afd_nb.method.run_folder import load_run
from afd_nb.method.training import fit


class Computes(nn.Module):
    "A constructor that needs the values of tensors."
    def __init__(self, shape):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(shape[1]**2, 12))
        self.scale = float(torch.linspace(0, 2, 5).numpy().mean())
        self.n_features = 12

    def forward(self, x): return self.net(x).relu()*self.scale


class Tied(nn.Module):
    "One layer under two names."
    def __init__(self, shape):
        super().__init__()
        self.down = nn.Linear(shape[1]**2, 12)
        self.first = self.second = nn.Linear(12, 12)
        self.n_features = 12

    def forward(self, x):
        return self.second(self.first(self.down(x.flatten(1)).relu()).relu())


class Extra(Tied):
    "Keeps something in its state that is no tensor."
    def get_extra_state(self): return dict(calls=1)
    def set_extra_state(self, state): pass


class Drops(Tied):
    "Draws from PyTorch's own generator as it trains."
    def forward(self, x): return nn.functional.dropout(
        super().forward(x), training=self.training)


@pytest.fixture
def registered(monkeypatch):
    for k in (Computes, Tied, Extra, Drops):
        monkeypatch.setitem(NETWORKS, k.__name__.lower(), k)


def recipe(network, **more):
    return Recipe(dataset='digits', method='at', network=network, epochs=2,
                  n_train=256, n_valid=64, batch_size=64, steps=1,
                  valid_steps=1, **more)


def test_a_network_that_is_not_here_says_what_to_import(tmp_path,
                                                        monkeypatch):
    with monkeypatch.context() as here:
        here.setitem(NETWORKS, 'tied', Tied)
        run = fit(recipe('tied'), out=tmp_path/'run', device='cpu',
                  progress=False)
    assert run.recipe.modules == dict(network=Tied.__module__)
    with pytest.raises(ValueError, match=f'--import {Tied.__module__}'):
        load_run(tmp_path/'run')
    with pytest.raises(ValueError, match=f'--import {Tied.__module__}'):
        fit(run.recipe, device='cpu', progress=False)


@dataclass(frozen=True)
class WaitsSettings(Settings):
    waits:int = setting(1, least=0) # batches without a step


class Waits(NT):
    Settings = WaitsSettings


def test_a_method_or_game_that_is_not_here_is_no_hindrance(tmp_path,
                                                           monkeypatch,
                                                           capsys):
    "What it trained is a network of ours: evaluating it asks for nothing."
    short = dict(dataset='digits', epochs=1, n_train=256, n_valid=64,
                 batch_size=64, steps=1, valid_steps=1)
    mine = Game(lambda c, p: (p - c).mean(), lambda p: -p.mean())
    with monkeypatch.context() as here:
        here.setitem(REGISTRY, 'waits', Waits)
        here.setitem(GAMES, 'mine', mine)
        for kw in (dict(method='waits', waits=3),
                   dict(method='afd', game='mine')):
            r = Recipe(**short, **kw)
            fit(r, out=tmp_path/r.method, device='cpu', progress=False)
    for kind in ('waits', 'afd'):
        run = load_run(tmp_path/kind)
        assert [*run.recipe.modules.values()] == [__name__]
        afd_evaluate(f'{tmp_path/kind} --n 9 --steps 1'.split())
        with pytest.raises(ValueError, match=f'--import {__name__}'):
            fit(run.recipe, out=tmp_path/kind, resume=True, device='cpu',
                progress=False)
    assert run.recipe.settings.game == 'mine'
    assert load_run(tmp_path/'waits').recipe.settings == dict(waits=3)


@pytest.mark.parametrize('name', ['computes', 'tied'])
@pytest.mark.parametrize('average', [0., .5])
def test_what_is_trained_is_read(registered, tmp_path, capsys, name, average):
    run = fit(recipe(name, ema_decay=average), out=tmp_path/'run',
              device='cpu', progress=False)
    again = load_run(tmp_path/'run')
    x = torch.rand(3, 1, 8, 8)
    assert again.model(x).equal(run.model.eval()(x))
    more = fit(recipe(name, ema_decay=average), out=tmp_path/'run',
               resume=True, device='cpu', progress=False)
    assert len(more.history) == 2
    afd_evaluate([str(tmp_path/'run'), '--n', '20', '--attacks', 'fgsm'])
    afd_analyse([str(tmp_path/'run'), '--n', '30', '--what', 'dimensions',
                 '--out', str(tmp_path/'out')])
    assert 'fgsm' in capsys.readouterr().out
    assert pd.read_csv(tmp_path/'out'/'dimensions.csv').width[0] == 12


def test_dropout_has_the_same_bits_again_also_after_a_stop(registered,
                                                           tmp_path):
    r, ticks = recipe('drops'), []
    def stop(): # in the second epoch
        ticks.append(1)
        if len(ticks) == 6: raise KeyboardInterrupt
    before = torch.random.get_rng_state()
    a = fit(r, device='cpu')
    assert torch.random.get_rng_state().equal(before) # put back
    torch.rand(3) # whatever else was drawn in between
    with pytest.raises(KeyboardInterrupt):
        fit(r, out=tmp_path/'run', device='cpu', progress=stop)
    b = fit(r, out=tmp_path/'run', device='cpu', resume=True)
    for k, v in a.model.state_dict().items():
        assert v.equal(b.model.state_dict()[k]), k
    assert a.history.equals(b.history)


def test_an_average_of_tied_layers_is_that_of_untied_ones(registered):
    "Averaged weights: the tied layer moves as far as the others."
    run = fit(recipe('tied', ema_decay=.5), device='cpu', progress=False)
    state = run.model.state_dict()
    assert state['E.net.first.weight'].equal(state['E.net.second.weight'])
    assert np.isfinite(run.history.select_dtypes('number').values).all()


def test_what_no_file_can_hold_is_refused_before_training(registered,
                                                          tmp_path):
    steps = []
    with pytest.raises(ValueError, match='_extra_state of the network'):
        fit(recipe('extra'), out=tmp_path/'run', device='cpu',
            progress=lambda *_: steps.append(1))
    assert not steps and not (tmp_path/'run').exists()


def test_a_training_on_a_gpu_keeps_cudnn(tmp_path):
    "cuDNN's switches inside `fit`; it was off, twenty times slower."
    backend, seen = torch.backends.cudnn, set()
    state = lambda: (backend.enabled, backend.deterministic,
                     backend.benchmark, backend.allow_tf32)
    before = state()
    fit(Recipe(dataset='digits', method='nt', epochs=1, n_train=128,
               n_valid=32, batch_size=64, valid_steps=1), device='cpu',
        progress=lambda *_: seen.add(state()))
    assert seen == {(before[0], True, False, False)} and state() == before


SWITCHES = '''
import torch
from afd_nb.support.freezing import full_float32
b = torch.backends
{}
def state():
    out = []
    for f in (lambda: b.cudnn.allow_tf32, lambda: b.cuda.matmul.allow_tf32,
              lambda: b.cudnn.conv.fp32_precision,
              lambda: b.cuda.matmul.fp32_precision):
        try: out.append(f())
        except RuntimeError: out.append('mixed')
    return out
before = state()
with full_float32(same_bits=True):
    with full_float32():
        inside = state()
        assert b.cudnn.enabled and b.cudnn.deterministic
assert 'tf32' not in inside and True not in inside, inside
assert state() == before, (before, state())
'''


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, 'conv'),
                    reason='this torch has one way to switch TF32')
@pytest.mark.parametrize('how', [
    '', "b.cuda.matmul.fp32_precision = 'tf32'",
    "b.cudnn.conv.fp32_precision = 'ieee'", "b.fp32_precision = 'tf32'",
    "torch.set_float32_matmul_precision('high')"])
def test_tf32_is_off_however_it_was_set(how, children, tmp_path):
    "Torch has two sets of switches and raises where they are mixed."
    children.finish(tmp_path/'log', 'python', SWITCHES.format(how))
