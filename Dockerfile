# One image for all services of this project: set-up, provisioning, the stages, the local bucket,
# the command line.  Built by docker-compose.yml; it contains no secrets and no customer data.

# The operator's .env pins them by digest: deploy/compose/README.md.
ARG PYTHON_IMAGE=python:3.11-slim-trixie
ARG NODE_IMAGE=node:24-trixie-slim

FROM ${PYTHON_IMAGE} AS packages
COPY requirements/image.txt /requirements.txt
RUN python -m venv /opt/erasestream \
    && /opt/erasestream/bin/pip install --no-cache-dir --require-hashes --only-binary=:all: \
        -r /requirements.txt

FROM ${PYTHON_IMAGE} AS erasestream
# A new volume gets the owner of its mount point in the image.
RUN groupadd --gid 1000 erasestream \
    && useradd --uid 1000 --gid 1000 --home-dir /tmp --shell /usr/sbin/nologin erasestream \
    && for folder in \
        /stack /authority \
        /hand-out/kafka /hand-out/bucket /hand-out/provision \
        /hand-out/infer /hand-out/route /hand-out/sink /hand-out/purge /hand-out/erase \
        /hand-out/consent /hand-out/retained \
        /hand-out/shop-upload /hand-out/shop-results \
        /hand-out/bulk-upload /hand-out/bulk-results \
        /var/lib/erasestream/models /var/lib/erasestream/objects \
    ; do mkdir -p "$folder" && chown 1000:1000 "$folder" && chmod 0700 "$folder"; done
COPY --from=packages /opt/erasestream /opt/erasestream
COPY erasestream /app/erasestream
COPY schemas /app/schemas
COPY topics /app/topics
COPY sinks /app/sinks
COPY pipeline /app/pipeline
COPY deploy/compose/setup.py /app/setup.py
# PYTHONSAFEPATH: files in the working directory are never imported by accident.
ENV PATH=/opt/erasestream/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
RUN python -m compileall -q /app
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["python", "-m", "erasestream.pipeline.cli.main"]

FROM ${NODE_IMAGE} AS node

# Only the installation of the model needs npm: no service that processes images has it.
FROM erasestream AS model
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
USER root
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
USER 1000:1000
