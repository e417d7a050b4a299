"""A packed model, and the ways to ask it: the bundle, the service, files of rows. Stands on stages up to 07."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
