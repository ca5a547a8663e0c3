from . import method, representations, results, robustness, support, tools
from .method.data import load_data
from .method.network_files import create_model, load_official
from .method.pgd import pgd
from .method.pretrained import load_model, load_sample, model_names
from .method.recipe import Recipe
from .method.run_folder import load_run
from .method.training import fit
from .robustness.attack_zoo import attack, attack_names
from .robustness.evaluation import evaluate
from .robustness.lowest_accuracy import worst_case
from .robustness.masking import diagnose
from .robustness.sweeps import evaluate_all
from .robustness.transfer_attacks import transfer

__version__: str
__all__ = [
    'Recipe', 'attack', 'attack_names', 'create_model', 'diagnose',
    'evaluate', 'evaluate_all', 'fit', 'load_data', 'load_model',
    'load_official', 'load_run', 'load_sample', 'method', 'model_names', 'pgd',
    'representations', 'results', 'robustness', 'support', 'tools',
    'transfer', 'worst_case']
