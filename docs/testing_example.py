"""docs/testing.rst: two tests against a real broker."""

import gevent.event
import pytest

import gamqp


def test_a_job_is_done_and_acked(channel, queue):
    done = gevent.event.Event()
    consumer = channel.subscribe(queue, lambda message: done.set())
    channel.publish('a job', routing_key=queue).wait()
    assert done.wait(timeout=10)
    consumer.cancel()
    consumer.join()
    assert channel.basic_get(queue) is None
    assert consumer.acked == 1


def test_a_publish_to_nowhere_is_an_error(channel):
    receipt = channel.publish('lost', routing_key='no.such.queue', mandatory=True)
    with pytest.raises(gamqp.Returned):
        receipt.wait()
