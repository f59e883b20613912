"""The optional extensions; everything else about the package stands in setup.cfg.

``GAMQP_CYTHON`` at build time: ``auto`` (default) compiles when Cython and a C compiler are there
and installs the pure build otherwise, ``1`` makes any failure fatal (wheels, CI), ``0`` never compiles.
An editable install (``pip install -e .``) is the pure build, unless ``1`` asks for the other: an extension
beside its source goes on running when the source is edited, and says nothing.
"""

import os
import sys

from setuptools import Extension, setup

# Must agree with gamqp.wire.COMPILED_MODULES, which cannot be imported here; a test compares them.
COMPILED_MODULES = ('read', 'write', 'properties', 'methods', 'content', 'publish', 'frames')

# Debugging information takes a third of the time of compiling. Who gives flags of his own has the last word.
COMPILE_ARGS = ['-g0'] if os.name == 'posix' and 'CFLAGS' not in os.environ else []


def extensions(choice: str) -> list[Extension]:
    """The extension modules to build for a value of GAMQP_CYTHON."""
    if choice not in ('auto', '1', '0'):
        raise SystemExit(f'GAMQP_CYTHON must be auto, 1 or 0, not {choice!r}')
    if choice == '0':
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if choice == '1':
            raise
        return []
    modules = [
        Extension(
            f'gamqp.wire.{name}',
            [f'gamqp/wire/{name}.py'],
            # Greenlets switch inside C calls; Cython's cached pointer to the thread state would
            # then point to the exception state of another greenlet.
            define_macros=[('CYTHON_FAST_THREAD_STATE', '0')],
            extra_compile_args=COMPILE_ARGS,
        )
        for name in COMPILED_MODULES
    ]
    try:
        # The C files go to a folder of the build, not beside the sources.
        modules = list(cythonize(modules, build_dir='build/cython', quiet=True))
    except Exception as exc:
        # 'optional', below, forgives only the C compiler; a Cython that cannot cope must not stop an install either.
        if choice == '1':
            raise
        print(f'gamqp: compiling is not possible here, installing the pure build ({exc})')
        return []
    for module in modules:
        # Here, because cythonize makes new extensions, and they would not have it.
        module.optional = choice == 'auto'
    return modules


def chosen_build(commands: list[str]) -> str:
    """The value of GAMQP_CYTHON, or what it is for these commands where it is not set."""
    return os.environ.get('GAMQP_CYTHON') or ('0' if 'editable_wheel' in commands else 'auto')


def processors() -> int:
    """How many modules to compile at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


setup(ext_modules=extensions(chosen_build(sys.argv)), options={'build_ext': {'parallel': processors()}})
