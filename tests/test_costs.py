"What a step costs, in passes: every method and lever, by hand."
import pytest
import torch

from afd_nb.method.baselines import NT
from afd_nb.method.recipe import Recipe
from afd_nb.method.settings import HOMES, REGISTRY
from afd_nb.results.leaderboard import MOST, PARTS, step_passes

F, B = 1/3, 2/3 # a forward; a step of PGD: no gradient of the weights
K = 7
PGD = K*B
# (levers of the recipe, passes by hand); Da and BatchNorm are small
BY_HAND = {
    'nt': [({}, 1), (dict(awp_gamma=.01), 2)],
    'at': [({}, PGD + 1), (dict(awp_gamma=.01), PGD + 2),
           (dict(ema_decay=.9), PGD + 1), (dict(steps=0), 1)],
    # the answers on x, K steps, two passes; AWP makes the first step anew
    'trades': [({}, F + PGD + 2),
               (dict(awp_gamma=.01), 2*(F + B + 2) + PGD - B)],
    'rm': [({}, PGD + 2), (dict(awp_gamma=.01), PGD + 4)],
    # step (1); both images through E, one of them back
    'afd': [({}, PGD + 1 + 2), (dict(awp_gamma=.01), PGD + 2*3),
            (dict(da_steps=3), PGD + 3), (dict(gp_weight=1.), PGD + 3)],
    'ates': [({}, PGD + 1), (dict(awp_gamma=.01), PGD + 2)],
    'feature-scattering': [({}, F + B + 1),
                           (dict(awp_gamma=.01), B + 2*(F + 1))],
    'mart': [({}, PGD + 2), (dict(awp_gamma=.01), PGD + 4)],
    'rlfat': [({}, PGD + 2), (dict(awp_gamma=.01), PGD + 4)],
    # AT, and three points that pass together
    'elle': [({}, PGD + 1 + 3), (dict(awp_gamma=.01), PGD + 2*4)],
    'dial': [({}, PGD + 2 + 2), (dict(awp_gamma=.01), PGD + 2*4)],
    # natural training beside it, for as long or half as long
    'rst': [({}, F + PGD + 2 + 1), (dict(unlabelled=0), F + PGD + 2),
            (dict(natural='a run'), F + PGD + 2),
            (dict(epochs=8, natural_epochs=4), F + PGD + 2 + .5),
            (dict(awp_gamma=.01), 2*(F + B + 2) + PGD - B + 1)],
    'at-tricks': [({}, PGD + 1), (dict(sam_rho=.05), PGD + 2),
                  (dict(steps_first=1), (1 + K)/2*B + 1)],
    'trades-tricks': [(dict(sam_rho=.05), F + PGD + 4)],
    'afd-tricks': [
        ({}, PGD + 3), (dict(sam_rho=.05), PGD + 4),
        (dict(steps_first=1), (1 + K)/2*B + 3), (dict(through=1.), PGD + 3),
        (dict(da_target=.9), PGD + 3), (dict(r1_weight=1.), PGD + 3),
        (dict(unlabelled=10**4), PGD + 3 + F/2)]} # half of them are read


def passes(**kw):
    return step_passes(Recipe(**dict(dataset='digits', steps=K) | kw),
                       (1, 8, 8))


@pytest.mark.parametrize('method', BY_HAND)
def test_a_step_costs_what_the_hand_says(method):
    for more, by_hand in BY_HAND[method]:
        seen = passes(method=method, **more)
        assert abs(seen/by_hand - 1) < .06, (more, seen, by_hand)


def test_every_trainable_method_is_counted():
    rest = {'yopo', 'llr', 'jarn'} # below, or on the page
    assert {*BY_HAND} | rest == {*HOMES}
    # five whole passes, and twelve steps through the first layer
    assert 5 < passes(method='yopo') < 6
    # PGD on the gap, a pass of x + delta and a second derivative at x
    assert PGD + 1 + 2 < passes(method='llr') < PGD + 1 + 3.5


def test_a_discriminator_that_steps_once_in_twenty_is_spread():
    at = {k: passes(method='jarn', d_every=k) for k in (1, 2, 20)}
    rare, step = at[20], at[1] - at[20]
    assert step > .2
    # cost a + b/k: two points give the third
    b = (at[1] - at[20])/(1 - 1/20)
    assert abs(at[2] - (at[1] - b/2)) < 1e-9
    half = passes(method='jarn', d_every=20, game_start=.5)
    assert abs(half - (1 + rare)/2) < .01


def test_a_strangers_schedule_is_averaged_and_chance_ends():
    steps, progress = [], []

    class Late(NT):
        "Two passes in the second half of the training."
        def step(self, x, y):
            progress.append(self.progress)
            if self.progress >= .5: super().step(x, y)
            return super().step(x, y)

    class Never(NT):
        "A cost that never comes again."
        def step(self, x, y):
            steps.append(torch.ones(1, len(steps) + 1))
            steps[-1]@steps[-1].T # operations that grow
            return super().step(x, y)
    REGISTRY.update(late=Late, never=Never)
    try:
        assert passes(method='late') == 1.5
        assert passes(method='late', awp_gamma=.01) == 3
        assert min(progress) == 0 and max(progress) < 1
        passes(method='never')
        assert len(steps) == 2 + (2 + PARTS)*MOST
    finally: del REGISTRY['late'], REGISTRY['never']
