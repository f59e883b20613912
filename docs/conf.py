"""Sphinx: the documentation of gamqp. Build it with ``sphinx-build -W docs build/docs``."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # for imports.py, states.py and pictures.py

import gamqp

project = 'gamqp'
author = 'the gamqp authors'
copyright = '2026, the gamqp authors'
release = version = gamqp.__version__

extensions = ['sphinx.ext.autodoc', 'imports', 'states']
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'
exclude_patterns = ['build']
html_theme = 'alabaster'
html_theme_options = {
    'description': 'AMQP 0-9-1 for greenlets',
    'fixed_sidebar': True,
    'page_width': '1180px',
    'show_relbar_bottom': True,  # the links to the page before and the next one
}
nitpicky = False
