import sys; sys.path.insert(0,'/tmp/v')
from nbt import *
p='/work/main/nbs/5_results/01_experiments.ipynb'; nb=load(p)
sub(nb,'''    from afd_nb.results.experiments import planned
    from afd_nb.tools.command_line import Target
''','')
sub(nb,'''    t = Target('', None, dataset=recipe.dataset, eps=recipe.eps,
               norm=recipe.norm)
    return [(*one, a.n or n, a.split or 'test') for one in planned(a, t)]''','''    return [(*one, a.n or n, a.split or 'test')
            for one in planned(a, recipe)]''')
sub(nb,"t = Target('a run', None, dataset='mnist', eps=.3, norm='linf')","t = Recipe(dataset='mnist', eps=.3, norm='linf')")
sub(nb,"from afd_nb.tools.command_line import Target\n",'')
sub(nb,'''def planned(a, t)->list: # of (Attack, epsilons)
    "What the flags ask for on one target."''','''def planned(
    a, # flags of afd_evaluate, read
    t, # has dataset, eps and norm: a recipe, or a `Target`
)->list: # of (Attack, epsilons)
    "What the flags ask for on one target."''')
for i,c in enumerate(nb.cells):
    if c.cell_type=='code' and re.search('recipe_flags|read_recipe',c.source): print(i,c.source)
save(nb,p)
# self imports elsewhere
import glob
for p in glob.glob('/work/main/nbs/*/*.ipynb'):
    nb=load(p); mod=None
    for c in nb.cells:
        m=re.match(r'#\| default_exp (\S+)$',c.source)
        if m: mod='afd_nb.'+m[1]
    for i,c in enumerate(nb.cells):
        if mod and c.cell_type=='code' and f'from {mod} import' in c.source: print('self',p,i,c.source[:300])
