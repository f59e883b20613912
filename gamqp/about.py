"""The version, in one place that everything may import."""

__all__ = ('VERSION', '__version__')

__version__ = '0.1.0.dev0'
VERSION = (0, 1, 0, 'dev0')
