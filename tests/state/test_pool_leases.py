"""The books of a pool: who is served next, from which connection, and where the next channel is opened."""

from __future__ import annotations

import random

from gamqp.pool.leases import AT_ONCE, Leases


def open_all(leases, now=0.0):
    """Open what is planned, at once. Returns how many channels that were; each goes to a waiter."""
    planned = leases.plan(now)
    for member in planned:
        member.connection = member.connection or object()
        leases.opened(member)
        assert leases.offer(member, object(), now) is not None
    return len(planned)


def stocked(connections, channels):
    """Books with every channel open and idle."""
    leases = Leases(connections, channels)
    for number in range(connections * channels):
        leases.enter(number, 0.0)
    open_all(leases)
    for member in leases.members:
        while member.leased:
            leases.offer(member, object(), 0.0)
    return leases


# -- leasing ---------------------------------------------------------------------


def test_nothing_is_there_before_anybody_asks():
    leases = Leases(2, 3)
    assert leases.take() is None
    assert leases.plan(0.0) == []
    assert set(leases.stats().values()) == {0}


def test_the_connection_with_the_fewest_leases_is_taken_from():
    leases = stocked(3, 4)
    for _ in range(4):
        members = {leases.take()[0] for _ in range(3)}
        assert members == set(leases.members)
    assert leases.take() is None


def test_the_channel_used_last_is_used_next():
    leases = stocked(1, 3)
    member, first = leases.take()
    _, second = leases.take()
    leases.offer(member, second, 0.0)
    leases.offer(member, first, 0.0)
    assert leases.take() == (member, first)
    assert leases.take() == (member, second)


def test_who_waits_longest_is_served_first():
    leases = stocked(1, 1)
    member, channel = leases.take()
    for name in 'abc':
        leases.enter(name, 0.0)
    assert [leases.offer(member, channel, 1.0) for _ in range(4)] == ['a', 'b', 'c', None]


def test_who_has_left_is_not_served():
    leases = stocked(1, 1)
    member, channel = leases.take()
    for name in 'abc':
        leases.enter(name, 0.0)
    leases.leave('a', 1.0)
    assert leases.offer(member, channel, 1.0) == 'b'
    leases.leave('b', 1.0)  # served meanwhile: nothing to leave
    assert (leases.waiting, leases.leased) == (1, 1)


def test_dismissed_are_those_who_waited_then_and_no_later_ones():
    leases = Leases(1, 1)
    leases.enter('a', 0.0)
    leases.enter('b', 0.0)
    ticket = leases.ticket
    leases.enter('c', 1.0)
    leases.leave('a', 1.0)
    assert leases.dismiss(ticket, 2.0) == ['b']
    assert leases.dismiss(ticket, 2.0) == []
    assert leases.waiting == 1


def test_waits_are_counted_whatever_their_end():
    leases = stocked(1, 1)
    before = leases.waits
    member, channel = leases.take()
    for name in 'abc':
        leases.enter(name, 10.0)
    leases.offer(member, channel, 11.0)
    leases.leave('b', 12.0)
    leases.dismiss(leases.ticket, 14.0)
    assert leases.waits - before == 3
    assert (leases.wait_seconds, leases.max_wait) == (7.0, 4.0)


# -- opening -----------------------------------------------------------------------


def test_each_waiter_gets_one_opening_spread_over_the_connections():
    leases = Leases(2, 250)
    for number in range(400):
        leases.enter(number, 0.0)
        assert len(leases.plan(0.0)) == 1
    assert [member.opening for member in leases.members] == [200, 200]
    assert leases.plan(0.0) == []


def test_no_more_is_opened_than_allowed():
    leases = Leases(2, 1)
    for number in range(500):
        leases.enter(number, 0.0)
    assert open_all(leases) == 2
    assert leases.plan(0.0) == []
    assert leases.waiting == 498


def test_one_that_is_open_comes_first_at_a_tie():
    leases = Leases(2, 2)
    leases.enter('a', 0.0)
    open_all(leases)
    leases.drop(leases.members[0])
    leases.dropped(leases.members[0])
    leases.enter('b', 0.0)
    assert leases.plan(0.0) == [leases.members[0]]


def test_a_channel_that_is_being_closed_takes_up_room():
    leases = stocked(1, 1)
    member, _ = leases.take()
    leases.drop(member)
    leases.enter('a', 0.0)
    assert leases.plan(0.0) == []
    leases.dropped(member)
    assert leases.plan(0.0) == [member]


def test_after_a_failure_a_connection_rests():
    leases = stocked(1, 1)
    leases.members[0].capacity = 2
    leases.take()
    leases.enter('a', 0.0)
    (failed,) = leases.plan(0.0)
    leases.failed(failed)
    failed.resting = 5.0
    assert leases.plan(1.0) == []
    assert leases.next_chance(1.0) == 5.0
    assert leases.plan(5.0) == [failed]
    assert leases.next_chance(5.0) is None


def test_none_is_connected_before_its_time_and_those_that_are_open_do_instead():
    leases = Leases(2, 2)
    leases.enter('a', 0.0)
    assert leases.plan(0.0, connect_at=1.0) == []
    assert open_all(leases) == 1
    (opened,) = (member for member in leases.members if member.connection)
    leases.enter('b', 0.0)
    leases.enter('c', 0.0)
    assert leases.plan(0.0, connect_at=1.0) == [opened]
    assert leases.next_to_connect() is None
    assert len(leases.plan(1.0, connect_at=1.0)) == 1
    assert leases.next_to_connect() is not opened
    leases.give_up_connecting()
    assert leases.next_to_connect() is None
    assert (leases.opening, leases.waiting) == (1, 2)


def test_a_limit_that_was_learnt_holds_for_all_connections():
    leases = stocked(2, 2)
    struck, other = leases.members
    struck.capacity = other.capacity = 10
    assert leases.learn_limit(struck)
    assert leases.most == 4
    assert not leases.learn_limit(struck)
    leases.retire(struck)
    for number in range(10):
        if leases.take() is None:
            leases.enter(number, 0.0)
    assert open_all(leases) == 2
    assert sum(member.channels for member in leases.members) == 4


def test_nothing_is_learnt_where_there_was_nothing():
    leases = Leases(1, 5)
    assert not leases.learn_limit(leases.members[0])
    assert leases.most is None


def test_who_was_served_in_vain_comes_before_the_others_in_the_old_order():
    leases = stocked(1, 3)
    held = [leases.take() for _ in range(3)]
    tickets = {name: leases.enter(name, 0.0) for name in 'abcde'}
    waits = leases.waits
    for member, channel in held[:3]:
        assert leases.offer(member, channel, 0.0) in 'abc'
    for name in 'cab':
        leases.enter(name, 0.0, tickets[name])
    leases.leave('b', 0.0)
    assert leases.waiting == 4
    assert leases.waits == waits
    member, channel = held[0]
    assert leases.offer(member, channel, 0.0) == 'a'
    assert leases.dismiss(tickets['d'], 0.0) == ['c', 'd']
    assert leases.offer(member, channel, 0.0) == 'e'


def test_many_are_planned_for_and_sent_away_in_several_turns():
    leases = Leases(1, 2 * AT_ONCE)
    for number in range(AT_ONCE + 10):
        leases.enter(number, 0.0)
    assert [len(leases.plan(0.0)) for _ in range(3)] == [AT_ONCE, 10, 0]
    assert [len(leases.dismiss(leases.ticket, 0.0)) for _ in range(3)] == [AT_ONCE, 10, 0]


# -- replacing ---------------------------------------------------------------------


def test_a_lost_connection_is_replaced_and_its_channels_come_to_nobody():
    leases = stocked(1, 3)
    member, _ = leases.take()
    leases.take()
    assert leases.retire(member)
    assert not leases.retire(member)
    assert leases.take() is None
    assert (leases.leased, leases.lost, leases.replaced) == (2, 1, 1)
    leases.enter('a', 0.0)
    assert leases.plan(0.0) == leases.members != [member]
    leases.drop(member)
    assert leases.retired == {member}
    leases.drop(member)
    assert (leases.retired, leases.replaced) == (set(), 3)


def test_at_the_end_there_are_no_members():
    leases = stocked(2, 2)
    member, _ = leases.take()
    assert len(leases.disband()) == 2
    assert (leases.connections, leases.leased, leases.take()) == (0, 1, None)
    leases.drop(member)
    assert leases.leased == 0


def test_the_books_hold_whatever_happens():
    """Random traffic against a model: order, limits, and no idle channel beside a waiter."""
    seed = random.randrange(2**32)
    print(f'seed {seed}')
    rng = random.Random(seed)
    for _ in range(30):
        connections, limit = rng.randint(1, 3), rng.randint(1, 4)
        leases = Leases(connections, limit)
        waiting, held, opening, closing = [], [], [], []

        def offered(member, channel, leases=leases, waiting=waiting, held=held):
            waiter = leases.offer(member, channel, 0.0)
            assert waiter == (waiting[0] if waiting else None)
            if waiting:
                del waiting[0]
                held.append((member, channel))

        for step in range(300):
            act = rng.randrange(7)
            if act <= 1:
                if (got := leases.take()) is not None:
                    assert not waiting
                    held.append(got)
                else:
                    leases.enter(step, 0.0)
                    waiting.append(step)
            elif act == 2 and held:
                member, channel = held.pop(rng.randrange(len(held)))
                if member in leases.members and rng.random() < 0.7:
                    offered(member, channel)
                else:
                    leases.drop(member)
                    closing.append(member)
            elif act == 3 and waiting:
                leases.leave(waiting.pop(rng.randrange(len(waiting))), 0.0)
            elif act == 4 and opening:
                member = opening.pop(rng.randrange(len(opening)))
                if rng.random() < 0.3:
                    leases.failed(member)
                elif member in leases.members:
                    member.connection = member.connection or object()
                    leases.opened(member)
                    offered(member, object())
                else:
                    leases.failed(member)
            elif act == 5 and closing:
                leases.dropped(closing.pop())
            elif act == 6 and rng.random() < 0.1:
                leases.retire(rng.choice(leases.members))
            opening += leases.plan(0.0)
            assert leases.waiting == len(waiting)
            assert leases.leased == len(held)
            assert len(leases.members) == connections
            for member in leases.members:
                assert 0 <= member.channels <= limit
                assert not (member.idle and waiting)
        while waiting or opening or closing or held:
            while opening:
                member = opening.pop()
                if member in leases.members:
                    leases.opened(member)
                    offered(member, object())
                else:
                    leases.failed(member)
            while closing:
                leases.dropped(closing.pop())
            if held:
                member, channel = held.pop()
                if member in leases.members:
                    offered(member, channel)
                else:
                    leases.drop(member)
                    closing.append(member)
            opening += leases.plan(0.0)
        assert leases.leased == leases.waiting == leases.opening == 0
