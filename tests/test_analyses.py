"The analyses at size, on strangers' models, on another device."
import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from afd_nb.representations import (discriminator_curves,
                                    robust_error_bound)
from afd_nb.representations.perturbation_angles import angles
from afd_nb.tools.analyses_command import afd_analyse
from afd_nb.representations.dimensionality import (dimensions,
                                                   dimensions_summary)
from afd_nb.representations.features import represent
from afd_nb.representations.feature_sensitivity import sensitivity
from afd_nb.robustness.attack_zoo import attack
from afd_nb.support.layers import features_of
from afd_nb.method.recipe import Recipe
from afd_nb.method.training import fit

ROOT = Path(__file__).resolve().parent.parent
PEAK = '''
import json, resource, sys, torch
from torch import nn
import afd_nb.representations.{home} as m
class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.E = nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU())
        self.Dc = nn.Linear(512, 10)
    def features(self, x): return self.E(x)
    def forward(self, x): return self.Dc(self.E(x))
n = int(sys.argv[1])
x, y = torch.rand(n, 1, 8, 8), torch.arange(n) % 10
from afd_nb.robustness.attack_zoo import attack
t = m.{call}
assert len(t)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024))
'''
CALLS = dict(
    sensitivity='sensitivity(Wide(), x, y, epsilons=[.1], steps=1)',
    gradients='gradients(Wide(), x, y)',
    dimensions='dimensions(Wide(), x)',
    angles="angles(Wide(), x, y, attacks=[('fgsm', attack('fgsm'), .1)]*2)",
    discriminator_curves='discriminator_curves(Wide(), x, y, eps=.1, '
                         "attack='fgsm', steps=3)",
    bound="bound(Wide(), x, y, eps=.1, attack='fgsm', steps=3)")


HOMES = dict(sensitivity='feature_sensitivity', gradients='input_gradients',
             dimensions='dimensionality', angles='perturbation_angles',
             discriminator_curves='discriminator_curves',
             bound='robust_error_bound')


@pytest.fixture(scope='module')
def peak(children, tmp_path_factory):
    "Peak memory in bytes of one analysis of n images, in a new process."
    log = tmp_path_factory.mktemp('peak')/'log'
    @cache
    def f(module, n):
        code = PEAK.format(home=HOMES[module], call=CALLS[module])
        said = children.finish(log, 'python', code, str(n))
        return json.loads(said.splitlines()[-1])
    return f


# three of them take most of a minute each
@pytest.mark.parametrize('module', [
    pytest.param(m, marks=pytest.mark.slow if m in (
        'discriminator_curves', 'bound', 'angles') else [])
    for m in CALLS])
def test_sixty_thousand_images_with_512_features_in_four_gb(module, peak):
    assert peak(module, 60_000) < 4e9


@pytest.mark.parametrize('module', ['sensitivity', 'gradients', 'dimensions'])
def test_memory_is_that_of_a_batch(module, peak):
    more = peak(module, 60_000) - peak(module, 6_000)
    # all features would be 110 MB more; the images themselves are 14 MB
    assert more < 80e6


@pytest.fixture(scope='module')
def resnet():
    from torchvision.models import resnet18
    torch.manual_seed(0)
    return resnet18(num_classes=10)


def test_any_torch_model_by_a_layers_name(resnet):
    x, y = torch.rand(6, 3, 32, 32), torch.arange(6)
    f = features_of(resnet, 'layer4')
    assert represent(f, x).shape == (6, 512)
    assert represent(features_of(resnet, 'layer2'), x).shape == (6, 128*16)
    assert represent(features_of(resnet, 'layer2', pool=True),
                     x).shape == (6, 128)
    t = sensitivity(f, x, y, epsilons=[0, .1], steps=2)
    assert (t[t.eps == 0].sensitivity == 0).all()
    assert (t[t.eps > 0].sensitivity > 0).all()
    assert dimensions_summary(dimensions(f, x)).width[0] == 512
    assert resnet.training and not resnet.layer4._forward_hooks
    with pytest.raises(ValueError, match='layer5'):
        features_of(resnet, 'layer5')


def test_an_attack_that_raises_leaves_the_model_as_it_was(resnet):
    x, y = torch.rand(2, 3, 32, 32), torch.arange(2)

    def broken(model, x, y, *, eps):
        raise RuntimeError('attack failed')
    with pytest.raises(RuntimeError, match='attack failed'):
        angles(features_of(resnet, 'layer4'), x, y,
               attacks=[('broken', attack(broken), .1)])
    assert resnet.training and not resnet.layer4._forward_hooks
    assert all(p.requires_grad for p in resnet.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_on_a_gpu_as_on_the_cpu(resnet):
    x, y = torch.rand(6, 3, 32, 32), torch.arange(6)
    on = {d: sensitivity(features_of(resnet.to(d), 'layer4'), x.to(d),
                         y.to(d), epsilons=[.1], attack='fgsm')
          for d in ('cpu', 'cuda')}
    pd.testing.assert_series_equal(on['cpu'].sensitivity,
                                   on['cuda'].sensitivity, rtol=.05)


def test_afd_analyse_makes_everything(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # fresh discriminators learn for 600 steps; that files come needs few
    for m, f in ((discriminator_curves, 'discriminator_curves'),
                 (robust_error_bound, 'bound')):
        monkeypatch.setattr(m, f, partial(getattr(m, f), steps=60))
    r = Recipe(epochs=1, n_train=64, n_valid=20, batch_size=32, steps=2,
               valid_steps=2)
    for eps in (.1, .2):
        fit(replace(r, eps=eps), out=tmp_path/f'afd.{10*eps:.0f}', keep=1,
            device='cpu')
    flags = ['afd.1', 'afd.2', '--out', 'made', '--n', '10', '--eps', '.2',
             '--device', 'cpu']
    afd_analyse(flags)
    said = capsys.readouterr().out
    afd_analyse([*flags, '--resume', '--what',
                 'over_training,training_strength'])
    about = pd.read_csv(tmp_path/'made'/'about.csv')
    names = ['sensitivity', 'gradients', 'dimensions', 'tsne',
             'discriminator', 'angles', 'features', 'bound',
             'over_training', 'training_strength']
    assert list(about.what) == names
    for name in names:
        for kind in ('csv', 'png', 'svg'):
            assert (tmp_path/'made'/f'{name}.{kind}').stat().st_size > 500
        t = pd.read_csv(tmp_path/'made'/f'{name}.csv')
        if name == 'training_strength':
            assert set(t.eps_train) == {.1, .2}
        else: assert set(t.method) == {'afd/afd.1', 'afd/afd.2'}
    assert 'vacuous' in said


@pytest.mark.parametrize('path', sorted(
    (ROOT/'results').glob('**/analyses/**/*.csv*')),
    ids=lambda p: '-'.join(p.relative_to(ROOT/'results').parts))
def test_recorded_tables_hold_what_their_pages_show(path):
    if path.name == 'about.csv':
        t = pd.read_csv(path)
        assert set(t.what) == {p.name.split('.')[0] for p in
                               path.parent.glob('*.csv*')} - {
                                   'about', 'sensitivity_tests'}
        dataset = path.parts[path.parts.index('analyses') - 1]
        assert (t.dataset == dataset).all() and t.n.min() > 0
    else:
        t = pd.read_csv(path)
        methods = {'nt', 'at', 'trades', 'rm', 'afd'}
        if path.parent.name == 'seeds':
            methods = {f'{m}/seed{i}' for m in ('at', 'afd') for i in (1, 2)}
        if path.name.startswith('sensitivity_tests'):
            assert set(t.method) | set(t.other) == methods
        elif path.name.startswith('training_strength'):
            assert t.trained.nunique() >= 5
        else:
            assert set(t.method) == methods
