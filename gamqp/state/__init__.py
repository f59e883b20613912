"""What a client remembers of connections, channels, publishes and deliveries; and checks of arguments.

Layer 1. Each module is data with functions on it, tested by itself. The time is an argument; a waiter is any object
with ``succeed`` and ``fail``. So no call into this package can switch greenlets, and each is atomic for all others:
keep it so, even where it costs speed. Does not belong here: sockets, clocks, logs, threads, greenlets.
Public: nothing; users get at it through Connection and Channel.
"""
