import sys; sys.path.insert(0,'/tmp/v')
from nbt import *
p='/work/main/nbs/5_results/01_experiments.ipynb'; nb=load(p)
c=nb.cells[30]
c.source=c.source.replace('''asked = lambda *names, eps=None, norm=None: planned(argparse.Namespace(
    attacks=names, eps=eps, norm=norm, steps=None, restarts=None, seed=0),
    Target('a run', None, dataset='mnist', eps=.3, norm='linf'))''','''wanted = lambda *names, eps=None, norm=None: planned(argparse.Namespace(
    attacks=names, eps=eps, norm=norm, steps=None, restarts=None, seed=0),
    Recipe(dataset='mnist', eps=.3, norm='linf'))''').replace('asked(','wanted(')
print(c.source)
for i,c in enumerate(nb.cells):
    if c.cell_type=='code' and ('Target' in c.source or 'def planned' in c.source): print(i,c.source)
save(nb,p)
