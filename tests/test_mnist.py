"The real thing, where it is: MNIST below $AFD_DATA or ./data."
import pytest
import torch

from afd_nb.method.data import data_root, load_data
from afd_nb.method.recipe import Recipe
from afd_nb.method.training import fit

needs_mnist = pytest.mark.skipif(
    not (data_root()/'MNIST'/'raw').is_dir(),
    reason='no MNIST below $AFD_DATA or ./data')


@needs_mnist
def test_mnist_splits():
    d = load_data('mnist', n_train=10_000, n_valid=1000, download=False)
    assert (len(d.train), len(d.valid), len(d.test)) == (10_000, 1000, 10_000)
    assert d.shape == (1, 28, 28) and d.n_classes == 10
    assert d.train.x.dtype == torch.float32
    assert d.train.x.max() == 1 and d.train.x.min() == 0
    share = d.test.y.bincount().max().item()/len(d.test)
    assert share == pytest.approx(.1135)


@needs_mnist
def test_afd_learns_mnist_within_thirty_batches():
    r = Recipe(dataset='mnist', method='afd', n_train=3840, n_valid=200,
               epochs=1, steps=2, valid_steps=2)
    d = load_data('mnist', n_train=3840, n_valid=200, download=False)
    assert fit(r, d, device='cpu').history.valid_clean.iloc[-1] > .6
