"""Support for the tests of a project: rows of its source, a lake of these rows, and runs of the pipeline in a copy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
