"""Begin with a table of your own: look at its columns, propose a project, write it. Stands beside the stages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
