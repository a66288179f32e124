# syntax=docker/dockerfile:1
# The service in an image. It binds loopback addresses only until it has TLS and authentication, so for now it is
# reached from inside its network namespace: docs/stores.md says how it is run.
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /source
# The locks first: the packages stay cached while the code changes.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /opt/coherence \
 && /opt/coherence/bin/python -m pip install --require-hashes --only-binary :all: -r requirements/runtime.txt \
 && python -m pip install --require-hashes --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY gen gen
COPY coherence_grpc coherence_grpc
COPY subgraph subgraph
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/coherence/bin/python -m pip install --no-deps /wheels/*.whl \
 && /opt/coherence/bin/python -m compileall -q /opt/coherence/lib

FROM python:3.11-slim-bookworm
ARG COMMIT=""
ENV PATH=/opt/coherence/bin:$PATH PYTHONUNBUFFERED=1 COHERENCE_DATA=/data COHERENCE_COMMIT=$COMMIT
COPY --from=build /opt/coherence /opt/coherence
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
USER 10001:10001
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["coherence"]
CMD ["serve"]
