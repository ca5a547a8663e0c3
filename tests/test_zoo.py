"The zoo gives what the libraries give, example by example."
import logging
import warnings
import zlib

import eagerpy as ep
import pytest
import torch
import torch.nn.functional as F

from afd_nb.robustness.attack_zoo import attack, attack_names
from afd_nb.support.freezing import frozen
from afd_nb.support.random_numbers import generator, seeded
from afd_nb.method.data import data_root, load_data
from afd_nb.robustness.evaluation import evaluate
from afd_nb.support.autoattack import flags_kept, set_budget
from afd_nb.support.library_attacks import import_advertorch
from afd_nb.method.networks import create_model
from afd_nb.method.training import fit
from afd_nb.testing import digits_net
from afd_nb.rivals.on_the_digits import demo_recipe

EPS = dict(linf=.15, l2=1.5, l1=10.)
SHORT = dict(boundary=dict(steps=60), square=dict(queries=60),
             cw=dict(steps=20, binary_search_steps=3),
             autoattack=dict(steps=10, queries=60))
SHORT |= {k: dict(steps=30) for k in ('ddn', 'bb-l2', 'bb-linf')}
SHORT |= {k: dict(steps=10) for k in ('apgd-ce', 'apgd-t', 'fab-t')}
FOOLBOX = {'fgsm': 'LinfFastGradientAttack', 'pgd-linf': 'LinfPGD',
           'pgd-l2': 'L2PGD', 'pgd-l1': 'L1PGD', 'ddn': 'DDNAttack',
           'deepfool': 'LinfDeepFoolAttack',
           'deepfool-l2': 'L2DeepFoolAttack', 'cw': 'L2CarliniWagnerAttack',
           'boundary': 'BoundaryAttack', 'bb-l2': 'L2BrendelBethgeAttack',
           'bb-linf': 'LinfinityBrendelBethgeAttack'}


@pytest.fixture(scope='module', params=['digits', 'mnist'])
def small(request):
    "A small network trained for a second, and 24 test images."
    name = request.param
    if name == 'mnist' and not (data_root()/'MNIST'/'raw').is_dir():
        pytest.skip('no MNIST below $AFD_DATA or ./data')
    data = load_data(name, n_train=1000 if name == 'mnist' else None,
                     n_valid=100, download=False)
    model, g = create_model('small', data.shape, 10, seed=0), generator(0)
    opt = torch.optim.SGD(model.parameters(), .1, momentum=.9)
    for _ in range(100):
        i = torch.randint(len(data.train), (64,), generator=g)
        loss = F.cross_entropy(model(data.train.x[i]), data.train.y[i])
        opt.zero_grad(), loss.backward(), opt.step()
    return model.eval(), data.test.x[:24], data.test.y[:24]


def by_image(cls):
    "A PGD of Foolbox's that draws an image's start from seed 5 and it."
    class Same(cls):
        def get_random_start(self, x0, epsilon):
            starts = []
            for k in range(len(x0)):
                torch.manual_seed(zlib.crc32(
                    x0[k].raw.numpy().tobytes(), 5))
                starts.append(super().get_random_start(x0[k:k+1], epsilon))
            return ep.concatenate(starts)
    return Same


def by_library(name, a, model, x, y, eps):
    "x_adv of the library itself, without a line of ours."
    if name in FOOLBOX:
        import foolbox as fb
        kw = dict(a.settings)
        if 'step_size' in kw: kw['stepsize'] = kw.pop('step_size')
        cls = getattr(fb.attacks, FOOLBOX[name])
        direct = (by_image(cls) if name.startswith('pgd') else cls)(**kw)
        return direct(fb.PyTorchModel(model, bounds=(0, 1)), x, y,
                      epsilons=eps)[1]
    if name == 'mim':
        return import_advertorch().MomentumIterativeAttack(
            model, eps=eps, nb_iter=40).perturb(x, y)
    import pyautoattack
    aa = pyautoattack.AutoAttack(model, norm='Linf', eps=eps, seed=5)
    for part in (aa.apgd, aa.apgd_targeted, aa.fab, aa.square):
        set_budget(part, **SHORT[name])
    if name != 'autoattack': aa.attacks_to_run = [name]
    return aa.run_standard_evaluation(x, y, batch_size=len(x))[0]


# Brendel-Bethge compiles for half a minute: the properties call it, too
@pytest.mark.parametrize('name', [
    pytest.param(n, marks=pytest.mark.slow if n.startswith('bb') else [])
    for n in attack_names()])
def test_same_examples_fall_as_under_the_library(small, name):
    model, x, y = small
    a = attack(name, seed=5, **SHORT.get(name, {}))
    eps = EPS[a.norm]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ours = model(a(model, x, y, eps=eps)).argmax(1) != y
    with seeded(5), frozen(model), flags_kept(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        theirs = model(by_library(name, a, model, x, y, eps)).argmax(1) != y
    assert ours.tolist() == theirs.tolist()
    e = evaluate(model, x, y, attack=a, epsilons=[eps])
    right = model(x).argmax(1) == y
    # `evaluate` attacks the right ones alone: another batch, other numbers
    if a.library == 'advertorch' or name in ('fgsm', 'ddn', 'deepfool'):
        assert e.robust[:, 0].tolist() == (right & ~theirs).tolist()
    if name.startswith('pgd'): # the same starts: never fewer fall
        assert not (e.robust[:, 0] & theirs.numpy()).any()
    assert not e.robust[~right.numpy()].any()


def test_cw_from_ddn_finds_nearer_errors(small):
    model, x, y = small
    def far(name, **settings): # inf where no error was found
        with warnings.catch_warnings():
            warnings.simplefilter('error', UserWarning) # of ours
            v = attack(name, **settings).minimal_adversarial(model, x, y)
        d = (v.x_adv - x).flatten(1).norm(dim=1)
        return d.where(model(v.x_adv).argmax(1) != y, torch.inf)
    ddn, printed = far('ddn', steps=100), far('cw', steps=100)
    ours = far('cw', steps=100, start='ddn')
    assert far('cw', steps=100, start=None).equal(printed)
    # DDN's errors lie on the border, where rounding decides what is one
    assert ours.isfinite().all() and (ours <= ddn + 1e-3).all()
    assert (ours <= ddn + 1e-5).sum() >= len(x) - 1
    assert (ours > printed*1.01 + 1e-5).sum() <= 2 # both are local searches
    assert ours.mean() < .99*printed.mean()


def test_cw_without_an_error_leaves_the_image():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    torch.nn.init.zeros_(model[1].weight)
    with torch.no_grad(): model[1].bias.copy_(torch.tensor([1., 0., 0.]))
    x, y = torch.rand(3, 1, 2, 2, generator=generator(0)), torch.zeros(3).long()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # a constant model has no gradient
        v = attack('cw', start='ddn', steps=10).minimal_adversarial(
            model.eval(), x, y).x_adv
    assert v.equal(x)


def test_cw_refuses_a_setting_that_its_start_lacks():
    for settings, said in ((dict(start='pgd'), 'start of cw'),
                           (dict(start='ddn', confidence=1.), 'confidence'),
                           (dict(start='ddn', binary_search_steps=0), '>= 1')):
        with pytest.raises(ValueError, match=said): attack('cw', **settings)
    with pytest.raises(ValueError, match="no setting 'start'"):
        attack('ddn', start='ddn')


@pytest.mark.parametrize('norm', EPS)
def test_batch_size_changes_nothing(small, norm):
    model, x, y = small
    for name in ('pgd', 'apgd', 'targeted-pgd'):
        a, b = (evaluate(model, x, y, attack=name, norm=norm, steps=6,
                         epsilons=[.3*EPS[norm], EPS[norm]], batch_size=size)
                for size in (24, 5))
        assert a.robust.tolist() == b.robust.tolist(), name


def test_our_apgd_is_no_weaker_than_autoattacks(small):
    model, x, y = small
    for norm, eps in EPS.items():
        for part in (.3, .6):
            ours, theirs = (
                evaluate(model, x, y, attack=a, epsilons=[part*eps],
                         norm=norm, steps=50, **kw).robust.sum()
                for a, kw in (('apgd', {}), ('apgd-ce', dict(restarts=1))))
            assert ours <= theirs + 1, (norm, part)


@pytest.mark.slow # the short one is among those above
def test_autoattack_standard_is_the_librarys(small):
    import pyautoattack
    model, x, y = small
    x, y = x[:8], y[:8]
    e = evaluate(model, x, y, attack='autoattack', epsilons=[.1],
                 batch_size=3, seed=5)
    with seeded(5), frozen(model), flags_kept():
        aa = pyautoattack.AutoAttack(model, norm='Linf', eps=.1, seed=5)
        x_adv, _ = aa.run_standard_evaluation(x, y, batch_size=3)
    assert e.robust[:, 0].tolist() == (model(x_adv).argmax(1) == y).tolist()
    assert e.parts == ['apgd-ce', 'apgd-t', 'fab-t', 'square']


@pytest.fixture(scope='module')
def thousand():
    "A thousand digits, most of which the networks were trained on."
    data = load_data('digits')
    return [torch.cat([getattr(v, k) for v in (data.test, data.train)])[:1000]
            for k in ('x', 'y')]


MODELS = dict(clean=(lambda: digits_net(), .1),
              robust=(lambda: digits_net(eps=.15), .15),
              afd=(lambda: fit(demo_recipe('afd', epochs=5),
                               load_data('digits'), progress=False).model,
                   .1)) # and an eps at which a good part falls


@pytest.mark.slow # a page has a short one, on fewer images
@pytest.mark.parametrize('restarts', (1, 2))
@pytest.mark.parametrize('name', MODELS)
def test_flags_of_a_thousand_images_are_autoattacks(thousand, name, restarts):
    import pyautoattack
    make, eps = MODELS[name]
    model, (x, y) = make().eval(), thousand
    with torch.no_grad(): right = model(x).argmax(1) == y
    x, y = x[right], y[right]
    a = attack('autoattack', seed=5, restarts=restarts)
    with frozen(model):
        ours = model(a(model, x, y, eps=eps)).argmax(1) != y
        with seeded(5), flags_kept():
            aa = pyautoattack.AutoAttack(model, norm='Linf', eps=eps, seed=5)
            for part in (aa.apgd, aa.apgd_targeted, aa.fab, aa.square):
                set_budget(part, restarts=restarts)
            x_adv = aa.run_standard_evaluation(x, y, batch_size=len(x))[0]
        theirs = model(x_adv).argmax(1) != y
    print(f'{name}, {restarts} restarts: {int(theirs.sum())} of {len(x)} '
          f'fall, {int((ours != theirs).sum())} differ')
    assert ours.tolist() == theirs.tolist()
    assert .1 < theirs.float().mean() < .9


def test_autoattack_logger_is_as_it_was(small):
    model, x, y = small
    logger = logging.getLogger('auto-attack')
    before = list(logger.handlers), logger.propagate
    attack('autoattack', steps=2, queries=5)(model, x, y, eps=.1)
    assert (list(logger.handlers), logger.propagate) == before


def test_model_on_another_device_is_one_clear_error(small):
    model, x, y = small
    away = create_model('small', tuple(x.shape[1:]), 10, seed=0).to('meta')
    for call in (lambda: attack('fgsm')(away, x, y, eps=.1),
                 lambda: evaluate(away, x, y, attack='fgsm', epsilons=[.1])):
        with pytest.raises(ValueError, match='the model is on meta'):
            call()


def test_ctrl_c_in_evaluate_leaves_the_model_alone(small):
    model, x, y = small
    net = create_model('small', tuple(x.shape[1:]), 10, seed=0).train()
    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) > 9: raise KeyboardInterrupt
    net.register_forward_pre_hook(stop)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        evaluate(net, x, y, attack='autoattack', epsilons=[.1])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(m.training for m in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
