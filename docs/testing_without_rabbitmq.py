"""docs/testing.rst: five tests that need no RabbitMQ; ``amqp_broker`` is a fixture of gamqp."""

import celery
import pytest
from celery.contrib.testing.worker import start_worker

import gamqp

PERSISTENT = {'durable': True, 'auto_delete': False}


def handle_order(message):
    """The handler under test: refuses what it does not understand, else answers with an invoice."""
    if not message.body.startswith(b'order'):
        message.reject(requeue=False)
        return
    message.channel.publish(b'invoice for ' + message.body, exchange='amq.topic', routing_key='invoice.new')
    message.ack()


@pytest.fixture
def channel(amqp_broker):
    with gamqp.connect(amqp_broker.url) as connection:
        channel = connection.channel()
        channel.queue_declare('orders', **PERSISTENT)
        channel.confirm_select()
        yield channel


def test_a_handler(amqp_broker, channel):
    consumer = channel.subscribe('orders', handle_order)
    amqp_broker.publish('', 'orders', 'order 1')
    amqp_broker.wait_until(lambda: amqp_broker.published('amq.topic'))
    amqp_broker.assert_published('amq.topic', 'invoice.new', body='invoice for order 1', count=1)
    consumer.cancel()
    consumer.join()
    amqp_broker.assert_drained('orders')


def test_a_message_comes_again(amqp_broker, channel):
    amqp_broker.publish('', 'orders', 'order 1')
    channel.basic_get('orders')
    channel.close()  # without an ack
    (message,) = amqp_broker.queue('orders').messages
    assert message.body == b'order 1' and message.redelivered


def test_a_publish_is_refused(amqp_broker, channel):
    amqp_broker.nack_next()
    with pytest.raises(gamqp.MessageNacked):
        channel.publish('order 1', routing_key='orders').wait()
    channel.publish('order 1', routing_key='orders').wait()
    amqp_broker.assert_messages('orders', 'order 1')


def test_the_connection_is_lost(amqp_broker, channel):
    amqp_broker.publish('', 'orders', 'order 1')
    message = channel.basic_get('orders')
    amqp_broker.cut()
    amqp_broker.wait_until(lambda: not amqp_broker.connections)
    with pytest.raises(gamqp.RecoverableConnectionError):
        channel.queue_declare('orders', **PERSISTENT)
    with gamqp.connect(amqp_broker.url) as connection:
        again = connection.channel().basic_get('orders', no_ack=True)
    assert again.body == message.body and again.redelivered


def test_a_celery_task(amqp_broker):
    app = celery.Celery(broker=amqp_broker.url, backend='cache+memory://')
    done = []

    @app.task
    def add(x, y):
        done.append(x + y)

    with start_worker(app, perform_ping_check=False, shutdown_timeout=10):
        add.delay(2, 3)
        amqp_broker.wait_until(lambda: done == [5])
        app.control.shutdown()  # without this Celery waits for its next event
    amqp_broker.assert_published('', 'celery', count=1, content_type='application/json')
    app.close()
