"""A Django application, in one file, that stores orders and publishes each after its transaction has been committed.

    ./examples/run django_app                   # serves on 127.0.0.1:8000; Ctrl-C stops it

    curl -i -X PUT -d 'any body' http://127.0.0.1:8000/orders/1
    curl -i http://127.0.0.1:8000/readyz

What to copy: the pool, the function publish and the class BrokerErrors, which go into a module of your project;
transaction.on_commit, so that nobody gets a message about an order that was rolled back. The sender chooses the
order's number (PUT): after a 503 it sends the same again, and nothing is stored twice.
"""

import atexit
import functools
import os
import sys
import tempfile
import time

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET, require_http_methods

import gamqp

URL = os.environ.get('AMQP_URL', 'amqp://guest:guest@localhost:5672')
QUEUE = os.environ.get('ORDERS_QUEUE', 'gamqp.orders')
DEADLINE = float(os.environ.get('ORDERS_DEADLINE', '5'))  # seconds for a request and all that it does

# -- settings.py, as short as it can be ------------------------------------------------------------------------

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=['*'],
        DATABASES={
            'default': {
                'ENGINE': 'django.db.backends.sqlite3',
                'NAME': os.environ.get('ORDERS_DATABASE', os.path.join(tempfile.gettempdir(), 'gamqp-orders.sqlite3')),
                'OPTIONS': {'transaction_mode': 'IMMEDIATE'},
            }
        },
        DEFAULT_AUTO_FIELD='django.db.models.BigAutoField',
        MIDDLEWARE=[f'{__name__}.BrokerErrors'],
        ROOT_URLCONF=__name__,
        SECRET_KEY=os.environ.get('SECRET_KEY', 'for trying it out'),
    )
    django.setup()

# -- messages.py: what a project needs of gamqp ----------------------------------------------------------------

# Errors after which the same request may succeed later. A TimeoutError is an OSError.
NOT_TAKEN = gamqp.ConnectionError, gamqp.MessageNacked, gamqp.Returned, OSError

# Opens nothing yet. Each process opens connections of its own when it needs them, also if it was forked after this.
pool = gamqp.Pool(URL, connections=2, channels_per_connection=50, rpc_timeout=DEADLINE, name='django_app')
atexit.register(pool.close)


class NotPublished(Exception):
    """The broker has not confirmed a message. It may have it all the same."""


def publish(request, body, **properties):
    """Returns when the broker has the message on disk; raises NotPublished at the request's deadline."""
    left = max(request.deadline - time.monotonic(), 0)
    try:
        pool.publish(body, '', QUEUE, mandatory=True, timeout=left, delivery_mode=2, **properties)
    except gamqp.EncodeError:
        raise  # a property that cannot be sent: no matter of the broker, it would fail again
    except NOT_TAKEN as error:
        raise NotPublished(str(error)) from error


class BrokerErrors:
    """Middleware: gives each request its deadline, and answers 503 where a message was not published."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        request.deadline = time.monotonic() + DEADLINE
        return self.get_response(request)

    def process_exception(self, request, error):
        if isinstance(error, NotPublished):
            return JsonResponse({'error': str(error)}, status=503, headers={'Retry-After': '5'})
        return None


# -- models.py, views.py, urls.py ------------------------------------------------------------------------------


class Order(models.Model):
    number = models.IntegerField(primary_key=True)
    body = models.BinaryField()

    class Meta:
        app_label = 'django_app'


@require_http_methods(['PUT'])
def put_order(request, number):
    body = request.body  # waits for the client, so it is read before the transaction begins
    with transaction.atomic():
        Order.objects.update_or_create(number=number, defaults={'body': body})
        # Called when the transaction has been committed, and never if it is rolled back.
        transaction.on_commit(functools.partial(publish, request, body, message_id=f'order {number}'))
    return JsonResponse({'order': number}, status=202)


@require_GET
def healthy(request):
    """The process works. Says nothing of the broker: a new process would not help when that is away."""
    return HttpResponse('ok\n')


@require_GET
def ready(request):
    """Requests can be taken now: the broker answers, and the queue is there."""
    try:
        with pool.channel(timeout=DEADLINE) as channel:
            channel.queue_declare(QUEUE, durable=True, auto_delete=False)
    except NOT_TAKEN as error:
        raise NotPublished(str(error)) from error
    return HttpResponse('ready\n')


urlpatterns = [path('orders/<int:number>', put_order), path('healthz', healthy), path('readyz', ready)]

app = get_wsgi_application()


if __name__ == '__main__':
    # In place of migrations.
    if Order._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Order)
    connection.close()
    os.chdir(os.path.dirname(os.path.abspath(__file__)))  # where gunicorn.conf.py is
    os.execv(sys.executable, [sys.executable, '-m', 'gunicorn', *sys.argv[1:], 'django_app:app'])
