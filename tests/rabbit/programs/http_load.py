"""Clients of a web server: each sends one request after another, with another number each, until stdin ends.

    python http_load.py PORT CLIENTS METHOD PATH

{number} in PATH is the number, which is the body, too. Prints how many have been answered, a line for each 25, and at
last a JSON object: number -> status, or the name of the error where there was no answer.
"""

from gevent import monkey

monkey.patch_all()

import http.client  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
from gevent.fileobject import FileObject  # noqa: E402

PORT, CLIENTS, METHOD, PATH = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]

numbers = itertools.count(1)
outcomes: dict = {}
state = {'stopping': False, 'answered': 0}


def client() -> None:
    while not state['stopping']:
        number = next(numbers)
        outcomes[number] = outcome = request(number)
        if isinstance(outcome, int):
            state['answered'] += 1
            if state['answered'] % 25 == 0:
                print(state['answered'], flush=True)
        else:
            gevent.sleep(0.02)  # the server is ending, or its worker was killed


def request(number: int) -> 'int | str':
    connection = http.client.HTTPConnection('127.0.0.1', PORT, timeout=60)
    try:
        connection.request(METHOD, PATH.format(number=number), str(number), {'Connection': 'close'})
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


clients = [gevent.spawn(client) for _ in range(CLIENTS)]
FileObject(sys.stdin.buffer, 'rb').read()
state['stopping'] = True
gevent.joinall(clients, raise_error=True)
print(json.dumps(outcomes), flush=True)
