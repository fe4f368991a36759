# syntax=docker/dockerfile:1
# Whimbrel's command line, and nothing to build or test it with. MongoDB and RabbitMQ run elsewhere.
# Migrations are mounted at /migrations, or added by an image that begins with this one:
#   FROM whimbrel:0.1.0
#   COPY migrations.py /migrations/
#   ENV WHIMBREL_MIGRATIONS=/migrations/migrations.py

# By its digest where a build shall be the same tomorrow: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements-build.lock requirements-runtime.lock ./
# Wheels only: a package that would have to be compiled ends the build here.
RUN python -m pip install --require-hashes --only-binary :all: -r requirements-build.lock \
 && python -m venv --without-pip /opt/whimbrel \
 && python -m pip --python /opt/whimbrel/bin/python install --require-hashes --only-binary :all: -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
 && python -m pip --python /opt/whimbrel/bin/python install --no-deps --no-index wheels/*.whl

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 whimbrel \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /migrations --shell /usr/sbin/nologin whimbrel \
 && mkdir /migrations
COPY --from=build /opt/whimbrel /opt/whimbrel
ENV PATH=/opt/whimbrel/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /migrations
# The number, not the name: Kubernetes must see that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 CMD ["whimbrel", "workers", "--here"]
ENTRYPOINT ["whimbrel"]
CMD ["worker"]
