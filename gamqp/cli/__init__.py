"""The commands of ``python -m gamqp``, a module each.

Layer 5. Does not belong here: which command is meant, see ``gamqp.__main__``.
"""
