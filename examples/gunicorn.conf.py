"""gunicorn's settings for the web applications of this folder. gunicorn reads this file when it is started here:

gunicorn flask_app:app
"""

bind = '127.0.0.1:8000'
worker_class = 'gevent'
workers = 2  # processes: about one for each processor
worker_connections = 1000  # requests that one process handles at the same time

# True is fine too: a gamqp.Pool that was made before the fork gives each process connections of its own.
preload_app = False

# Seconds that a worker has to finish its requests when it is to end. Longer than the deadline of a request.
graceful_timeout = 20

# A process is replaced after so many requests, each after another number. No request is lost by that.
max_requests = 100_000
max_requests_jitter = 10_000
