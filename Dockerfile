# The server with torch for CPUs. docs/operations.md says how to build and run it.

FROM node:22-bookworm-slim AS graphiql
WORKDIR /src/graphiql
COPY graphiql/package.json graphiql/package-lock.json graphiql/.npmrc ./
RUN npm ci
COPY graphiql/ ./
# Writes into /src/gql_server/api/static/graphiql.
RUN npm run build

FROM node:22-bookworm-slim AS explorer
WORKDIR /src/explorer
COPY explorer/package.json explorer/package-lock.json explorer/.npmrc ./
RUN npm ci
COPY schema.graphql ../
COPY explorer/ ./
# Writes into /src/gql_server/api/static/explorer.
RUN npm run build

FROM python:3.12-slim-bookworm AS build
# uv knows where the builds of torch for CPUs are; pip would take those for CUDA, several gigabytes.
RUN pip install --no-cache-dir uv==0.13.9 && python -m venv --without-pip /opt/venv
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON=/opt/venv/bin/python UV_TORCH_BACKEND=cpu
WORKDIR /src
COPY requirements/runtime.txt requirements/
# As the Makefile does: torch with what it depends on, then the tried set without resolving.
RUN uv pip install --constraint requirements/runtime.txt torch \
    && uv pip install --no-deps --requirement requirements/runtime.txt
COPY pyproject.toml README.md ./
COPY gql_server/ gql_server/
COPY migrations/ migrations/
COPY models/ models/
# The pages, each by a stage of its own.
COPY --from=graphiql /src/gql_server/api/static/ gql_server/api/static/
COPY --from=explorer /src/gql_server/api/static/ gql_server/api/static/
RUN uv pip install --no-deps --no-build-isolation .

FROM python:3.12-slim-bookworm
# OpenCV, which overcomplete imports, needs the two libraries.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home gql \
    && install --directory --owner=gql --group=gql /artifacts /cache
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    HF_HOME=/cache/huggingface \
    GQL_SERVER_ARTIFACT_DIR=/artifacts \
    GQL_SERVER_HOST=0.0.0.0 \
    GQL_SERVER_LOG_FORMAT=json
USER gql
WORKDIR /home/gql
VOLUME ["/artifacts", "/cache"]
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('GQL_SERVER_PORT', 8000)}/healthz\", timeout=5)"]
# It starts with GQL_SERVER_TOKEN only, since it listens beyond loopback.
CMD ["gql-server", "serve"]
