"""What only programs written for py-amqp need: the installation under its name, and its promises.

Layer 5. ``drop_in`` puts gamqp where ``import amqp`` finds it. Does not belong here: py-amqp's names of methods and
arguments, which Connection and Channel have themselves. Public, by ``gamqp``: install_as_amqp, promise.
"""
