"The difference of two methods: what holds for any answers."
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afd_nb.support.statistics import (detectable, half_width, holm,
                                       mcnemar, safe_level, tango,
                                       worst_rate)
from afd_nb.support.comparison import (Difference, area_interval, compare,
                                       compare_areas, judge)

VERDICTS = {'above', 'below', 'equivalent', 'undecided'}


@st.composite
def grids(draw, shape=()):
    "Answers of two methods on the same images."
    ka, kb, n = (draw(st.integers(1, m)) for m in (4, 4, 40))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    share = draw(st.sampled_from([0., .2, .9, 1.]))
    return [rng.random((k, n, *shape)) < share for k in (ka, kb)]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_paired_interval(b, c, more):
    n = b + c + more
    if n == 0:
        with pytest.raises(ValueError, match='n=0'):
            tango(b, c, n)
        return
    low, high = tango(b, c, n)
    assert -1 <= low <= (b - c)/n <= high <= 1 and low < high
    assert tango(c, b, n) == pytest.approx((-high, -low))
    wide = tango(b, c, n, .99)
    assert wide[0] <= low and high <= wide[1]
    assert 0 < mcnemar(b, c) == mcnemar(c, b) <= 1


@given(grids())
def test_comparison_of_answers(ab):
    a, b = ab
    d, e = compare(a, b), compare(b, a)
    assert d.low <= d.value <= d.high and 0 < d.p <= 1
    assert (d.value, d.low, d.high, d.p) == pytest.approx(
        (-e.value, -e.high, -e.low, e.p))
    assert (d.unit == 'one training') == (min(len(a), len(b)) == 1)
    assert d.trainings == (len(a), len(b)) and d.images == a.shape[1]
    assert judge(d) in VERDICTS and judge(d, pvalue=1.) in (
        'equivalent', 'undecided')
    if d.unit == 'one training':
        assert judge(d) == 'undecided'
    assert judge(d, margin=101.) in ('equivalent', 'undecided')
    order = np.random.default_rng(0).permutation(a.shape[1])
    f = compare(a[::-1, order], b[:, order])
    assert (f.value, f.low, f.p) == pytest.approx((d.value, d.low, d.p))


@given(grids((3,)))
def test_areas(ab):
    a, b = ab
    mean, low, high = area_interval(a, [0, .1, .3], times=200)
    assert 0 <= low <= high <= 100 and 0 <= mean <= 100
    d = compare_areas(a, b, [0, .1, .3])
    assert d.low <= d.value <= d.high
    assert d.value == pytest.approx(
        mean - area_interval(b, [0, .1, .3], times=200)[0])


@pytest.mark.parametrize('ka', range(2, 11))
def test_false_verdict_rate_is_at_most_five_percent(ka):
    for kb in range(ka, 11):
        level = safe_level(.05, ka, kb)
        assert level < .05 and worst_rate(level, ka, kb) < .0505
    rng = np.random.default_rng(ka)
    times, spreads = 4000, (.6, 4.6) # the least and the largest on record
    for kb in range(1, 11):
        for sa in spreads:
            for sb in spreads:
                a = 80 + sa*rng.normal(size=(times, ka))
                b = 80 + sb*rng.normal(size=(times, kb))
                if kb == 1: # no verdict about methods
                    assert judge(compare(a[0], b[0])) == 'undecided'
                    continue
                half = half_width(.05, a.var(1, ddof=1)/ka,
                                  b.var(1, ddof=1)/kb, 0., ka, kb)
                rate = (abs(a.mean(1) - b.mean(1)) > half).mean()
                # four binomial standard errors, for 360 cells
                assert rate < .05 + 4*math.sqrt(.05*.95/times)


def test_numbers_and_refusals():
    assert judge(compare([80.], [90., 91.], images=1000)) == 'undecided'
    assert compare([1.], [2.]).high == math.inf
    assert compare([1., 1.], [1., 1.]).p == 1
    for a, b, words in (([], [1.], 'shape'), ([True], [False], 'bool'),
                        ([[2.]], [[0.]], r'\[0, 1\]'),
                        ([math.nan, 1], [1., 2.], 'nan')):
        with pytest.raises(ValueError, match=words):
            compare(a, b)
    d = Difference(1., .5, 1.5, .01, trainings=(3, 3))
    assert judge(d) == 'equivalent' and judge(d, margin=1.) == 'above'
    with pytest.raises(ValueError, match='margin'):
        judge(d, margin=-1)
    with pytest.raises(ValueError, match='pvalue=2'):
        judge(d, pvalue=2)
    assert holm([.01, .04, .03]).tolist() == [.03, .06, .06]
    assert detectable(.05, 1., 1., 0., 5, 5) > 2*detectable(
        .05, .1, .1, 0., 5, 5)
