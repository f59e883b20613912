"""The broker as state: bytes in, bytes out; no socket, no thread, and the clock is passed in.

    message                        a message, and its place in a queue
    ready, consumers               what is in a queue, and whose turn it is
    queue, queue_quorum, stream    the kinds of queues          queue_arguments, dead_lettering
    exchange                       the types of exchanges       topic_trie, header_matching, hashing
    virtual_host                   all of these, and the way of a message     policies
    channel                        with the methods: exchange_, queue_ and basic_methods, publishing, transactions
    session                        a connection                 handshake
    server                         everything                   users, faults, history, clock, versions

Layer 5. Does not belong here: what tests see of it. Public: nothing.
"""
