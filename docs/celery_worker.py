"""docs/celery.rst: the celery command on gamqp."""

from gevent import monkey

monkey.patch_all()

import gamqp  # noqa: E402

gamqp.install_as_amqp()

import celery.__main__  # noqa: E402

celery.__main__.main()
