import sys; sys.path.insert(0,'/tmp/v')
from nbt import *
p='/work/main/nbs/5_results/01_experiments.ipynb'; nb=load(p)
sub(nb,'''
for e in named.values(): # what the flags say is the recipe
    for size in SIZES:
        p = argparse.ArgumentParser(); recipe_flags(p)
        r = e.recipe(size, seed=2)
        test_eq(read_recipe(vars(p.parse_args(recipe_argv(r)))), r)''','')
sub(nb,"from afd_nb.tools.commands import read_recipe, recipe_flags",'')
for c in nb.cells: c.source=c.source.rstrip('\n')
save(nb,p)
p='/work/main/nbs/appendix_b_tools/08_experiments_command.ipynb'; nb=load(p)
for i,c in enumerate(nb.cells): print(i,c.cell_type,c.source[:1200],'\n--')
i=find(nb,"test_fail(lambda: check_records") 
ins(nb,i+1,md('The flags that a plan gives to `afd_train` say exactly its recipe:'),code('''for e in all_experiments().values():
    for size in SIZES:
        p = argparse.ArgumentParser(); recipe_flags(p)
        r = e.recipe(size, seed=2)
        test_eq(read_recipe(vars(p.parse_args(recipe_argv(r)))), r)'''))
h=[c for c in nb.cells if c.source.startswith('#| hide')][0]
h.source+='\nfrom afd_nb.results.experiments import all_experiments, recipe_argv\nfrom afd_nb.tools.commands import read_recipe, recipe_flags'
save(nb,p)
p='/work/main/nbs/appendix_a_support/08_statistics.ipynb'; nb=load(p)
sub(nb,"from afd_nb.support.statistics import auc\n",'') ; save(nb,p)
