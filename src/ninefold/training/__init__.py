"""Which model, and how good is it on data it never saw (20-30 %)?"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
