"""Adversarial Feature Desensitization: a paper that runs.

The names of `__init__.pyi` can be imported from here. Each is loaded, and
torch with it, when it is first used.
"""
import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
